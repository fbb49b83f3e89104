# The commands of everyday work. Each says what it installs before it does.

VENV := .venv
BIN := $(VENV)/bin
SOURCES := thinfs snapshotter catalog tests .ci/demo.py

.DEFAULT_GOAL := help
.PHONY: help setup demo test faults lint format fuzz bench docs api clean

help: ## show this
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup: ## install all that developing needs: Debian packages, .venv, Go tools in .cache
	@.ci/setup test
	@.ci/venv dev
	@.ci/nerdctl

demo: ## convert a Redis image, run it lazily, compare with a full pull; leaves nothing behind
	@.ci/setup demo
	@.ci/venv run
	@$(BIN)/python .ci/demo.py $(ARGS)

test: setup ## run all tests; ARGS="-k words" for some of them
	@.ci/test $(ARGS)

faults: setup ## kill and break things for long, while readers compare every byte
	@.ci/test tests/faults $(ARGS)

lint: ## check format, style, types and the direction of imports
	@.ci/setup demo
	@.ci/venv dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: ## put all sources into the one format
	@.ci/venv dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fuzz: setup ## feed mutated inputs to all that reads; ARGS="--seconds 3600", default 600
	@$(BIN)/python -W ignore::FutureWarning -m tests.fuzz $(ARGS)

bench: setup ## measure against references; writes .bench/results.json; ARGS="convert." for some
	@.ci/stargz || echo "eStargz is not compared with." >&2
	@$(BIN)/python -m tests.bench $(ARGS)

docs: ## render docs/ into docs/_build/html
	@.ci/venv dev
	$(BIN)/python -m sphinx -W -b html docs docs/_build/html

api: ## generate snapshotter/api from its .proto files
	@.ci/venv dev
	@$(BIN)/python -m snapshotter.api.generate

clean: ## remove what can be made again: .venv, .cache, caches of tools
	rm -rf $(VENV) .cache .bench .fuzz docs/_build .pytest_cache .mypy_cache .ruff_cache \
	  .hypothesis .import_linter_cache .coverage
	find . -name __pycache__ -prune -exec rm -rf {} +
