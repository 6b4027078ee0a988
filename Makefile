PYTHON ?= python3
CONSTRAINTS ?= constraints-cpu.txt
BIN := .venv/bin

.PHONY: demo test install docs clean

# The whole job on generated scans: prepare, train, predict, score, compare.
demo: install
	$(BIN)/semiseg demo

# Style, types and tests.
test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2

install: .venv/installed

.venv/installed: pyproject.toml $(wildcard $(CONSTRAINTS))
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(addprefix --constraint ,$(CONSTRAINTS)) --editable ".[dev]"
	touch $@

docs: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv demo site
