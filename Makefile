# Everything a person types here; CI runs the same. `make` alone lists the commands.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed
# By hash alone, and nothing is fetched to build with: what makes wheels is in a lock file of its own.
PIP    := pip install --quiet --disable-pip-version-check --require-hashes --no-build-isolation
SHELL  := /bin/bash

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements-build.lock requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("postlog needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 …") if sys.version_info < (3, 11) else None'
	@echo "Installing postlog into $(VENV) (a minute, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/$(PIP) --only-binary :all: -r requirements-build.lock
	@$(BIN)/$(PIP) -r requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: install
install: $(READY) ## set up the virtual environment and nothing else

.PHONY: up
up: $(READY) ## run the whole pipeline here: Kafka, ingress, processor, alerter, lookup (Ctrl-C stops it)
	@$(BIN)/postlog up $(ARGS)

.PHONY: test
test: check ## everything CI runs: lint, types, and all tests on a real Kafka
	@mkdir -p .data
	@$(BIN)/pytest --basetemp=.data/tests $(ARGS)

.PHONY: unit
unit: $(READY) ## the fast tests: rules and shells without Kafka
	@$(BIN)/pytest tests/unit tests/service $(ARGS)

.PHONY: check
check: $(READY) ## lint and types
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

.PHONY: docs
docs: $(READY) ## write the pages that follow from the code: settings, commands, decisions
	@$(BIN)/python -m tests.reference

.PHONY: format
format: $(READY) ## put the code into the one format
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

.PHONY: bench
bench: $(READY) ## measure everything beside its peers, and write docs/benchmarks.md (an hour; ARGS="--sections ingress")
	@$(BIN)/python -m bench --write $(ARGS)

.PHONY: bench-quick
bench-quick: $(READY) ## the ratios that a change must not spoil, against those in bench/ratios.json (3 minutes)
	@$(BIN)/python -m bench --quick --rounds 1 --sections ingress,processor,lookup --json .data/bench-quick.json $(ARGS)
	@$(BIN)/python -m bench.regress .data/bench-quick.json

.PHONY: bench-processor
bench-processor: $(READY) ## events per second of the whole processor from a filled topic (ARGS="--all": beside its peers)
	@$(BIN)/python -m bench.processor $(ARGS)

.PHONY: drill
drill: $(READY) ## failing addresses and outages at the real pace, checked and measured (8 minutes)
	@$(BIN)/python -m bench.drill $(ARGS)

.PHONY: drill-spool
drill-spool: $(READY) ## Kafka is away for five minutes, and the ingress spools (7 minutes)
	@$(BIN)/python -m bench.spool $(ARGS)

$(VENV)/.fuzzer: $(READY) requirements-fuzz.lock
	@$(BIN)/$(PIP) -r requirements-fuzz.lock
	@touch $@

.PHONY: fuzz
fuzz: $(VENV)/.fuzzer ## a million hostile inputs for the ingress and every reader (15 minutes; ARGS="--seed 7")
	@$(BIN)/python -m tests.fuzz $(ARGS)

.PHONY: drill-flood
drill-flood: $(READY) ## a flood of bad signatures, and what signed deliveries take meanwhile (4 minutes)
	@$(BIN)/python -m bench.flood $(ARGS)

.PHONY: drill-availability
drill-availability: $(READY) ## how long anybody waits while processes come, go, die and are restarted (15 minutes)
	@$(BIN)/python -m bench.availability $(ARGS)

.PHONY: chaos
chaos: $(READY) ## break everything for real and check the promise (20 minutes; ARGS="--seed 7", "--negative")
	@$(BIN)/python -m tests.chaos $(ARGS)

$(VENV)/.tools: requirements-tools.lock
	@$(PYTHON) -m venv $(VENV)/tools
	@$(VENV)/tools/bin/$(PIP) --only-binary :all: -r requirements-tools.lock
	@touch $@

# Every lock file is made anew by the same command.
COMPILE := $(VENV)/tools/bin/uv pip compile -q -U --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command 'make lock'

.PHONY: lock
lock: $(READY) $(VENV)/.tools ## pin every dependency again, to the newest that pyproject.toml allows
	@$(COMPILE) pyproject.toml -o requirements.lock
	@$(COMPILE) pyproject.toml --group dev -o requirements-dev.lock
	@$(COMPILE) --group build -c requirements-dev.lock -o requirements-build.lock
	@$(COMPILE) --group fuzz -o requirements-fuzz.lock
	@$(COMPILE) --group peers -o requirements-peers.lock
	@$(COMPILE) --group tools -o requirements-tools.lock

.PHONY: lock-jars
lock-jars: $(READY) ## write the hashes of Kafka's jars again, after its version was changed in console/kafka_jars.py
	@$(BIN)/python -m bench.lock_jars

.PHONY: audit
audit: $(READY) $(VENV)/.tools ## known vulnerabilities of what services are made of, or, where PyPI tells none, what is not the newest
	@$(VENV)/tools/bin/pip-audit --progress-spinner off --strict --require-hashes --disable-pip -r requirements.lock || { \
		echo "If advisories could not be had: releases that are newer than the locked ones, none if there are none below"; \
		$(COMPILE) pyproject.toml | diff <(cat requirements.lock) - | grep '^> [a-z]'; \
		[ $$? -eq 1 ]; }

.PHONY: clean
clean: ## remove the virtual environment, local state and caches of this checkout
	@rm -rf $(VENV) .data .pytest_cache .mypy_cache .ruff_cache .hypothesis
