# Everything a developer or CI does. Needs Python >= 3.11, make and a package index; all else comes from the lock.

PYTHON  ?= python3
PORT    ?= 8000
AGENT   ?= a2a_events.agents:scripted
NAME    ?= echo
# pytest-xdist workers for the fast tier: more than the two cores it is made for, because many tests wait for processes.
WORKERS ?= 3
# More arguments for pytest, the benchmark, the fault runs or the demo: make test ARGS='-k cursor'
ARGS    ?=
# Of fault runs: what chance comes from (a new one each time), how long at most (0: until all is done), how many tasks.
SEED    ?=
MINUTES ?= 0
TASKS   ?= 1000
# Of the audit: whether it fails where nobody can be asked.
REQUIRED ?=

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
OTHER_PYTHONS := 3.12 3.13

# $(call within,SECONDS) puts a budget on a command, where timeout(1) is at hand. SIGINT lets pytest stop its processes
# and print its summary.
within = $(if $(shell command -v timeout),timeout --foreground --signal=INT --kill-after=30 $(1))
pip    = -m pip --disable-pip-version-check install --quiet
LOCK   = $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url \
         --custom-compile-command 'make lock' $(ARGS)

export UV_PYTHON_DOWNLOADS := never
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
# Tests are rewritten and processes started by the hundred: without bytecode each of them compiles the same sources anew.
unexport PYTHONDONTWRITEBYTECODE

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help setup run demo example test test-containers test-slow test-all-pythons check format format-check lint types \
        contracts audit sbom screenshots bench faults regions k8s image wheel lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## Install into .venv what the lock says; does nothing when the lock has not changed

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python >= 3.11 is needed (PYTHON=...), this is " + sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'Installing into $(VENV) ...'
	@$(BIN)/python $(pip) --require-hashes -r requirements/dev.txt
	@$(BIN)/python $(pip) --no-deps --no-build-isolation --editable .
	@touch $@

# exec: the server is make's own child and gets Ctrl-C at first hand.
run: $(STAMP) ## Start broker, gateway and worker with the demo agent (PORT=8000 AGENT=module:attr); Ctrl-C stops them
	@exec $(BIN)/a2a-events up --port $(PORT) --agent $(AGENT) $(ARGS)

demo: $(STAMP) ## Kill a gateway in mid-stream and watch the client go on at another (under a minute)
	@$(call within,120) $(BIN)/a2a-events demo $(ARGS)

example: $(STAMP) ## Run one of examples/ (NAME=echo)
	@$(call within,120) $(BIN)/python examples/$(NAME) $(ARGS)

test: $(STAMP) ## Run the fast tests (12 minutes; stopped after 25)
	@$(call within,1500) $(BIN)/python -m pytest -m 'not slow and not containers' -n $(WORKERS) --dist worksteal $(ARGS)

test-slow: $(STAMP) ## Run the long tests: faults, races, searches (budget: 30 minutes, 10 for one test)
	@$(call within,1800) $(BIN)/python -m pytest -m 'slow and not containers' --timeout 600 $(ARGS)

test-containers: $(STAMP) ## Build and run the image, and test against a NATS container, where Docker is at hand (20 minutes)
	@$(call within,1200) $(BIN)/python -m pytest -m containers --timeout 180 $(ARGS)

# PYENV_VERSION tells pyenv, where it is what answers to `python3.12`, which one is meant; others ignore it.
test-all-pythons: $(STAMP) ## Run the fast tests on the other supported Pythons at hand (12 minutes each)
	@set -e; for version in $(OTHER_PYTHONS); do \
	    export PYENV_VERSION=$$version; \
	    if ! python$$version -c '' 2>/dev/null; then echo "Python $$version is not at hand: skipped"; continue; fi; \
	    echo "Python $$version"; venv=$(VENV)-$$version; \
	    test -x $$venv/bin/python || python$$version -m venv $$venv; \
	    $$venv/bin/python $(pip) --require-hashes -r requirements/dev.txt; \
	    $$venv/bin/python $(pip) --no-deps --no-build-isolation --editable .; \
	    $(call within,1500) $$venv/bin/python -m pytest -m 'not slow and not containers' -n $(WORKERS) --dist worksteal $(ARGS); \
	done

check: format-check lint types contracts audit test ## All static checks, then the fast tests: what CI runs

format: $(STAMP) ## Rewrite the code as the formatter and the safe fixes of the linter want it
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

format-check: $(STAMP)
	@$(BIN)/ruff format --check .

lint: $(STAMP) ## Lint (ruff)
	@$(BIN)/ruff check .

types: $(STAMP) ## Type-check twice (mypy, pyright)
	@$(BIN)/mypy
	@$(BIN)/pyright

contracts: $(STAMP) ## Check that imports keep to the layers (import-linter)
	@$(BIN)/lint-imports --no-logo

audit: $(STAMP) ## Look for known vulnerabilities in all locks; skipped, loudly, where OSV cannot be reached (REQUIRED=1: fails)
	@$(call within,420) $(BIN)/python .ci/advisories.py $(if $(REQUIRED),--required) requirements/*.txt

sbom: $(STAMP) ## Write dist/sbom.cdx.json (CycloneDX): what the image's lock names, with hashes and licences
	@$(BIN)/python .ci/sbom.py requirements/image.txt dist/sbom.cdx.json

screenshots: $(STAMP) ## Take the pictures of the timeline page in docs/images anew (needs Chromium)
	@A2A_EVENTS_TEST_SCREENSHOTS=docs/images $(BIN)/python -m pytest -q tests/browser/test_screenshots.py $(ARGS)

bench: $(STAMP) ## Compare with other A2A servers, one table (ARGS= for the benchmark)
	@$(BIN)/python -m bench $(ARGS)

faults: $(STAMP) ## Break a cluster under load, and judge what it did (SEED= MINUTES= TASKS= ARGS=--help)
	@$(BIN)/python -m faults $(if $(SEED),--seed $(SEED)) --minutes $(MINUTES) --tasks $(TASKS) $(ARGS)

regions: $(STAMP) ## Join two regions by a link, cut and heal it, and watch a client go on (under a minute)
	@$(call within,120) $(BIN)/python -m faults.show_regions $(ARGS)

k8s: $(STAMP) $(VENV)-policy/.installed ## Render, validate and check the manifests (needs kubectl; the first time installs checkov: minutes)
	@$(BIN)/python -m pytest -q -n $(WORKERS) tests/k8s $(ARGS)

# checkov has 100 dependencies of its own, some older than ours: its environment is apart.
$(VENV)-policy/.installed: requirements/policy.txt
	@test -x $(VENV)-policy/bin/python || $(PYTHON) -m venv $(VENV)-policy
	@$(VENV)-policy/bin/python $(pip) --require-hashes -r requirements/policy.txt
	@touch $@

image: ## Build the image a2a-events (ARGS=--build-arg PYTHON_IMAGE=... for another base)
	@docker build --tag a2a-events:$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) \
	    --build-arg COMMIT=$$(git rev-parse --short HEAD 2>/dev/null) $(ARGS) .

wheel: $(STAMP) ## Build dist/*.whl
	@rm -rf dist
	@$(BIN)/python -m hatchling build --target wheel

lock: $(STAMP) ## Resolve requirements/*.txt anew from pyproject.toml (ARGS=--upgrade for newer versions)
	@$(LOCK) --all-extras --group dev -o requirements/dev.txt pyproject.toml
	@$(LOCK) --extra server --constraints requirements/dev.txt -o requirements/runtime.txt pyproject.toml
	@$(LOCK) --extra grpc --extra jwt --extra push --extra credentials --extra signing --extra tracing --constraints requirements/dev.txt -o requirements/image.txt pyproject.toml
	@$(LOCK) --group build --constraints requirements/dev.txt -o requirements/build.txt
	@$(LOCK) --group policy -o requirements/policy.txt
	@$(LOCK) --group adk --extra a2a-sdk -o requirements/adk.txt pyproject.toml

clean: ## Remove everything that was built or installed here
	@rm -rf $(VENV) $(addprefix $(VENV)-,$(OTHER_PYTHONS) policy) dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache \
	    .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
