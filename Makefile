SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
TREES := $(wildcard benchmarks docs/examples litestar patch tests tools)
PATCH := $(shell find patch -name '*.py')
EDITED := $(patsubst patch/%,build/editable/%,$(filter patch/litestar/%,$(PATCH)))

# The first interpreter that is new enough; PYTHON=... overrides it.
IS_NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$python" -c '$(IS_NEW_ENOUGH)' 2>/dev/null && echo "$$python" && break; done)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.PHONY: help demo serve test lint types docs bench load soak diff install FORCE

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
		while IFS='|' read -r target text; do printf '  make %-10s %s\n' "$$target" "$$text"; done

demo: $(STAMPS)/demo ## Run the whole story against a local issuer, check every step, end within a minute
	$(BIN)/python tools/demo.py $(ARGS)

serve: $(STAMPS)/demo ## Leave the demo's application and issuer running, print a curl line with a valid token
	$(BIN)/python tools/demo.py --serve $(ARGS)

test: $(STAMPS)/test ## Run the tests; branch coverage below 100 % fails (ARGS="--no-cov -k name" to run a few)
	$(BIN)/python -m pytest -n auto --dist loadgroup --cov $(ARGS)
	$(if $(ARGS),,$(BIN)/python tools/diff.py --executed)

lint: $(STAMPS)/lint ## Run ruff, slotscheck and typos
	$(BIN)/ruff check
	$(BIN)/ruff check --select F,I,RUF022,RUF023 $(EDITED)
	$(BIN)/ruff format --check . $(EDITED)
	$(BIN)/slotscheck -m litestar.security.jwt
	$(BIN)/typos $(TREES) README.md CHANGELOG.rst

types: $(STAMPS)/types $(STAMPS)/test $(STAMPS)/bench ## Run mypy and pyright
	$(BIN)/mypy hatch_build.py $(TREES)
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(STAMPS)/docs ## Build the documentation into docs/_build/html; warnings fail
	$(BIN)/sphinx-build -E -W -n --keep-going -b html docs docs/_build/html $(ARGS)

bench: $(STAMPS)/bench ## Measure speed side by side with what people use today
	$(BIN)/python benchmarks/bench.py $(ARGS)

load: $(STAMPS)/bench ## Measure requests per second under uvicorn with wrk (Debian has it in a package)
	$(BIN)/python benchmarks/load.py $(ARGS)

soak: $(STAMPS)/bench ## Send mixed traffic for two minutes, with rotations and outages (ARGS="--seconds 600" for longer)
	$(BIN)/python benchmarks/soak.py $(ARGS)

diff: $(STAMPS)/package ## Show what changes in Litestar's own files (ARGS=--stat for a summary)
	$(BIN)/python tools/diff.py $(ARGS)

install: $(patsubst requirements/%.txt,$(STAMPS)/%,$(wildcard requirements/*.txt)) ## Install all that the other targets need

$(STAMPS)/%: requirements/%.txt $(STAMPS)/package
	$(BIN)/pip install -q -r $<
	@touch $@

# Without a node on the machine, pyright runs on the one from the package registry.
$(STAMPS)/types: requirements/types.txt $(STAMPS)/package
	$(BIN)/pip install -q -r $<
	command -v node >/dev/null || $(BIN)/pip install -q "pyright[nodejs]"
	@touch $@

# The editable package consists of edited files and of links in build/. A new file of the repository needs a link.
LINKED := $(notdir $(wildcard build/editable/litestar/security/jwt/*))
UNLINKED := $(filter-out $(LINKED) __pycache__,$(notdir $(wildcard litestar/security/jwt/*)))

$(STAMPS)/package: pyproject.toml hatch_build.py $(PATCH) $(if $(UNLINKED),FORCE)
	@[[ -n "$(PYTHON)" ]] && "$(PYTHON)" -c '$(IS_NEW_ENOUGH)' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=<interpreter>" >&2; exit 2; }
	[[ -x $(BIN)/python ]] || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/pip install -q -e ".[jwks]"
	@mkdir -p $(STAMPS) && touch $@
