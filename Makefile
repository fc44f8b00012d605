# skystow: build it, show it, test it. `make` alone lists what there is.

VENV := .venv
CROSSBAR := .venv-crossbar
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := src tests docs/conf.py $(wildcard bench docs/_ext)

# make run
SITE :=
CORRUPT :=
DURATION := 30
NIGHT :=
NIGHT_CADENCE := 5
NIGHT_DIR :=

# What the tests need from Debian, as command:package.
TEST_TOOLS := strace:strace rsync:rsync unshare:util-linux setpriv:util-linux mount:mount openssl:openssl \
    systemd-analyze:systemd ssh:openssh-client /usr/sbin/sshd:openssh-server bwrap:bubblewrap \
    /usr/sbin/rabbitmqctl:rabbitmq-server redis-server:redis-server \
    mariadb-install-db:mariadb-server $(or $(lastword $(wildcard /usr/lib/postgresql/*/bin/initdb)),initdb):postgresql

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-long lint docs bench lock clean tools

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1@\2/p' Makefile | column -t -s @ 2>/dev/null \
	    || sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1   \2/p' Makefile

# ── the environment: rebuilt when what it is made of has changed ─────────────────────────────────────────────────

$(VENV)/.run: pyproject.toml constraints.txt tools/venv
	tools/venv $(VENV)
	$(PIP) install -q -c constraints.txt -e '.[fits]'
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) install -q -c constraints.txt -e '.[dev,docs]'
	touch $@

$(CROSSBAR)/.made: deploy/crossbar/constraints.txt tools/venv
	tools/venv $(CROSSBAR)
	$(CROSSBAR)/bin/python -m pip --disable-pip-version-check install -q -c deploy/crossbar/constraints.txt crossbar
	touch $@

tools:
	tools/need $(TEST_TOOLS)

# ── what people type ─────────────────────────────────────────────────────────────────────────────────────────────

run: $(VENV)/.run ## the demonstration, about 40 s (CORRUPT=1: one file is spoilt), or SITE=my.yaml until Ctrl-C
run: ## NIGHT=full: a night of 60 exposures, one each NIGHT_CADENCE=5 s; killed, it goes on with NIGHT_DIR=where it was
ifneq ($(SITE),)
	$(BIN)/skystow run "$(SITE)"
else ifneq ($(NIGHT)$(NIGHT_DIR),)
	$(BIN)/python -m skystow.simulate.night --exposures $(or $(NIGHT:full=60),60) --cadence $(NIGHT_CADENCE) \
	    $(if $(NIGHT_DIR),--directory "$(NIGHT_DIR)")
else
	$(BIN)/python -m skystow.simulate.demo --seconds $(DURATION) $(if $(CORRUPT),--corrupt)
endif

test: tools lint docs $(CROSSBAR)/.made ## every check and every test but the long ones
	$(BIN)/pytest -n 3 --dist worksteal -m "not long" tests/crash tests/system tests/docs tests/contract tests/unit

test-long: tools $(VENV)/.dev $(CROSSBAR)/.made ## the crash cross product and other long tests
	$(BIN)/pytest -n 2 -m long

lint: $(VENV)/.dev ## ruff, mypy --strict, the rules between the floors
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.dev ## the handbook, into docs/_build/html; a warning is an error
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

bench: tools $(VENV)/.dev ## measure against rsync and others; takes a while
	bench/run

lock: ## write the newest versions to constraints.txt; PYTHON=the oldest that skystow is to run on (Debian 12: 3.11.2)
	rm -rf build/lock
	tools/venv build/lock
	build/lock/bin/python -m pip install -q -e '.[dev,docs]'
	{ echo "# Versions that skystow is built and tested with. Made by \`make lock\` with $$(build/lock/bin/python -V): some"; \
	  echo "# newest versions want a newer patch of Python than Debian 12 has, so lock with the oldest. Do not edit."; \
	  build/lock/bin/python -m pip freeze -q --exclude-editable; } > build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -rf build/lock

clean: ## everything that was built; never ./run, which holds archives
	rm -rf $(VENV) $(CROSSBAR) build docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
