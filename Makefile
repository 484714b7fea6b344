# All targets work on a fresh machine: they make .venv and install into it.
PYTHON ?= python3
# A process of one thread on each of up to 8 cores: most tests wait for a command they have started.
PYTEST = OMP_NUM_THREADS=1 .venv/bin/python -m pytest --numprocesses auto --maxprocesses 8 \
  --dist worksteal

.PHONY: help train test test-all test-slow lint oldest

help:  ## this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

train: .venv/installed  ## train on MNIST to 99.4 %, then test once
	.venv/bin/python -m mnist_lit.train --trainer.max_epochs 20

test: .venv/installed-test lint  ## the linter, the type checker and the tests, but the slow ones
	$(PYTEST) -m "not slow"

test-all: .venv/installed-test lint  ## the same with the slow tests
	$(PYTEST)

test-slow: .venv/installed-test  ## the slow tests alone
	$(PYTEST) -m slow

lint: .venv/installed-test  ## formatting, ruff and mypy
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	.venv/bin/python -m pip install --quiet --editable .
	touch $@

.venv/installed-test: pyproject.toml | .venv/bin/python
	.venv/bin/python -m pip install --quiet --editable '.[test]'
	touch .venv/installed $@

# The oldest versions that pyproject.toml allows; what they depend on is new, and may warn of it.
# Without the tests that take longest and need little of what differs between versions.
oldest:  ## the tests with the oldest versions that pyproject.toml allows
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet uv
	VIRTUAL_ENV=$(CURDIR)/.venv-oldest .venv-oldest/bin/uv pip install --quiet \
	  --resolution lowest-direct --editable '.[test]'
	.venv-oldest/bin/python -m pytest -m "not slow" -W ignore::DeprecationWarning \
	  --ignore tests/test_ddp.py --ignore tests/test_demo.py --ignore tests/test_faults.py
