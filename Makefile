# Everything runs in .venv, made by `setup`; nothing but Python 3.11+, venv, pip and make is needed beforehand.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.set-up

.PHONY: help setup demo test lint

help:  ## Say what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: $(STAMP)  ## Create .venv with the tested versions

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

demo: setup  ## Train the tiny student with GRPO and with IAPO, and compare them (5 to 8 minutes on two cores)
	$(BIN)/iapo demo

test: setup  ## Run the tests
	$(BIN)/python -m pytest

lint: setup  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
