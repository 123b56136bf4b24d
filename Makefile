# modelspace: `make explore` is the main job, `make test` the tests; `make help` lists the rest.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
ALL_CORES := --numprocesses logical --maxprocesses 8 --dist worksteal
# The stamp is written last: an install that was interrupted leaves none, and the next make starts it afresh.
READY := .venv/.ready
# What only the benchmarks, or the slow tests, need is installed when they are first asked for.
PEERS := .venv/.bench
COUNTERS := .venv/.counters
DOCTORS := .venv/.doctors
ZOO := .venv/.zoo
SITE := .venv/.docs

.PHONY: help venv explore test test-types test-all tiny bench bench-anatomy bench-doctor bench-search lint docs clean
.DEFAULT_GOAL := help

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "modelspace needs Python 3.11 or newer; name one with make PYTHON=/path/to/python3" >&2; exit 2; }
	@echo "building .venv (once, about a minute)"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

venv: $(READY) ## build .venv with the pinned requirements

explore: $(READY) ## the main job: measure, train, compare and report a model space
	@$(BIN)/modelspace explore

test: $(READY) ## the tests that CI runs
	@$(BIN)/python -m pytest $(ALL_CORES) -m "not slow"

$(ZOO): $(READY)
	@echo "installing timm, transformers and peft, whose models the slow tests verify, Ray, MLflow, wandb and Sphinx (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[zoo,ray,mlflow,wandb,docs]' \
		&& touch $(ZOO) || echo "they can't be installed here: the tests run without them" >&2

# Not in `make test`: the check of signatures takes half as long again as the tests that it watches.
test-types: $(READY) ## the tests that CI runs, with every array in a signature checked as it is passed
	@MODELSPACE_TYPES=1 $(BIN)/python -m pytest $(ALL_CORES) -m "not slow"

test-all: $(ZOO) ## every test, the slow ones too
	@$(BIN)/python -m pytest $(ALL_CORES)

tiny: $(READY) ## the five-second test to run on every save
	@$(BIN)/python -m pytest -q tests/test_tiny.py

$(PEERS): $(READY)
	@echo "installing JAX, which the benchmarks compare with (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]' \
		&& touch $(PEERS) || echo "it can't be installed here: the benchmarks run without it" >&2

bench: $(PEERS) ## the benchmarks, against the plain loop, JAX and the machine's limit
	@$(BIN)/python -m benchmarks

$(COUNTERS): $(READY)
	@echo "installing torchinfo, fvcore, ptflops, thop and calflops, which the anatomy is compared with (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[counters]' \
		&& touch $(COUNTERS) || echo "they can't be installed here: their cells say so" >&2

bench-anatomy: $(COUNTERS) ## counters of parameters and FLOP, each against counts by hand
	@$(BIN)/python -m benchmarks.anatomy

$(DOCTORS): $(READY)
	@echo "installing torch-preflight, torch-audit and torchtest2, which the doctor is compared with (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[doctors]' \
		&& touch $(DOCTORS) || echo "they can't be installed here: their rows say so" >&2

bench-doctor: $(DOCTORS) ## the doctor's recall, precision and time, beside three other doctors
	@$(BIN)/python -m benchmarks.diagnosis

bench-search: $(READY) ## a search, Optuna alone and random, replayed against a grid that was trained whole
	@$(BIN)/python -m benchmarks.search

lint: $(READY) ## ruff and pyright
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

$(SITE): $(READY)
	@echo "installing Sphinx, which builds the site (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $(SITE)

docs: $(SITE) ## the site in docs/_build/html: guides, rules, every public name; a broken link fails
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build/html

clean: ## remove .venv, caches and runs
	rm -rf .venv runs docs/_build docs/api .pytest_cache .ruff_cache .hypothesis
