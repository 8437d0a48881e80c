# `make demo` and `make test` are all that a newcomer needs; both make .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
REVIEW ?= script
JOBS ?= 2

.PHONY: demo run test test-slow lint types layers unit format clean

# The stamp is the pip-installed script: it is newer than its inputs once the installation went through.
$(VENV): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[cpu,trainer,dev]'
	@touch $(VENV)

demo: $(VENV)
	$(BIN)/python -m benchmarks.demo --review $(REVIEW)

run: $(VENV)
	$(BIN)/python -m benchmarks.demo.run

test: lint types layers unit

lint: $(VENV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)
	$(BIN)/mypy

layers: $(VENV)
	$(BIN)/lint-imports

# A file to a worker: what its tests share (a filled store, a fitted detector, a running daemon) is made once.
unit: $(VENV)
	$(BIN)/pytest -n $(JOBS) --dist loadfile

test-slow: $(VENV)
	$(BIN)/pytest -m slow

format: $(VENV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) var build *.egg-info

.PHONY: schema
schema: $(VENV)
	$(BIN)/python -c 'import json; from cell.settings import Settings; print(json.dumps(Settings.model_json_schema(), indent=1))' \
	  > config/settings.schema.json
