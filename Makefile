SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
RUN := $(BIN)/python
SEED := $(or $(FAIRLEAD_SEED),$(shell date +%s))

.PHONY: help venv test test-fast prove mutate check generate fmt demo demo-cluster bench clean

help: ## Say what each target does
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

venv: .venv/stamp ## Make .venv with everything installed

.venv/stamp: pyproject.toml
	@if command -v uv >/dev/null; then uv venv -q --allow-existing .venv && uv pip install -q -p .venv -e '.[dev]'; \
	else python3 -m venv .venv && $(BIN)/pip install -q --disable-pip-version-check -e '.[dev]'; fi
	@touch $@

test: venv ## Run all the tests; what cannot run here is skipped with its reason
	@tools/cluster/prepare.sh || true
	$(BIN)/pytest -n 2 --dist loadgroup -rs tests/cluster tests/unit tests/property tests/integration

test-fast: venv ## Run the tests that need no server
	$(BIN)/pytest -n 2 tests/unit tests/property

prove: venv ## Twenty thousand histories of systems that do their worst, and a worker killed 200 times; about half an hour
	@echo "FAIRLEAD_SEED=$(SEED) tries the same histories again"
	FAIRLEAD_SEED=$(SEED) FAIRLEAD_HISTORIES=20000 FAIRLEAD_KILL_ROUNDS=100 FAIRLEAD_MODEL_ACTS=3 \
	  $(BIN)/pytest -q -n 2 --timeout 7200 \
	  tests/property/test_worker_machine.py tests/property/test_protocol.py tests/integration/test_kill_rounds.py

mutate: venv ## Change the engine in 4,400 small ways, each of which a test must notice; about forty minutes
	@if command -v uv >/dev/null; then uv pip install -q -p .venv -e '.[dev,mutate]'; \
	else $(BIN)/pip install -q --disable-pip-version-check -e '.[dev,mutate]'; fi
	$(RUN) tools/mutate.py

check: venv ## Format, lint, types, layers, generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	PYTHONPATH=tests $(RUN) -m support.specpage --check

generate: venv ## Write the generated parts of the spec pages again
	PYTHONPATH=tests $(RUN) -m support.specpage

fmt: venv ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

demo: venv ## Two systems, two policies, edits on both sides, on this machine, without a cluster
	$(RUN) tools/demo.py

demo-cluster: venv ## The same on a real Kubernetes node, from helm install on; needs root. KEEP=--keep leaves it running
	$(RUN) tools/demo_cluster.py $(KEEP)

bench: venv ## Measure, and print the table of benchmarks/RESULTS.md
	$(RUN) -m benchmarks

clean: ## Remove what was built
	rm -rf .venv .fairlead .mypy_cache .ruff_cache .pytest_cache dist
