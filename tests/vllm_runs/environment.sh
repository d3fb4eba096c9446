#!/bin/sh
# Makes .venv-vllm: vLLM for the CPU and what it was tested with, by pip alone. First argument: a Python.
set -eu
bin=.venv-vllm/bin
"$1" -m venv .venv-vllm
# Torch first and by itself, so that its build for the CPU is taken where one is offered. No package brings others:
# those of vLLM want its builds for GPUs.
$bin/pip install --quiet --no-deps "$(grep '^torch==' constraints-vllm.txt)"
$bin/pip install --quiet --no-deps --requirement constraints-vllm.txt
DS_BUILD_OPS=0 $bin/pip install --quiet --no-deps --requirement requirements-engine.txt
$bin/pip install --quiet --no-deps --editable .
cp tests/vllm_runs/torchvision_operators.py "$($bin/python -c 'import site; print(site.getsitepackages()[0])')/"
echo "import torchvision_operators" > "$($bin/python -c 'import site; print(site.getsitepackages()[0])')/torchvision_operators.pth"
