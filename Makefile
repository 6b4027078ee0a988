PYTHON ?= python3
CONSTRAINTS ?= constraints-cpu.txt
BIN := .venv/bin

.PHONY: demo test install audit docs clean

# The whole job on generated scans: prepare, train, predict, score, compare.
demo: install
	$(BIN)/semiseg demo

# Style, types, what is known to be dangerous, and tests.
test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml src
	$(BIN)/pytest -n 2 --dist worksteal

install: .venv/installed

.venv/installed: pyproject.toml $(wildcard $(CONSTRAINTS))
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(addprefix --constraint ,$(CONSTRAINTS)) --editable ".[dev]"
	touch $@

# Known weaknesses of the installed packages; asks an advisory service.
audit: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/pip-audit --skip-editable

docs: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv demo site
