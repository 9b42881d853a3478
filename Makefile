# Everything needs only python3 (3.11 or later) and make; the first target that runs sets up .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEED ?= 0
STYLE ?= any
DATA ?= ../shared/data
REFERENCE ?= ../shared/reference

.PHONY: help setup test lint types layers unit demo real bench scaling simulation accuracy docs clean

help:  ## show what there is to make
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

setup: $(VENV)/.installed  ## make .venv with pinned versions

test: lint types layers unit  ## lint, types, layers, tests: what continuous integration runs

lint: setup  ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## mypy --strict
	$(BIN)/mypy

layers: setup  ## who may import whom
	$(BIN)/lint-imports

unit: setup  ## the tests
	RESDEPTH_REFERENCE=$(REFERENCE) $(BIN)/pytest -n 2

demo: setup  ## see it work on a simulated town (SEED=7 for another, STYLE=suburb)
	$(BIN)/resdepth demo --to demo --seed $(SEED) --style $(STYLE) --overwrite

real: setup  ## train and test on real satellite data (DATA=folder) and write docs/real-data.md
	$(BIN)/python benchmarks/real_data.py $(DATA)

bench: setup  ## speed against the published way, in one run
	$(BIN)/python benchmarks/speed.py

scaling: setup  ## what 100,000 blocks cost a cluster besides computing; writes docs/scaling.md
	$(BIN)/python benchmarks/scaling.py

simulation: setup  ## simulated scenes beside real ones (DATA=folder); writes docs/simulation.md
	$(BIN)/python benchmarks/simulation.py $(DATA)

accuracy: setup  ## trainings judged on scenes that they have not seen (DATA=folder)
	$(BIN)/python benchmarks/accuracy.py --size small --data $(DATA)

docs: setup  ## write the generated page and the JSON schemas
	$(BIN)/python scripts/write_configuration_reference.py

clean:  ## remove what make made
	rm -rf $(VENV) demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
