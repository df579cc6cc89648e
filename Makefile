# `make demo` and `make test` work in a fresh clone; everything they need goes into .venv.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Wheels only: nothing is compiled on this machine.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --only-binary :all:
# Two cores hold two test processes; threads inside each would only fight over them.
WORKERS ?= auto
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help setup demo test lint types clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

setup: $(STAMP) ## create .venv and install everything into it

$(STAMP): pyproject.toml Makefile
	@version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2], sys.version_info >= (3, 11))' 2>/dev/null) \
	  || { echo "error: $(PYTHON) does not run; install Python 3.11 or newer, or name it: make PYTHON=/path/to/python" >&2; exit 1; }; \
	[[ $$version == *True ]] \
	  || { echo "error: Python $${version% *} is too old; install Python 3.11 or newer, or name it: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
	  || { echo "error: this Python has no venv module; install it (Debian, Ubuntu: apt install python3-venv) and repeat" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing into $(VENV) (the first time this downloads about 1 GB, more where PyTorch comes with CUDA)"
	@# PyTorch first and at this version, so that a CPU build is taken where one is at hand.
	$(PIP) torch==2.13.0
	$(PIP) -e ".[games,dev]"
	@# Without its dependencies: `jericho` would be compiled, and generated games do not need it.
	$(PIP) --no-deps textworld==1.7.0
	@touch $(STAMP)

demo: $(STAMP) ## play, remember, distil and compare, on real games (about 15 minutes)
	$(BIN)/agentlab demo

lint: $(STAMP) ## style, format, and which package imports which
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(STAMP) ## static types
	$(BIN)/mypy

test: $(STAMP) lint types ## lint, types, then all tests with their coverage
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal \
	  --cov=agentlab --cov=memory --cov=environments --cov=trainers --cov-report=term --cov-fail-under=90

clean: ## remove .venv and every cache (labs stay)
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
