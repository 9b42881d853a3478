# Everything needs only python3 (3.11 or later) and make; the first target that runs sets up .venv.

PYTHON ?= python3
VENV := .venv
LOWEST := .venv-lowest
HIGHEST := .venv-highest
INSTALLED := .venv-dist
BIN := $(VENV)/bin
SEED ?= 0
STYLE ?= any
KILLED ?=
DATA ?= ../shared/data

.PHONY: help setup test lint types layers unit slow lowest highest dist dist-test kills lost browser qgis demo real real-training bench-real matching bench scaling evaluating simulation accuracy schemas docs clean

help:  ## show what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 15

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

unit: setup browser  ## the tests
	$(BIN)/pytest -n 2 --dist loadgroup --no-loadscope-reorder

slow: setup  ## the tests of benchmarks that take minutes
	$(BIN)/pytest -m slow

# Everything that users can ask for, with the means to test it; not what only development needs.
EXTRAS := cluster,docs,onnx,prepare,report,simulate,stac,vector,xarray,yaml
TESTED_WITH := hypothesis jsonschema pytest rio-cogeo

# What each package is for: training, refining, evaluating, polygons, cities, point clouds, pages, a cluster, catalogues.
SMOKE = tests/test_golden.py tests/models tests/report/test_stac.py tests/training tests/geo/test_crs.py tests/geo/test_vectors.py \
	tests/preparation tests/simulate/test_sources.py tests/workflows/test_simulate_command.py tests/report/test_page.py \
	tests/workflows/test_train.py::test_every_variant_trains_and_its_model_refines \
	tests/refinement/test_dask.py::test_workers_tell_what_they_compute_on \
	tests/test_site.py tests/test_examples.py -k "not refine_xdem and not evaluate_in_a_notebook"

lowest:  ## a smoke test with the lowest versions that pyproject.toml allows (fetches some GB)
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST) --resolution lowest-direct \
		-e '.[$(EXTRAS)]'
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST) $(TESTED_WITH)
	$(LOWEST)/bin/python -m pytest -W default $(SMOKE)
	$(LOWEST)/bin/python scripts/build_site.py

highest:  ## the same with the newest versions that there are (fetches some GB)
	$(PYTHON) -m venv --clear $(HIGHEST)
	$(HIGHEST)/bin/python -m pip install --quiet --disable-pip-version-check \
		-e '.[$(EXTRAS)]' $(TESTED_WITH)
	$(HIGHEST)/bin/python -m pytest -W default $(SMOKE)
	$(HIGHEST)/bin/python scripts/build_site.py

dist: setup  ## wheel and sdist in dist/, checked
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*
	$(BIN)/hadolint Dockerfile
	sha256sum dist/*

dist-test: dist  ## install the wheel in an empty environment, and run its demo
	$(PYTHON) -m venv --clear $(INSTALLED)
	$(INSTALLED)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(INSTALLED)/bin/python -m pip install --quiet --disable-pip-version-check "$$(ls dist/*.whl)[simulate]"
	cd $(INSTALLED) && bin/resdepth --version && bin/resdepth demo --to demo --seed 7 --style old-town

kills: setup  ## kill commands, and fill the disk, at each file-system event (takes an hour)
	OMP_NUM_THREADS=1 $(BIN)/python tests/killing.py $(KILLED)

lost: setup  ## kill workers at random moments, ten times each way, and lose the scheduler once
	RESDEPTH_SERIES=10 $(BIN)/pytest -v tests/refinement/test_processes.py tests/refinement/test_dask.py -k "random_moments or is_lost"

# Of Debian and its kin; elsewhere any Chromium that is called chromium or google-chrome will do.
browser:  ## a Chromium for the tests of pages, if there is none and apt-get may install it
	@if command -v chromium >/dev/null || command -v google-chrome >/dev/null; then :; \
	elif ! command -v apt-get >/dev/null || [ "$$(id -u)" -ne 0 ]; then \
		echo "There is no chromium, so the tests that look at pages with a browser are skipped."; \
		echo "To run them, install it (Debian: sudo apt-get install chromium)."; \
	else \
		echo "installing chromium, with which tests look at pages"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
			--no-install-recommends chromium fonts-dejavu-core; } >browser.log 2>&1 \
			&& rm browser.log \
			|| echo "chromium could not be installed; browser.log tells why"; \
	fi

# Of Debian and its kin; elsewhere any QGIS whose qgis_process is on PATH will do.
qgis: setup  ## the plugin for QGIS, dist/resdepth_qgis.zip, run in QGIS (installed if apt-get may)
	mkdir -p dist && rm -f dist/resdepth_qgis.zip
	$(BIN)/python scripts/zip_qgis_plugin.py dist/resdepth_qgis.zip
	@if ! command -v qgis_process >/dev/null && command -v apt-get >/dev/null && [ "$$(id -u)" -eq 0 ]; then \
		echo "installing QGIS, in which tests run the plugin"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
			--no-install-recommends qgis python3-qgis qgis-providers >qgis.log 2>&1 && rm qgis.log; \
	fi
	$(BIN)/pytest -m qgis tests/qgis

demo: setup  ## see it work on a simulated town (SEED=7 for another, STYLE=suburb)
	$(BIN)/resdepth demo --to demo --seed $(SEED) --style $(STYLE) --overwrite

real: setup  ## from real raw pairs to refined DSMs (DATA=folder); writes docs/preparing.md
	$(BIN)/python benchmarks/preparing.py $(DATA)

real-training: setup  ## train and test on real satellite data (DATA=folder); writes docs/real-training.md
	$(BIN)/python benchmarks/real_training.py $(DATA)

bench-real: setup  ## refine real DSMs with the bundled models (DATA=folder); writes docs/real-data.md
	$(BIN)/python benchmarks/real_data.py $(DATA)

matching: setup  ## match real raw pairs (DATA=folder) and write docs/matching.md
	$(BIN)/python benchmarks/matching.py $(DATA)

bench: setup  ## speed against the published way, in one run
	$(BIN)/python benchmarks/speed.py

scaling: setup  ## what 100,000 blocks cost a cluster besides computing; writes docs/scaling.md
	$(BIN)/python benchmarks/scaling.py

evaluating: setup  ## how long evaluating 400 million pixels takes; writes docs/evaluation-speed.md
	$(BIN)/python benchmarks/evaluating.py

simulation: setup  ## simulated scenes beside real ones (DATA=folder); writes docs/simulation.md
	$(BIN)/python benchmarks/simulation.py $(DATA)

accuracy: setup  ## trainings evaluated on scenes that they have not seen (DATA=folder)
	$(BIN)/python benchmarks/accuracy.py --size small --data $(DATA)

schemas: setup  ## write the generated page docs/configuration.md and the JSON schemas
	$(BIN)/python scripts/write_configuration_reference.py
	$(BIN)/python scripts/write_qgis_commands.py

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

docs: schemas $(VENV)/.docs  ## the same, and the documentation site: site/index.html (DATA=folder: a real raw pair)
	OMP_NUM_THREADS=1 $(if $(filter command line,$(origin DATA)),DATA=$(abspath $(DATA))) $(BIN)/python scripts/build_site.py

clean:  ## remove what make made
	rm -rf $(VENV) $(LOWEST) $(HIGHEST) $(INSTALLED) demo build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
