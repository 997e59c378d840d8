# Every target sets up what it needs first, and nothing twice.
#
#   make VENV=/some/folder    another place for the environment
#   make PYTHON=python3.12    another Python for it
#   make test ROOM=network    the tests and docstrings of one room

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed.stamp

.DEFAULT_GOAL := help
.PHONY: help install demo test check

help:
	@echo "make install  set up $(VENV) with the package and its tools"
	@echo "make demo     separate s4m_sb/examples/two_talkers.wav into two voices"
	@echo "make test     run the tests and the examples in the docstrings;"
	@echo "              with ROOM=network those of s4m_sb/network alone"
	@echo "make check    lint, formatting, types, spelling and YAMLs"

install: $(INSTALLED)

$(INSTALLED): setup.cfg setup.py pyproject.toml constraints.txt \
		$(wildcard s4m_sb/network/fused/kernels/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install
	$(BIN)/s4m separate s4m_sb/examples/two_talkers.wav --output separated --plot
	@echo "The voices and their picture are in separated/:"
	@ls separated

test: install
	$(BIN)/python -m pytest $(if $(ROOM),tests/$(ROOM) $(wildcard s4m_sb/$(ROOM)))

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/yamllint --no-warnings .
