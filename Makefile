# Plain `make` lists the targets. All Python packages go into .venv.

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check --progress-bar off

# Interpreters to try for .venv, in this order; choose one with `make setup PYTHON=/path/to/python3.12`.
PYTHON ?= python3.13 python3.12 python3.11 python3
# Where `make run` serves: make run PORT=8080
PORT ?= 5000
PYBABEL := $(VENV)/bin/pybabel
CATALOGUES := webapp/translations

# REQUIRE_ALL_TESTS=1 turns every skipped test into a failure; ARGS is passed to pytest.
REQUIRE_ALL_TESTS ?=
ARGS ?=
# Test files that run at the same time, in the order of tests/conftest.py.
TEST_PROCESSES ?= 2
PARALLEL := -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder
# Test processes share the cores. Several threads of linear algebra in each would wait for one another, five times as long.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1
SHARED_TESTS := $(addprefix tests/webapp/test_,analyses.py batches.py feedback.py file_removal.py history.py jobs.py orphans.py pages.py reports.py retention.py schema.py sharing.py statistics.py storage.py upload_security.py) \
                $(addprefix tests/webapp/api/test_,batch_requests.py resources.py submissions.py tokens.py webhooks.py)

# Counts the packages of requirements file $(1) while pip installs them; on one line in a terminal.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
progress = awk -v total="$$(grep -c == $(1))" -v end="$$([ -t 2 ] && echo '\r' || echo '\n')" ' \
    function show(text) { printf "  %-56.56s%s", text, end; fflush() } \
    /^(Collecting|Ignoring|Processing) / { gsub(".*/|:$$", "", $$2); show(++n " of " total ": " $$2) } \
    /^Requirement already/ { show(++n " of " total ": " $$4) } \
    /^Installing collected/ { show("writing them to disk") } \
    END { if (end == "\r") print "" }'

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup setup-scale run test test-fast test-shared lint audit format docs translations benchmark lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(VENV)/serve.stamp ## create .venv with what the server needs, without TensorFlow
	@echo "Ready: make run"

setup-scale: $(VENV)/scale.stamp ## add what more than one machine needs: PostgreSQL, S3, Celery, traces; see docs/scale.md
	@echo "Ready: see docs/scale.md"

run: $(VENV)/serve.stamp ## serve on http://127.0.0.1:5000; another port: make run PORT=8080
	@exec $(PY) -m gunicorn --config gunicorn.conf.py --bind 127.0.0.1:$(PORT) app:app

test: $(VENV)/train.stamp $(VENV)/scale.stamp $(VENV)/dev.stamp ## run all tests, print coverage and the skipped tests with reasons
	@$(ONE_THREAD) $(PY) -m slipcover -m pytest -rs $(PARALLEL) $(if $(REQUIRE_ALL_TESTS),-p tests.no_skips) $(ARGS)

test-fast: $(VENV)/train.stamp $(VENV)/scale.stamp $(VENV)/dev.stamp ## run the tests that are neither slow nor in a browser, under a minute
	@$(PY) -m pytest -m "not slow and not browser" $(ARGS)

test-shared: $(VENV)/train.stamp $(VENV)/scale.stamp $(VENV)/dev.stamp ## run the tests of rows, files, jobs and the API on PostgreSQL and S3 instead
	@$(ONE_THREAD) DEEPFAKE_TEST_SHARED=1 $(PY) -m pytest $(PARALLEL) $(if $(REQUIRE_ALL_TESTS),-p tests.no_skips) -m "not embedded" $(SHARED_TESTS) $(ARGS)

lint: $(VENV)/train.stamp $(VENV)/scale.stamp $(VENV)/dev.stamp ## check style, formatting and types
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

audit: $(VENV)/dev.stamp ## compare the pinned packages with the known vulnerabilities of PyPI's advisory service
	@.ci/audit

format: $(VENV)/dev.stamp ## fix style and formatting
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

docs: $(VENV)/train.stamp $(VENV)/dev.stamp ## build docs/ as web pages in build/docs/, without warnings
	@$(PY) -m properdocs build --strict --quiet
	@echo "Open build/docs/index.html"

translations: $(VENV)/serve.stamp ## collect the pages' texts, update the catalogues of all languages and compile them
	@$(PYBABEL) -q extract -F pyproject.toml -k translatable --add-location=file --project=deepfake-detector -o $(CATALOGUES)/messages.pot .
	@$(PYBABEL) -q update -i $(CATALOGUES)/messages.pot -d $(CATALOGUES) --ignore-pot-creation-date --no-fuzzy-matching --width=120
	@$(PYBABEL) -q compile -d $(CATALOGUES) --statistics
	@rm $(CATALOGUES)/messages.pot

benchmark: $(VENV)/train.stamp ## measure the time of every stage, start-up time and memory
	@$(PY) scripts/benchmark.py

lock: $(PY) ## renew the pins of the requirements files
	@$(PIP) --quiet uv
	@.ci/lock $(VENV)/bin/uv

clean: ## remove .venv and caches; models, data and the instance folder stay
	@rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/serve.stamp: requirements-serve.txt pyproject.toml hatch_build.py $(PY)
	@echo "Installing what the server needs (about 750 MB on disk)"
	@$(PIP) --no-deps -r requirements-serve.txt | $(call progress,requirements-serve.txt)
	@$(PIP) --quiet --no-deps --no-build-isolation --editable . # with the build backend that the lock pins
	@touch $@

$(VENV)/train.stamp: requirements.txt $(VENV)/serve.stamp
	@$(PY) -c 'import sys; sys.exit("TensorFlow has no wheel for Python 3.14 yet: make clean test PYTHON=python3.13" if sys.version_info >= (3, 14) else 0)'
	@echo "Installing what training and evaluation need (TensorFlow, 2 GB more)"
	@$(PIP) --no-deps -r requirements.txt | $(call progress,requirements.txt)
	@touch $@

$(VENV)/scale.stamp: requirements-scale.txt $(VENV)/serve.stamp
	@echo "Installing what more than one machine needs (250 MB more)"
	@$(PIP) --no-deps -r requirements-scale.txt | $(call progress,requirements-scale.txt)
	@touch $@

$(VENV)/dev.stamp: requirements-dev.txt $(PY)
	@echo "Installing the test tools, the linter and the type checker"
	@$(PIP) --no-deps -r requirements-dev.txt | $(call progress,requirements-dev.txt)
	@touch $@

$(PY):
	@for python in $(PYTHON); do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    usable=$$python; \
	    "$$python" -c 'import ensurepip, venv' 2>/dev/null || continue; \
	    echo "Creating $(VENV) with $$("$$python" --version)"; \
	    exec "$$python" -m venv --clear $(VENV); \
	done; \
	if [ -n "$$usable" ]; then \
	    echo "$$usable has no ensurepip, so it cannot create $(VENV). On Debian or Ubuntu: apt install $$usable-venv"; \
	else \
	    echo "Python 3.11 or newer is needed, and none of these is: $(PYTHON)."; \
	    echo "Install one, or give its path: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"; \
	fi >&2; \
	exit 1
