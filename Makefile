# Everything runs inside .venv, made here from the locked requirements. Needs only Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test coverage lint fix bench clean lock

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: $(STAMP) ## make .venv from the locked requirements

$(STAMP): requirements.lock requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("garrison needs Python 3.11 or newer; set PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	@echo "setting up $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP) ## the whole platform in a temporary folder: a call answered, and each attack refused
	@$(BIN)/garrison demo

test: $(STAMP) ## every test, on real servers
	@$(BIN)/python -m pytest -n 4 -q

coverage: $(STAMP) ## what decides (authz, dispatch) is covered whole, branch by branch, without a server
	@$(BIN)/python -m pytest -q -n 2 tests/unit/authz tests/unit/runtime/dispatch tests/property \
		--cov=authz --cov=runtime/dispatch --cov-branch --cov-fail-under=100 --cov-report=term:skip-covered

lint: $(STAMP) ## format, lint, types, import rules, no secrets in git
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python scripts/check_no_secrets.py
	@$(BIN)/python scripts/check_replies.py

bench: $(STAMP) ## what a call costs beside a raw NATS request, as ratios within one run
	@$(BIN)/python benchmarks/calls.py

fix: $(STAMP)
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

lock: ## renew the hashed lock files from pyproject.toml
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock

clean: ## remove what these targets made
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
