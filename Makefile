# Every target sets up what it needs first, and nothing twice.
#
#   make VENV=/some/folder    another place for the environment
#   make PYTHON=python3.12    another Python for it

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed.stamp

.DEFAULT_GOAL := help
.PHONY: help install demo test check

help:
	@echo "make install  set up $(VENV) with the package and its tools"
	@echo "make demo     separate examples/two_talkers.wav into two voices"
	@echo "make test     run the tests and the examples in the docstrings"
	@echo "make check    lint, formatting and types"

install: $(INSTALLED)

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install
	$(BIN)/s4m separate examples/two_talkers.wav --output separated --plot
	@echo "The voices and their picture are in separated/:"
	@ls separated

test: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
