# Two commands are enough: `make demo` to see it, `make test` to trust it. `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
WHICH_PYTHON := import sys; print(sys.base_prefix, sys.version)
PEERS := $(patsubst bench/ssh/requirements/%.txt,bench/ssh/.venv/%/.installed,$(wildcard bench/ssh/requirements/*.txt))
PACKAGES := openssh-server sudo haproxy socat netcat-openbsd curl prometheus-alertmanager docker.io busybox-static chromium \
  fonts-noto-color-emoji

.PHONY: help demo test lint bench-ssh lock packages clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z.-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(STAMP) ## start Sickbay with a pretend Slack and a pretend fleet; prints one address
	@$(VENV)/bin/sickbay demo

test: packages lint ## install what the tests need (Debian, root), then lint, types, import floors and all tests (ARGS=... goes to pytest)
ifdef ARGS
	$(VENV)/bin/pytest $(ARGS)
else # the stories mostly wait: they go beside the rest, and are told after it
	@$(VENV)/bin/pytest tests/stories >$(VENV)/stories.log 2>&1 & stories=$$!; \
	$(VENV)/bin/pytest --ignore tests/stories; rooms=$$?; \
	wait $$stories || rooms=$$?; cat $(VENV)/stories.log; exit $$rooms
endif

lint: $(STAMP) ## style, types and import floors
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench-ssh: $(STAMP) $(PEERS) ## SSH beside its peers, which are installed first (ARGS="--hosts 100 --only ours,asyncssh")
	@.ci/packages openssh-server openssh-client pdsh || true
	$(VENV)/bin/python -m bench.ssh $(ARGS)

bench/ssh/.venv/%/.installed: bench/ssh/requirements/%.txt # what cannot be installed is left out by name
	@rm -rf $(@D)
	@echo "Installing from $< into $(@D) ..."
	@{ $(PYTHON) -m venv $(@D) && $(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $< \
	  && touch $@; } || rm -rf $(@D)

packages: # services are installed and not started; without root the tests name what they leave out
	@.ci/packages $(PACKAGES)

$(VENV): $(STAMP) ## the virtual environment, from requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(1)' || { \
	  echo "Sickbay needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1)." \
	       "Next: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@test "$$($(VENV)/bin/python -c '$(WHICH_PYTHON)' 2>&1)" = "$$($(PYTHON) -c '$(WHICH_PYTHON)')" || rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) cannot make a virtual environment. Next, on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing from requirements.lock into $(VENV) ..."
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

lock: ## write requirements.lock anew from pyproject.toml (needs pip-compile, from pip-tools)
	pip-compile --generate-hashes --strip-extras --extra build --extra demo --extra test --no-emit-index-url \
	  --no-emit-trusted-host --no-emit-find-links --no-annotate --no-header --allow-unsafe \
	  --output-file requirements.lock pyproject.toml

clean: ## remove the virtual environment and all caches
	rm -rf $(VENV) bench/ssh/.venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find bot tests runbooks bench -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
