# Targets that need the virtual environment create it automatically. To use the CPU build of torch,
# create .venv and install torch in it first.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
N ?= 1
# Kilobytes that an installation needs.
MIN_FREE := 2000000
BENCH_ARGS ?= all

.PHONY: help setup demo test test-slow test-gpu test-export test-oldest gpu-check fault-injection bench check \
	format wheel clean

# Stops before anything is created or downloaded if PYTHON is too old or the disk is too full.
define check_python
@found=$$(command -v $(PYTHON) > /dev/null && $(PYTHON) --version 2>&1 | head -n 1 || true); \
case "$$found" in \
	"Python 3.1"[1-9]* | "Python 3."[2-9][0-9]* | "Python "[4-9]*) ;; \
	*) echo "error: ptblm needs Python 3.11 or later, and $(PYTHON) is $${found:-not installed};" \
		"pass another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1 ;; \
esac; \
free=$$(df -Pk . | awk 'NR == 2 { print $$4 }'); \
if [ "$${free:-$(MIN_FREE)}" -lt $(MIN_FREE) ]; then \
	echo "error: the installation needs at least 2 GB, and $$((free / 1000)) MB are free" >&2; exit 1; \
fi
endef

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 17

setup: $(VENV)/.installed  ## create the virtual environment

$(VENV)/.installed: pyproject.toml constraints.txt
	$(check_python)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup  ## train and evaluate on the sample corpus (about one minute)
	$(BIN)/ptblm train --config small --data sample --run-dir runs/demo --overwrite
	$(BIN)/ptblm eval runs/demo

test: setup  ## run the tests, one process per core
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal $(PYTEST_ARGS)

test-slow: setup  ## run the slow tests, such as the wheel and large models
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

test-gpu: setup  ## run the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu $(PYTEST_ARGS)

test-export:  ## run the tests of exports with Transformers and minicons, in .venv-export
	$(check_python)
	$(PYTHON) -m venv .venv-export
	.venv-export/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]' \
		transformers minicons
	.venv-export/bin/python -m pytest tests/run/test_export.py $(PYTEST_ARGS)

test-oldest:  ## run the tests with the oldest supported dependencies, in .venv-oldest
	$(check_python)
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --constraint constraints-oldest.txt --editable '.[dev]'
	.venv-oldest/bin/python -m pytest $(PYTEST_ARGS)

gpu-check: setup  ## run GPU tests, benchmark and full training runs on a CUDA device
	$(BIN)/python scripts/gpu_check.py

fault-injection: setup  ## run fault injection tests; N=8 runs eight times as many cases
	$(BIN)/python scripts/fault_injection.py -n $(N)
	N=$(N) $(BIN)/python -m pytest tests/test_bad_input.py tests/test_untrusted_files.py \
		--hypothesis-profile=thorough

bench: setup  ## benchmark against PyTorch; BENCH_ARGS='train --config small' selects one section
	$(BIN)/python scripts/bench.py $(BENCH_ARGS)

check: setup  ## check lint, formatting, spelling and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

format: setup  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: setup  ## build the wheel in dist/
	$(BIN)/python -m build --wheel

clean:  ## remove generated files, except runs and data
	rm -rf $(VENV) .venv-oldest dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
