# `make train` and `make test` work on a fresh machine: they make .venv and install into it.
PYTHON ?= python3

.PHONY: train test lint oldest

train: .venv/installed
	.venv/bin/python -m mnist_lit.train --trainer.max_epochs 20

# A process of one thread on each of up to 8 cores: most tests wait for a command they have started.
test: .venv/installed-test lint
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

lint: .venv/installed-test
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
oldest:
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet uv
	VIRTUAL_ENV=$(CURDIR)/.venv-oldest .venv-oldest/bin/uv pip install --quiet \
	  --resolution lowest-direct --editable '.[test]'
	.venv-oldest/bin/python -m pytest -W ignore::DeprecationWarning \
	  --ignore tests/test_ddp.py --ignore tests/test_demo.py --ignore tests/test_faults.py
