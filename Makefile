# Needs make and Python 3.12 or newer, nothing else. `make` alone lists the targets.

BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# No tool asks for newer versions, no library reports its use.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export ORT_DISABLE_TELEMETRY := 1
# Tests start hundreds of programs, each of which would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help venv demo test tests check torture servers servers-stop bench docs lock clean
.DEFAULT_GOAL := help

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/demo.stamp ## Install what is needed and show what neuromem does
	@$(BIN)/neuromem model install
	@$(BIN)/python -m neuromem.demo $(DEMO_ARGS)

venv: .venv/dev.stamp ## Install everything for development into .venv

test: .venv/dev.stamp ## Run the checks and all tests except the long ones (PYTEST_ARGS="…" for some)
	@$(MAKE) --no-print-directory --jobs 2 check tests

tests: .venv/dev.stamp
	$(BIN)/neuromem model install
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal -m "not torture" $(PYTEST_ARGS)

check: .venv/dev.stamp ## Run linter, formatter, type checker and import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

torture: .venv/dev.stamp ## Run the long fault and random rounds
	$(BIN)/neuromem model install
	$(BIN)/python -m pytest -m torture $(PYTEST_ARGS)

servers: .venv/dev.stamp ## Start MongoDB, Elasticsearch, Kafka, PostgreSQL and S3 (SERVERS_ARGS="…"; data in $NEUROMEM_SERVERS)
	@$(BIN)/python -m dev.servers --background $(SERVERS_ARGS)

servers-stop: ## Stop what `make servers` started
	@$(BIN)/python -m dev.servers --stop

bench: .venv/bench.stamp ## Measure, beside targets and a peer (BENCH_ARGS=--full for all sizes, LOCOMO=file.json)
	$(BIN)/neuromem model install
	$(BIN)/python -m benchmarks $(if $(LOCOMO),--locomo $(LOCOMO)) $(BENCH_ARGS)

docs: .venv/dev.stamp ## Write docs/reference from the docstrings
	$(BIN)/python dev/reference.py

lock: ## Pin the dependencies of pyproject.toml again (LOCK_ARGS=--upgrade for the newest)
	dev/lock $(LOCK_ARGS)

clean: ## Remove .venv and caches (never data in ~/.neuromem)
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@python=$$(dev/find-python $(PYTHON)) && "$$python" -m venv --clear .venv || { rm -rf .venv; exit 1; }

# The stamps lie in .venv: a new environment is filled again.
.venv/%.stamp: requirements/%.txt pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes --requirement $<
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
