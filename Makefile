# The few commands of this project; each installs what it needs first.
#
#   make run      show the relay at work: encrypts a first message, then serves as an outgoing mail server
#   make check    what must hold before every commit: format, lint, types, unit tests (no programs beyond Python)
#   make test     all tests, with real Postfix, Dovecot, swaks, gpg and strace; skips what is not installed
#   make fuzz     half an hour of altered octets for everything that reads what strangers send; SECONDS per target
#   make bench    messages per second and CPU per message
#   make clean    remove everything that these commands made here
#
# Debian packages are installed where make runs as root; elsewhere the missing ones are named.
# What mail clients showed in the tests is kept in build/artefacts/clients.
# RELAY_TEST_STRICT=1 turns a skipped test into a failure, WORKERS=0 runs the tests in one process.

PYTHON  ?= python3
WORKERS ?= 2
SECONDS ?= 70
BIN     := .venv/bin
STAMP   := .venv/installed
READERS := .venv/readers/installed

RUN_PACKAGES  := gnupg
NODE          := $(if $(shell command -v npm 2>/dev/null),,npm)
TEST_PACKAGES := gnupg postfix dovecot-core swaks libnet-ssleay-perl strace openssl \
	knot knot-dnsutils unbound nginx-light gpg-wks-client slapd postgresql \
	thunderbird xvfb neomutt tmux notmuch \
	sq sqop gosop rnp python3-pgpy $(NODE)
BENCH_PACKAGES := gnupg postfix

.PHONY: run check test fuzz bench clean install run-packages test-packages bench-packages
.DEFAULT_GOAL := help

.PHONY: help
help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

run: $(STAMP) run-packages
	@$(BIN)/relay demo

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -m "not system" -n $(WORKERS) --dist loadfile tests/unit tests/test_*.py

test: $(STAMP) test-packages $(READERS)
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

fuzz: $(STAMP)
	@$(BIN)/python -m tests.fuzz all $(SECONDS)

bench: $(STAMP) bench-packages
	@$(BIN)/python -m tests.bench

install: $(STAMP)

clean:
	rm -rf .venv .demo dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find relay tests -name __pycache__ -prune -exec rm -rf {} +

# ------------------------------------------------------------------- the environment

# Debian keeps `venv` in a package of its own. A half-made environment is made anew.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(MAKE) --no-print-directory python-packages
	@test -x $(BIN)/python || { echo "making .venv (once) …"; $(PYTHON) -m venv --clear .venv; }
	@echo "installing Python packages (once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --use-pep517 --editable '.[dev]'
	@touch $@

# What reads in the tests and comes by npm; without npm the tests that need it say so. There is no lock file,
# which would name the registry: the versions are exact, and the packages have no dependencies and run no scripts.
$(READERS): tests/reader_programs/package.json | $(STAMP) test-packages
	@if ! command -v npm >/dev/null; then exit 0; fi; \
	echo "installing npm packages (once) …"; \
	mkdir -p $(@D) && cp $< $(@D) && cd $(@D) \
		&& npm install --loglevel=error --no-package-lock --ignore-scripts --no-audit --no-fund </dev/null && touch $(@F)

# $(call packages,NAMES): installs the Debian packages that are missing, or names them where it may not.
# The lists of packages are fetched only if installing fails without. No package may start its server: the tests
# start their own (policy-rc.d is Debian's way to say so; slapd and Postfix get no configuration either).
define packages
	@missing=$$(for name in $(1); do \
		dpkg-query -W -f '$${Status}' $$name 2>/dev/null | grep -q 'ok installed' || echo $$name; done); \
	missing=$$(echo $$missing); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then \
		echo "not installed: $$missing (make installs Debian packages where it runs as root)"; exit 0; fi; \
	echo "installing $$missing (once) …"; \
	export DEBIAN_FRONTEND=noninteractive; \
	case " $$missing " in *" postfix "*) \
		echo 'postfix postfix/main_mailer_type select No configuration' | debconf-set-selections;; esac; \
	case " $$missing " in *" slapd "*) \
		echo 'slapd slapd/no_configuration boolean true' | debconf-set-selections;; esac; \
	if [ ! -e /usr/sbin/policy-rc.d ]; then \
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT; \
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d; fi; \
	apt="apt-get install -qq -y --no-install-recommends $$missing"; \
	log=$$(mktemp); \
	{ $$apt || { apt-get update -qq && $$apt; }; } >$$log 2>&1 </dev/null || { cat $$log >&2; exit 1; }; \
	rm -f $$log
endef

.PHONY: python-packages
python-packages: ; $(call packages,python3-venv)
run-packages:    ; $(call packages,$(RUN_PACKAGES))
test-packages:   ; $(call packages,$(TEST_PACKAGES))
bench-packages:  ; $(call packages,$(BENCH_PACKAGES))
