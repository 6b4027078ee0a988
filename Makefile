PYTHON ?= python3
CONSTRAINTS ?= constraints-cpu.txt
BIN := .venv/bin

.PHONY: demo test test-avx2 install audit docs clean

# The whole job on generated scans: prepare, train, predict, score, compare.
demo: install
	$(BIN)/semiseg demo

# Style, types, what is known to be dangerous, and tests.
test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml src
	$(BIN)/pytest -n 2 --dist worksteal

# What depends on the processor, as one without AVX-512 and bf16 does it.
test-avx2: install
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(BIN)/pytest -n 2 --dist worksteal tests/training tests/runs tests/networks \
		tests/golden/test_vnet.py tests/golden/test_unet2d.py tests/prediction/test_windows.py tests/test_own_data.py

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
