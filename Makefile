# Two commands: `make demo` answers the question at laptop scale, `make test` checks the suite.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint venv clean

demo: venv
	$(BIN)/looplm run capacity_vs_manipulation --scale quick

test: venv lint
	$(BIN)/pytest -n 2

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

venv: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv
