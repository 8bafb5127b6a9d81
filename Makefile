# `make demo` and `make test` work from a bare Python 3.11 or later with pip: each makes the virtual environment if need be.
PYTHON ?= $(shell command -v python3.11 || command -v python3 || command -v python)
# Exact versions for Python 3.11; `make CONSTRAINTS= test` takes the newest that fit another one.
CONSTRAINTS ?= constraints.txt
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
CODE := jaxrecipe experiments tests docs
# DPN-26 itself is compared too with TORCH_TESTS="slow or not slow": minutes and 5 GB.
TORCH_TESTS ?= not slow
# A worker for each core: more threads inside each would only wait for one another.
PYTEST := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS)

.PHONY: help demo test test-quick test-torch lint docs types format digits import-cost constraints clean

help:
	@echo "make demo         the whole recipe on real handwritten digits, then training and exact test accuracy"
	@echo "make test         all tests"
	@echo "make test-quick   without the slow ones"
	@echo "make test-torch   the tests that compare with PyTorch (installs it)"
	@echo "make lint         ruff and pyright: mistakes, layout, types"
	@echo "make docs         the documentation as pages, in site/"
	@echo "make types        pyright"
	@echo "make format       let ruff rewrite what it can"
	@echo "make import-cost  what 'import jaxrecipe' costs over 'import jax, flax, optax'"
	@echo "make clean        remove the virtual environment and caches"
	@echo "PYTHON=python3.12 chooses the interpreter, VENV=dir the place, WORKERS=n the test processes"

demo: $(VENV)/.demo
	$(BIN)/jaxrecipe demo

test: $(VENV)/.test
	$(PYTEST)

test-quick: $(VENV)/.test
	$(PYTEST) -m "not slow"

test-torch: $(VENV)/.torch
	$(PYTEST) -m "$(TORCH_TESTS)" $$(grep -l 'importorskip("torch' -r tests --include=test_*.py)

lint: $(VENV)/.dev
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/.dev
	$(BIN)/mkdocs build --quiet --strict

types: $(VENV)/.dev
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.dev
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

digits: $(VENV)/.demo
	$(BIN)/python -m experiments.digits

import-cost: $(VENV)/.demo
	$(BIN)/python -m experiments.import_cost

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .pytest_compile_cache build dist site *.egg-info

# Afterwards constraints.txt holds what the environment has, without PyTorch, which only comparisons in experiments/ need.
constraints: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet -e ".[dev,labels]"
	$(BIN)/python -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9._-]+==[0-9][^ +]*$$' | grep -v '^torch==' > constraints.txt

# A stamp for each set of packages: nothing is installed again until what is asked for changes.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS))

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e ".[test]"
	@touch $@ $(VENV)/.demo

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e ".[dev]"
	@touch $@ $(VENV)/.test $(VENV)/.demo

$(VENV)/.torch: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e ".[test,torch]"
	@touch $@ $(VENV)/.test $(VENV)/.demo
