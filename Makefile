# One word per job. `make demo` and `make test` set everything up by themselves.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
N ?= 1
MINUTES ?= 10
BENCH_ARGS ?= all

.PHONY: help setup demo test test-slow test-gpu gpu-check torture bench check format wheel clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.installed  ## make the virtual environment

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup  ## train and evaluate on the embedded corpus, about a minute
	$(BIN)/ptblm train --config small --data sample --run-dir runs/demo --overwrite
	$(BIN)/ptblm eval runs/demo

test: setup  ## run the tests, about eight minutes
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-slow: setup  ## run the long tests: the wheel, the large models
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

test-gpu: setup  ## run the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu $(PYTEST_ARGS)

gpu-check: setup  ## do all that wants a GPU, ten minutes at a time; MINUTES=30 for longer
	$(BIN)/python scripts/gpu_check.py --minutes $(MINUTES)

torture: setup  ## kill runs, flip bits, fill the disk; N=8 for eight times as much
	$(BIN)/python scripts/fault_injection.py -n $(N)
	N=$(N) $(BIN)/python -m pytest tests/test_bad_input.py --hypothesis-profile=thorough

bench: setup  ## measure it against a plain version and the floor; BENCH_ARGS='train --config small' for a part
	$(BIN)/python scripts/bench.py $(BENCH_ARGS)

check: setup  ## lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: setup  ## build the wheel into dist/
	$(BIN)/python -m build --wheel

clean:  ## remove what the jobs above made, runs and data excepted
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
