# Everything runs in .venv, made by `setup`; nothing but Python 3.11+, venv, pip and make is needed beforehand.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.set-up

ENGINE := .venv-engine/.set-up
TOOLS := .venv-tools/.set-up
VERL := .venv-verl/.set-up

.PHONY: help setup demo test check lint browser ranks real fuzz guided audit coverage mutants engine vllm verl versions

help:  ## Say what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: $(STAMP)  ## Create .venv with the tested versions

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

demo: setup  ## Train the tiny student with GRPO and with IAPO, and compare them (5 to 8 minutes on two cores)
	$(BIN)/iapo demo

# Chromium is no Python package. Where it is missing and cannot be had, the report's browser tests are skipped, and say so.
browser:  ## See to a Chromium for the report's browser tests (Debian's, as root)
	@if [ -n "$$IAPO_BROWSER" ]; then :; \
	elif (command -v chromium || command -v chromium-browser || command -v google-chrome) >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		echo "Installing Chromium for the browser tests ..."; \
		{ timeout 120 apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 480 \
			apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } >/dev/null 2>&1 \
		|| echo "Chromium could not be installed; the browser tests will be skipped."; \
	else echo "No Chromium; the browser tests will be skipped. Install chromium, or name one with IAPO_BROWSER=PATH."; fi

# Qwen's tokenizer is made of ranks that a package brings along; nothing of the package is imported. Where it cannot be
# had, the tests with the true tokenizer are skipped, and say so.
ranks: setup  ## See to the ranks of Qwen's tokenizer
	@test -d .venv/lib/python3*/site-packages/dashscope || $(BIN)/pip install --quiet --no-deps dashscope==2.0.2 \
	|| echo "Qwen's ranks could not be had; the tests with its tokenizer will be skipped."

# Where the environment forbids bytecode files, each of the tests' many processes would compile everything anew.
TESTING := env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1

test: setup browser ranks  ## Run all tests, on all cores
	$(TESTING) $(BIN)/python -m pytest

check: setup lint  ## Run the fast tests, and check style and types
	$(TESTING) $(BIN)/python -m pytest -m "not slow"

real: setup ranks  ## Run the whole path on stand-ins of Qwen2.5-VL and charts of real size (four minutes on two cores)
	rm -rf runs/real
	OMP_NUM_THREADS=2 $(BIN)/python examples/real.py --out runs/real

# Every fuzzer has the same share of the time; what fails is kept in .hypothesis and tried first the next time.
FUZZ_MINUTES ?= 10

fuzz: setup  ## Try foreign input by chance for FUZZ_MINUTES=10, and count what was tried (docs/security.md)
	FUZZ_MINUTES=$(FUZZ_MINUTES) $(TESTING) $(BIN)/python -m pytest -n0 -o timeout=0 -o faulthandler_timeout=0 tests/fuzz

# An environment of its own, which sees .venv: what these targets need is no part of the tested versions.
$(TOOLS): $(STAMP) requirements-tools.txt
	$(BIN)/python -m venv .venv-tools
	$(BIN)/python -c "import site; print(f'import site; site.addsitedir({site.getsitepackages()[0]!r})')" \
		> "$$(.venv-tools/bin/python -c 'import site; print(site.getsitepackages()[0])')/iapo-base.pth"
	.venv-tools/bin/pip install --quiet --constraint constraints.txt -r requirements-tools.txt
	@touch $(TOOLS)

guided: $(TOOLS)  ## Let coverage guide the fuzzers for FUZZ_MINUTES=10 (Linux; docs/security.md)
	$(TESTING) PYTHONPATH=tests:tests/data .venv-tools/bin/python tests/fuzz/guided.py $(FUZZ_MINUTES)

audit: $(TOOLS)  ## List the licences of the tested versions, and their known vulnerabilities if osv.dev answers
	.venv-tools/bin/python benchmarks/audit.py

coverage: $(TOOLS)  ## Run the fast tests, and say which lines they reach (COVERAGE=tests/grading: those alone)
	.venv-tools/bin/python -m coverage erase
	$(TESTING) .venv-tools/bin/python -m coverage run -m pytest -m "not slow" $(COVERAGE)
	.venv-tools/bin/python -m coverage combine --quiet
	.venv-tools/bin/python -m coverage report --skip-covered --sort=miss

mutants: setup  ## Change 60 places of grading, divergence and storage, and say which changes their tests notice
	$(TESTING) $(BIN)/python benchmarks/mutants.py

# DeepSpeed is no part of the tested versions. Its environment adds it to what .venv holds; on CPUs nothing is compiled
# beforehand, and its own requirements that .venv lacks are named.
$(ENGINE): $(STAMP) requirements-engine.txt
	$(BIN)/python -m venv .venv-engine
	$(BIN)/python -c "import site; print(f'import site; site.addsitedir({site.getsitepackages()[0]!r})')" \
		> "$$(.venv-engine/bin/python -c 'import site; print(site.getsitepackages()[0])')/iapo-base.pth"
	DS_BUILD_OPS=0 .venv-engine/bin/pip install --quiet --no-deps -r requirements-engine.txt
	@touch $(ENGINE)

engine: $(ENGINE)  ## Train in two processes under DDP, FSDP2 and ZeRO, kill them and go on, and compare with one
	IAPO_ENGINES=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n0 tests/training/test_engines.py

# VeRL is no part of the tested versions either; nothing in iapo/ imports it.
$(VERL): $(STAMP) requirements-verl.txt
	$(BIN)/python -m venv .venv-verl
	$(BIN)/python -c "import site; print(f'import site; site.addsitedir({site.getsitepackages()[0]!r})')" \
		> "$$(.venv-verl/bin/python -c 'import site; print(site.getsitepackages()[0])')/iapo-base.pth"
	.venv-verl/bin/pip install --quiet --no-deps -r requirements-verl.txt
	@touch $(VERL)

verl: $(VERL)  ## Run the integration with VeRL as far as it runs on a CPU, in an environment of its own (docs/verl.md)
	$(TESTING) .venv-verl/bin/python -m pytest -n0 tests/integrations

lint: setup  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Environments of their own: vLLM wants another release of Transformers. `make test` needs neither of them.
vllm: .venv-vllm/.set-up  ## Make .venv-vllm (vLLM for the CPU), and run the tests that need it (a quarter of an hour on two cores)
	OMP_NUM_THREADS=1 .venv-vllm/bin/python -m pytest -n0 -o faulthandler_timeout=1500 tests/vllm_runs

.venv-vllm/.set-up: pyproject.toml constraints-vllm.txt requirements-engine.txt tests/vllm_runs/environment.sh
	sh tests/vllm_runs/environment.sh $(PYTHON)
	@touch $@

versions: .venv-low/.set-up .venv-high/.set-up  ## Run some tests with the oldest and the newest releases that are allowed
	for end in low high; do OMP_NUM_THREADS=1 .venv-$$end/bin/python -m pytest $(VERSIONS) || exit 1; done

VERSIONS := -m "not slow" tests/test_versions.py tests/training/test_shared_prefix.py tests/training/test_packing.py \
	tests/training/test_trainer.py tests/training/test_rehearsal.py tests/training/test_lora.py tests/training/test_vllm_rollouts.py tests/training/test_vllm_turns.py tests/attribution \
	tests/rollout tests/evaluation
VERSION_TESTS := pytest pytest-timeout pytest-xdist hypothesis captum openai

.venv-low/.set-up: pyproject.toml constraints-low.txt
	$(PYTHON) -m venv .venv-low
	.venv-low/bin/pip install --quiet --constraint constraints-low.txt --editable '.[peft]' $(VERSION_TESTS)
	@touch $@

.venv-high/.set-up: pyproject.toml
	$(PYTHON) -m venv .venv-high
	.venv-high/bin/pip install --quiet --upgrade --editable '.[peft]' torch==2.13.0 $(VERSION_TESTS)
	@touch $@
