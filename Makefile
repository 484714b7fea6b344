# `make train` and `make test` work on a fresh machine: they make .venv and install into it.
PYTHON ?= python3

.PHONY: train test lint

train: .venv/installed
	.venv/bin/python -m mnist_lit.train --trainer.max_epochs 20

test: .venv/installed-test lint
	.venv/bin/python -m pytest

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
