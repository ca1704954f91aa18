# Everything a developer or a first-time user types. `make` alone lists it.

VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.ready
TREES   := $(wildcard src tests benchmarks examples scripts)
PYTHONS := $(PYTHON) python3.13 python3.12 python3.11 python3 python
XDIST   ?= auto
SEEDS   ?= 1000
FIRST   ?= 0
RUNS    ?= 300
HISTORIES ?= 300

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-postgres test quick lint format types contracts check bench bench-peers red coverage simulate torture torture-postgres docs tutorial docs-diagram django package reference golden pins clean

help: ## list all commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][a-z-]*:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv with the pinned dependencies (needs Python 3.11 or newer)

$(STAMP): requirements/dev.txt pyproject.toml
	@python=; for candidate in $(PYTHONS); do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then echo "stepwell needs Python 3.11 or newer; none of these is: $(strip $(PYTHONS))" >&2; exit 1; fi; \
	if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    echo "creating $(VENV) with $$($$python --version)"; \
	    "$$python" -m venv --clear $(VENV) || { echo "python -m venv failed: on Debian and Ubuntu, install python3-venv" >&2; exit 1; }; \
	fi
	@echo "installing the pinned dependencies"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: setup ## audit the packages of this machine while workers are killed
	@$(BIN)/stepwell demo

demo-postgres: setup ## the same with four workers on PostgreSQL, which is crashed meanwhile
	@$(BIN)/python scripts/demo_postgres.py

test: setup ## run all tests, in random order, in two processes a core (XDIST=0: one process)
	@$(BIN)/python -m pytest -n $(XDIST)

quick: setup ## run what needs no server, and a few hundred histories: under a minute on two cores
	@$(BIN)/python -m pytest -q -n $(XDIST) --quick tests
	@$(BIN)/python -m tests.simulation $(FIRST) --count $(HISTORIES)

lint: setup ## check style and format
	@$(BIN)/ruff check $(TREES)
	@$(BIN)/ruff format --check $(TREES)

format: setup ## fix style and format where possible
	@$(BIN)/ruff check --fix $(TREES)
	@$(BIN)/ruff format $(TREES)

types: setup ## check types
	@$(BIN)/mypy $(TREES)

contracts: setup ## check that imports go downwards only
	@$(BIN)/lint-imports --no-logo

check: lint types contracts test ## all four, as CI does

bench: setup ## measure every case beside the raw limit of the database and the installed peers (15 minutes)
	@$(BIN)/python -m benchmarks all

bench-peers: setup ## install the engines to measure beside, into .venv-peers (needs npm for Restate's server)
	@$(BIN)/python -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/peers.txt
	@cp requirements/peers-server/package.json requirements/peers-server/package-lock.json .venv-peers/
	@npm ci --silent --prefix .venv-peers || echo "Restate's server was not installed: it is an npm package" >&2

django: setup ## test the backend for Django's tasks on Django 6, in .venv-django (needs Python 3.12)
	@$(BIN)/python scripts/django_venv.py
	@.venv-django/bin/python -m pytest -q -p no:cacheprovider tests/ext/test_django_tasks.py

package: setup ## build wheel and sdist, check them, and install each extra alone and all of them, on the Pythons found
	@$(BIN)/python scripts/package.py

red: setup ## break the engine on purpose, one change at a time, and check that a test fails
	@$(BIN)/python scripts/red.py

coverage: setup ## find lines and branches of the core and the engine that no test executes
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -n $(XDIST) -k "not four_thousand_histories"
	@$(BIN)/coverage run -m tests.simulation $(FIRST) --count $(SEEDS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --fail-under=100 --include='src/stepwell/core/*,src/stepwell/engine/*'

simulate: setup ## run seeded histories in virtual time (SEEDS=1000, from FIRST=0 on)
	@$(BIN)/python -m tests.simulation $(FIRST) --count $(SEEDS)
	@$(BIN)/python -m tests.simulation.deadline --first $(FIRST) --seeds $(SEEDS)

torture: setup ## kill, stop and freeze workers on one file (RUNS=300), and compare with a model
	@$(BIN)/python -m scripts.torture --runs $(RUNS)

golden: setup ## write the databases of this release that later ones must finish (tests/golden)
	@$(BIN)/python scripts/golden.py

torture-postgres: setup ## the same on a PostgreSQL server that is crashed, too
	@$(BIN)/python -m scripts.torture --postgres --workers 4 --lease 1 --every 0.3 --runs $(RUNS)

reference: setup ## write docs/reference.md from the docstrings of the public names
	@$(BIN)/python -m scripts.reference

docs: setup ## build the documentation as a site in build/site
	@$(BIN)/python -m scripts.site

tutorial: setup ## follow docs/tutorial.md in a fresh environment with the wheel of this checkout
	@$(BIN)/python -m scripts.tutorial

docs-diagram: setup ## write docs/statuses.md and its picture from the table of transitions
	@$(BIN)/python scripts/write_diagrams.py

pins: ## pin the newest dependencies (needs uv)
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --no-header \
	    --no-emit-index-url --no-emit-find-links --output-file requirements/dev.txt requirements/dev.in
	@sed -i '1i # Pinned by `make pins` from dev.in, for CPython 3.11, 3.12 and 3.13.' requirements/dev.txt
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --no-header \
	    --no-emit-index-url --no-emit-find-links --output-file requirements/peers.txt requirements/peers.in
	@sed -i '1i # Pinned by `make pins` from peers.in, for CPython 3.11, 3.12 and 3.13.' requirements/peers.txt
	@uv pip compile --quiet --universal --python-version 3.12 --generate-hashes --upgrade --no-header \
	    --no-emit-index-url --no-emit-find-links --output-file requirements/django.txt requirements/django.in
	@sed -i '1i # Pinned by `make pins` from django.in, for CPython 3.12 and 3.13.' requirements/django.txt
	@if grep -nE '://|--(extra-)?index-url|--find-links' requirements/*.txt; then echo "an address got into requirements" >&2; exit 1; fi

clean: ## remove generated files, including .venv
	@rm -rf $(VENV) .venv-django build dist .coverage .coverage.* htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
