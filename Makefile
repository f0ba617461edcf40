# make demo: a container follows a car through Berlin, live. make test: everything is checked.
# Both set up what they need (setup.sh) and need no network the second time.
SCENARIO ?= data/scenarios/berlin.yml
PYTHON := .venv/bin/python

.PHONY: demo test lint setup bench clean

demo:
	@./setup.sh --root
	@.venv/bin/testbed run $(SCENARIO)

test: lint
	@$(PYTHON) -m pytest

lint: setup
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy

setup:
	@./setup.sh

bench:
	@./setup.sh --root
	@$(PYTHON) benchmarks/migration.py

clean:
	@-[ -x .venv/bin/testbed ] && .venv/bin/testbed lab down
	@rm -rf .venv results
