# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MANIFESTS := pyproject.toml constraints.txt integrations/langchain-deepen/pyproject.toml integrations/llama-index-llms-deepen/pyproject.toml

.PHONY: demo test lint types install clean

install: $(STAMP)

# torch first and alone: pip then takes whichever build of the pinned release this machine offers, CPU or CUDA.
$(STAMP): $(MANIFESTS)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "deepen_llm needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,bench,eval,llama,lora,ray,server]' -e integrations/langchain-deepen -e integrations/llama-index-llms-deepen
	touch $(STAMP)

demo: install
	$(BIN)/deepen demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

# Members in Ray actors are tested by themselves: they start a cluster of two nodes on this machine.
test: lint types
	$(BIN)/pytest
	$(BIN)/pytest -m ray tests

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
