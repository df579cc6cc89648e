# `make demo` and `make test` work in a fresh clone; everything they need goes into .venv.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCK := requirements.lock
NEWEST := .venv-newest
LOWEST := .venv-lowest
CLEAN := .venv-package
TOOLS := .venv-tools
# Wheels only: nothing is compiled on this machine.
INSTALL := -m pip --disable-pip-version-check install --only-binary :all:
PIP := $(BIN)/python $(INSTALL)
# By its version and without a hash: which build there is (CPU, CUDA) differs from machine to machine.
TORCH := torch==2.13.0
# Without its dependencies: `jericho` would be compiled, and generated games do not need it.
TEXTWORLD := textworld==1.7.0
# One test process more than there are cores: some wait for servers, Java and processes that they killed. Threads inside
# each would only fight over the cores.
WORKERS ?= $(shell echo $$(($$($(PYTHON) -c 'import os; print(os.cpu_count() or 1)') + 1)))
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false
# Java's optimising compiler pays after a minute or so; by then the tests' games are over.
export JDK_JAVA_OPTIONS ?= -XX:TieredStopAtLevel=1
# The many processes that tests start would each compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup setup-browser docs demo gpu-check test pytest test-browser coverage test-newest test-lowest package sbom lock lint types clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(STAMP) ## create .venv and install everything into it, at the tested versions

$(STAMP): pyproject.toml Makefile $(LOCK)
	@version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2], sys.version_info >= (3, 11))' 2>/dev/null) \
	  || { echo "error: $(PYTHON) does not run; install Python 3.11 or newer, or name it: make PYTHON=/path/to/python" >&2; exit 1; }; \
	[[ $$version == *True ]] \
	  || { echo "error: Python $${version% *} is too old; install Python 3.11 or newer, or name it: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
	  || { echo "error: this Python has no venv module; install it (Debian, Ubuntu: apt install python3-venv) and repeat" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing into $(VENV) (the first time this downloads about 1 GB, more where PyTorch comes with CUDA)"
	$(PIP) --no-deps --require-hashes -r $(LOCK)
	$(PIP) $(TORCH)
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $(STAMP)

lock: $(TOOLS)/.installed ## write requirements.lock anew: the newest versions that pyproject.toml allows, with their hashes
	@# What PyTorch needs of CUDA comes with it, in the versions that it names itself.
	printf '%s\n' $(TORCH) $(TEXTWORLD) | $(TOOLS)/bin/uv pip compile pyproject.toml - --extra games --extra ui --extra dev \
	  --universal --python-version 3.11 --only-binary :all: --generate-hashes --no-annotate --no-header --upgrade --quiet \
	  --excludes .ci/not-locked.txt --no-emit-package torch --output-file $(LOCK)

docs: $(STAMP) ## build the documents into site/, without network
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Open site/index.html; for its search serve it: $(BIN)/python -m http.server -d site"

demo: $(STAMP) ## play, remember, distil and compare, on real games (14 minutes on two slow cores)
	$(BIN)/agentlab demo

gpu-check: $(STAMP) ## what this machine's card does in training and in play (8 minutes); writes benchmarks/results/
	$(BIN)/python benchmarks/gpu.py

lint: $(STAMP) ## style, format, and which package imports which
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

# Two benchmarks are called like packages, and what reaches into an engine is no question of types: of the others it is
# asked whether all that they name is there.
types: $(STAMP) ## static types
	$(BIN)/mypy
	MYPYPATH=.:benchmarks $(BIN)/mypy --cache-dir .mypy_cache/benchmarks --explicit-package-bases \
	  --disable-error-code arg-type --disable-error-code assignment \
	  --disable-error-code union-attr --disable-error-code misc --disable-error-code unused-ignore \
	  --disable-error-code import-not-found --disable-error-code return-value --disable-error-code list-item \
	  --disable-error-code operator --disable-error-code var-annotated --disable-error-code func-returns-value \
	  $(filter-out %/__init__.py %/memory.py %/environments.py,$(wildcard benchmarks/*.py))

test: lint ## lint, then types and all tests beside each other
	@$(MAKE) --no-print-directory --jobs 2 types pytest

pytest: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not browser"

setup-browser: $(STAMP) ## what `make test-browser` needs beside Chromium itself (Debian, Ubuntu: apt install chromium)
	$(PIP) --no-build-isolation -e ".[browser]"

test-browser: $(STAMP) ## the screens in a real Chromium, by keyboard alone (after `make setup-browser`)
	$(BIN)/python -m pytest -m browser tests/e2e/test_browser.py

coverage: $(STAMP) ## all tests, and which lines they reach; less than 95 % is an error (takes half as long again)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not browser" \
	  --cov=agentlab --cov=memory --cov=environments --cov=trainers --cov-report=term --cov-fail-under=95

test-newest: ## the tests with the newest versions that pyproject.toml allows (PyTorch stays), and what they change
	$(PYTHON) -m venv --clear $(NEWEST)
	$(NEWEST)/bin/python $(INSTALL) --upgrade $(TORCH)
	$(NEWEST)/bin/python $(INSTALL) --upgrade --upgrade-strategy eager -e ".[games,ui,dev]" $(TORCH)
	$(NEWEST)/bin/python $(INSTALL) --no-deps $(TEXTWORLD)
	@touch $(NEWEST)/.installed
	@$(NEWEST)/bin/python .ci/versions.py $(LOCK)
	$(MAKE) test VENV=$(NEWEST) || { echo "These differ from the tested versions:" >&2; \
	  $(NEWEST)/bin/python .ci/versions.py $(LOCK) >&2; exit 1; }

test-lowest: $(TOOLS)/.installed ## the tests with the lowest versions that pyproject.toml allows
	$(PYTHON) -m venv --clear $(LOWEST)
	printf '%s\n' $(TORCH) $(TEXTWORLD) | $(TOOLS)/bin/uv pip compile pyproject.toml - --extra games --extra ui --extra dev --python $(LOWEST)/bin/python \
	  --resolution lowest-direct --only-binary :all: --no-annotate --no-header --quiet --excludes .ci/not-locked.txt --no-emit-package torch \
	  --output-file $(LOWEST)/requirements.txt
	$(TOOLS)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --only-binary :all: --no-deps -r $(LOWEST)/requirements.txt
	$(LOWEST)/bin/python $(INSTALL) $(TORCH) 'setuptools>=77'
	$(LOWEST)/bin/python $(INSTALL) --no-deps --no-build-isolation -e .
	@touch $(LOWEST)/.installed
	$(MAKE) pytest VENV=$(LOWEST) || { echo "These differ from the tested versions:" >&2; \
	  $(LOWEST)/bin/python .ci/versions.py $(LOCK) >&2; exit 1; }

$(TOOLS)/.installed: .ci/tools.txt
	$(PYTHON) -m venv --clear $(TOOLS)
	$(TOOLS)/bin/python $(INSTALL) --quiet -r .ci/tools.txt
	@touch $@

package: $(TOOLS)/.installed ## build sdist and wheel into dist/, and try the wheel in a clean environment (2 minutes)
	rm -rf dist build
	@# The wheel is built from the sdist, so that what one lacks the other lacks too.
	$(TOOLS)/bin/uv build --quiet --out-dir dist
	$(TOOLS)/bin/twine check --strict dist/*
	$(PYTHON) -m venv --clear $(CLEAN)
	$(CLEAN)/bin/python $(INSTALL) --quiet $(TORCH)
	@# Only what the wheel itself asks for is installed, in the tested versions.
	$(TOOLS)/bin/uv pip install --quiet --python $(CLEAN)/bin/python --only-binary :all: --constraints $(LOCK) \
	  "$$(echo dist/*.whl)[games,ui]"
	$(TOOLS)/bin/uv pip check --python $(CLEAN)/bin/python
	$(CLEAN)/bin/python -P .ci/smoke.py

sbom: $(STAMP) $(TOOLS)/.installed ## what is in .venv, as a bill of materials: dist/sbom.cdx.json (CycloneDX)
	@mkdir -p dist
	$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-format JSON --output-file dist/sbom.cdx.json \
	  $(BIN)/python

clean: ## remove .venv and every cache (labs stay)
	rm -rf $(VENV) $(NEWEST) $(LOWEST) $(CLEAN) $(TOOLS) site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
