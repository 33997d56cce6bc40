.DEFAULT_GOAL := help
.PHONY: help install check test cov docs bench chaos serve image clean

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest

help:  ## Print what there is.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# pip's own check of every hash; the project itself is then installed without looking anywhere.
.venv/.runtime: requirements.txt requirements-build.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.txt -r requirements-build.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

.venv/.dev: .venv/.runtime requirements-dev.txt
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.txt
	touch $@

install: .venv/.dev  ## Make .venv with everything in it.

check: .venv/.dev  ## Format, lint, types, rings, dependencies, dead code.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/vulture

test: check  ## All checks, then all tests.
	$(PYTEST)

cov: .venv/.dev  ## All tests, with branch coverage.
	$(PYTEST) --cov --cov-report=term-missing:skip-covered --cov-report=xml

docs: .venv/.dev  ## Write the generated parts of docs/reference anew.
	$(BIN)/python -m docs.generate

bench: .venv/.dev  ## Training beside plain NumPy, and beside PyTorch and scikit-learn where they are.
	$(BIN)/python -m benchmarks.training

chaos: .venv/.dev  ## Kill everything at random, two hundred times, and look what is lost.
	$(BIN)/python -m tests.chaos.run --kills 200

serve: .venv/.runtime  ## Start the server at http://127.0.0.1:8000.
	$(BIN)/neurond serve

image:  ## Build the container image.
	docker build --tag neurond:latest .

clean:  ## Remove what make made.
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage* coverage.xml dist
