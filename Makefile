# `make` alone lists what there is to make. Everything of Python's goes into .venv.

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check

# Candidates for making .venv, best first; name your own with `make setup PYTHON=/path/to/python3.12`.
PYTHON ?= python3.13 python3.12 python3.11 python3
# REQUIRE_ALL_TESTS=1 turns every skipped test into a failure; ARGS goes to pytest.
REQUIRE_ALL_TESTS ?=
ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup run test lint format benchmark lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(VENV)/serve.stamp ## make .venv with what the server needs, no TensorFlow
	@echo "Ready: make run"

run: $(VENV)/serve.stamp ## serve on http://127.0.0.1:5000
	@echo "Serving on http://127.0.0.1:5000 (Ctrl+C stops it)"
	@exec $(PY) -m gunicorn --config gunicorn.conf.py app:app

test: $(VENV)/train.stamp $(VENV)/dev.stamp ## run all tests; the end names those that were skipped and why
	@$(PY) -m pytest -rs $(if $(REQUIRE_ALL_TESTS),-p tests.no_skips) $(ARGS)

lint: $(VENV)/dev.stamp ## check style and formatting
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

format: $(VENV)/dev.stamp ## repair style and formatting
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

benchmark: $(VENV)/train.stamp ## measure every stage, start-up time and memory
	@$(PY) scripts/benchmark.py

lock: $(PY) ## renew the pins of the three requirements files
	@$(PIP) uv
	@.ci/lock $(VENV)/bin/uv

clean: ## remove .venv and caches; models, data and the instance folder stay
	@rm -rf $(VENV) .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/serve.stamp: requirements-serve.txt $(PY)
	@echo "Installing what the server needs (about 750 MB on disk)"
	@$(PIP) --no-deps -r requirements-serve.txt
	@touch $@

$(VENV)/train.stamp: requirements.txt $(VENV)/serve.stamp
	@$(PY) -c 'import sys; sys.exit("TensorFlow has no wheel for Python 3.14 yet: make clean test PYTHON=python3.13" if sys.version_info >= (3, 14) else 0)'
	@echo "Installing what training and evaluation need (TensorFlow, 2 GB more)"
	@$(PIP) --no-deps -r requirements.txt
	@touch $@

$(VENV)/dev.stamp: requirements-dev.txt $(PY)
	@echo "Installing the test tools and the linter"
	@$(PIP) --no-deps -r requirements-dev.txt
	@touch $@

$(PY):
	@for python in $(PYTHON); do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    usable=$$python; \
	    "$$python" -c 'import ensurepip, venv' 2>/dev/null || continue; \
	    echo "Making $(VENV) with $$("$$python" --version)"; \
	    exec "$$python" -m venv --clear $(VENV); \
	done; \
	if [ -n "$$usable" ]; then \
	    echo "$$usable has no ensurepip, so it cannot make $(VENV). On Debian or Ubuntu: apt install $$usable-venv"; \
	else \
	    echo "Python 3.11 or newer is needed; none of these is one: $(PYTHON)."; \
	    echo "Install it, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"; \
	fi >&2; \
	exit 1
