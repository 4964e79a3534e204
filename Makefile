# `make demo` shows the service at work, `make test` runs the tests; both use .venv, which is created on first use.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help

PIP_VERSION := 26.3
VENV := .venv
PY := $(VENV)/bin/python
RUNTIME := $(VENV)/.installed
DEV := $(VENV)/.installed-dev

# Libraries keep their caches in the clone, and none of them contacts a hub.
CACHE := $(CURDIR)/.cache
OFFLINE := HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1
CACHES := XDG_CACHE_HOME='$(CACHE)' HF_HOME='$(CACHE)/huggingface' MPLCONFIGDIR='$(CACHE)/matplotlib'
RUN := env $(OFFLINE) $(CACHES)

# Generators of API clients: with them, `make test` tests what they make of the API's description; and Label Studio's own library.
CLIENTS := .cache/clients
GENERATORS := $(CLIENTS)/.installed
CLIENT_TESTS = $(if $(wildcard $(GENERATORS)),CLIENT_GENERATORS='$(CURDIR)/$(CLIENTS)')

# Programs that read data sets: with them, `make test` tests that they read our exports.
READERS := .cache/readers
READ := $(READERS)/.installed
READER_TESTS = $(if $(wildcard $(READ)),DATASET_READERS='$(CURDIR)/$(READERS)')

# test processes, one thread each
WORKERS ?= 2
# of the data set, and trainings of each row of Table 3
IMAGES ?= 4000
SEEDS ?= 3
ARGS ?=

TEMPORARY := $(or $(TMPDIR),/tmp)
ifneq ($(shell test -w '$(TEMPORARY)' && echo yes),yes)
export TMPDIR := $(CACHE)/tmp
$(shell mkdir -p '$(CACHE)/tmp')
endif

.PHONY: help install dev clients readers ray demo test check lint types imports audit bench eval eval-quick data-set table3 chaos chaos-short datasets fuzz load restore clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' Makefile

install: $(RUNTIME) ## create .venv with everything the service runs on

dev: $(DEV) ## the same, plus what the checks need

clients: $(GENERATORS) ## install generators of API clients into .cache, so that `make test` runs their tests too

readers: $(READ) ## install Datumaro, supervision and labelme into .cache, so that `make test` has them read exports

ray: $(DEV) ## run the library in Ray Data (installs ray, 240 MB)
	@$(PY) -m pip install --quiet -r examples/requirements.txt
	$(RUN) OMP_NUM_THREADS=1 $(PY) -m pytest --timeout 600 tests/examples/test_ray_data.py

demo: $(RUNTIME) ## run the service on a worked example, write the pictures to demo/ (ARGS="...")
	@$(RUN) $(VENV)/bin/ovam demo $(ARGS)

test: $(DEV) ## unit, property, golden and end-to-end tests (WORKERS=2 ARGS="...")
	@$(RUN) $(CLIENT_TESTS) $(READER_TESTS) OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist worksteal --timeout 300 $(ARGS)

check: lint types imports audit test ## everything that a change must pass

lint: $(DEV) ## style (ruff)
	@$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(DEV) ## types (pyrefly)
	@$(VENV)/bin/pyrefly check

imports: $(DEV) ## which folder may import which (import-linter)
	@$(VENV)/bin/lint-imports

audit: $(DEV) ## known vulnerabilities of the pinned packages (pip-audit; skipped where pypi.org cannot be reached)
	@$(PY) -m tests.packaging.audit

bench: $(RUNTIME) ## measure speed and memory, write benchmarks/results/ (ARGS="...")
	@$(RUN) $(PY) -m benchmarks $(ARGS)

eval: $(DEV) ## run the whole evaluation, write experiments/results/ and docs/results.md (ARGS="...")
	@$(RUN) $(PY) -m experiments evaluate --processes $(WORKERS) $(ARGS)

eval-quick: $(RUNTIME) ## evaluate the published methods on a few images, print rows of JSON (ARGS="...")
	@$(RUN) $(PY) -m experiments quick --processes $(WORKERS) $(ARGS)

data-set: $(DEV) ## images with pseudo-masks and filters (section 4.3), write docs/results/data-set.md; resumes (IMAGES=20000)
	@$(RUN) $(PY) -m experiments dataset --images $(IMAGES) --processes $(WORKERS) $(ARGS)

table3: data-set ## train segmentation networks on that data set, write docs/results/segmentation.md; resumes (SEEDS=3)
	@$(RUN) $(PY) -m experiments table3 --seeds $(SEEDS) --processes $(WORKERS)

chaos: $(DEV) ## jobs of all kinds while processes, network, disk and S3 fail; write docs/reliability.md (FAULTS=110 ARGS="--seed 2")
	@$(RUN) $(PY) -m proofs chaos $(ARGS)

chaos-short: $(DEV) ## the same in two minutes; docs/reliability.md stays as it is
	@$(RUN) $(PY) -m proofs chaos --short $(ARGS)

fuzz: $(DEV) ## hostile requests of every kind; write docs/reliability.md (FUZZ=100000 for as many)
	@$(RUN) $(PY) -m proofs fuzz $(ARGS)

datasets: $(DEV) ## a data set while everything is killed, its cost and its memory; write docs/reliability.md (DATASET_IMAGES=20000)
	@$(RUN) $(PY) -m proofs datasets $(ARGS)

load: $(DEV) ## rates, latencies and memory under load; write docs/reliability.md
	@$(RUN) $(PY) -m proofs load $(ARGS)

restore: $(DEV) ## back up, restore and compare; write docs/reliability.md
	@$(RUN) $(PY) -m proofs restore $(ARGS)

clean: ## remove .venv, caches, demo/ and build leftovers; data/ stays
	@rm -rf $(VENV) .cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache demo build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUNTIME): requirements.txt pyproject.toml
	@fail() { printf 'make install: %s\n' "$$@" >&2; exit 1; }
	if ! $(PY) -m pip --version >/dev/null 2>&1; then
		for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 none; do
			if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi
		done
		test "$$python" != none || fail \
			"Python 3.11 or newer is needed; python3 is $$(python3 --version 2>/dev/null || echo 'not there')." \
			"Install one, or say where it is: make install PYTHON=/path/to/python3.11"
		"$$python" -c 'import ensurepip, venv' 2>/dev/null || fail \
			"$$python cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv"
		echo "Making $(VENV) with $$("$$python" --version) ..."
		"$$python" -m venv --clear $(VENV)
	fi
	if ! $(PY) -c 'import denseCRF' 2>/dev/null; then
		command -v "$${CXX:-g++}" >/dev/null || fail \
			"g++ is needed to build simplecrf; on Debian and Ubuntu: apt install g++"
		$(PY) -c 'import pathlib, sysconfig as s; (pathlib.Path(s.get_path("include")) / "Python.h").stat()' 2>/dev/null || fail \
			"Python.h is needed to build simplecrf; on Debian and Ubuntu: apt install python3-dev"
	fi
	echo "Installing the packages of requirements.txt; the first time this takes some minutes ..."
	$(PY) -m pip install --quiet --disable-pip-version-check pip==$(PIP_VERSION)
	# simplecrf alone and without pip's cache, which may hold a wheel built for another NumPy
	grep '^simplecrf==' requirements.txt >$(VENV)/simplecrf.txt
	$(PY) -m pip install --quiet --no-cache-dir --no-deps -r $(VENV)/simplecrf.txt
	$(PY) -m pip install --quiet -r requirements.txt
	PYTHONWARNINGS=ignore $(PY) -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(PY) -c 'import denseCRF, torch' || fail \
		"simplecrf or torch does not load (above). Remove $(VENV) and try again."
	touch $@

$(DEV): requirements-dev.txt $(RUNTIME)
	@echo "Installing what the checks need ..."
	$(PY) -m pip install --quiet -r requirements-dev.txt
	touch $@

$(GENERATORS): tests/service/clients/requirements.txt tests/service/clients/package.json $(RUNTIME)
	@command -v npm >/dev/null || { echo "make clients: npm is needed; on Debian and Ubuntu: apt install npm" >&2; exit 1; }
	echo "Installing generators of API clients ..."
	$(PY) -m venv --clear --without-pip $(CLIENTS)
	cp tests/service/clients/package.json $(CLIENTS)
	npm install --prefix $(CLIENTS) --silent --no-audit --no-fund --no-package-lock --ignore-scripts & npm=$$!
	$(PY) -m pip --python $(CLIENTS)/bin/python install --quiet --disable-pip-version-check --no-compile --no-deps -r $<
	wait $$npm
	touch $@

$(READ): tests/ovam/readers/requirements.txt $(RUNTIME)
	@echo "Installing programs that read data sets ..."
	$(PY) -m venv --clear --without-pip $(READERS)
	$(PY) -m pip --python $(READERS)/bin/python install --quiet --disable-pip-version-check --no-compile -r $<
	touch $@
