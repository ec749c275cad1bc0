# Gossamer's doors for people: everything a fresh machine needs is set up on the way.
# A target prints its progress on standard error, so that `make demo ARGS=--json` stays JSON.

VENV := .venv
BIN := $(VENV)/bin
SETUP := pyproject.toml scripts/setup.sh scripts/setup.py
ARGS ?=

# An environment belongs to the folder it was made in: a moved or copied clone makes its own.
ifneq ($(shell cat $(VENV)/made-in 2>/dev/null),$(CURDIR))
STALE := stale
endif

.PHONY: help demo test lint bench docs clean stale
.DEFAULT_GOAL := help

help:
	@echo "make demo    a mesh of four agents on this machine, and a prompt to ask it"
	@echo "             make demo ARGS='--once \"What is 48 * 27?\"' asks one question and leaves"
	@echo "make test    ruff, mypy and every test (make test ARGS='-k names' for some of them)"
	@echo "make lint    ruff and mypy only"
	@echo "make bench   the benchmarks as JSON (make bench NAME=models ARGS=--quick for one)"
	@echo "make docs    the documentation as a site, in build/site"
	@echo "make clean   remove the environment and caches of this clone"
	@echo "The first run compiles llama.cpp, which takes minutes; later runs and clones do not."

$(VENV)/ready-run: $(SETUP) $(STALE)
	@sh scripts/setup.sh run

$(VENV)/ready-dev: $(SETUP) $(STALE)
	@sh scripts/setup.sh dev

demo: $(VENV)/ready-run
	@$(BIN)/gossamer demo $(ARGS)

# Every check runs even when an earlier one fails: one round shows all there is to mend.
lint: $(VENV)/ready-dev
	@failed=0; \
	$(BIN)/ruff check . || failed=1; \
	$(BIN)/ruff format --check . || failed=1; \
	$(BIN)/mypy || failed=1; \
	exit $$failed

# Two workers: a board has few cores, and tests that start processes need room beside them.
test: $(VENV)/ready-dev
	@failed=0; \
	$(MAKE) --no-print-directory lint || failed=1; \
	$(BIN)/pytest -n 2 $(ARGS) || failed=1; \
	exit $$failed

bench: $(VENV)/ready-dev
	@failed=0; \
	for name in $(or $(NAME),$(basename $(notdir $(wildcard benchmarks/[a-z]*.py)))); do \
		$(BIN)/python -m benchmarks.$$name --json $(ARGS) || failed=1; \
	done; \
	exit $$failed

docs: $(VENV)/ready-dev
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet $(ARGS)
	@echo "build/site/index.html" >&2

clean:
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
