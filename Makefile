# `make demo` shows CaeTun at work, `make check` is what a change must pass.
# Stamps in .venv say what is installed, so that running a target again costs nothing.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# As pip does for what it installs: a start takes a third less time.
COMPILE := $(BIN)/python -m compileall -q caetun
PACKAGING := pyproject.toml constraints.txt

# program:package, for the tests that run in network namespaces
PROGRAMS := ip:iproute2 tc:iproute2 iperf3:iperf3 ping:iputils-ping nft:nftables ethtool:ethtool \
            nc:netcat-openbsd ps:procps tcpdump:tcpdump setpriv:util-linux bridge:iproute2 \
            nginx:nginx-light curl:curl openssl:openssl tinyproxy:tinyproxy-bin microsocks:microsocks \
            dnsmasq:dnsmasq-base udhcpc:udhcpc ss:iproute2

# Many tests wait, for a timer or the far end: more of them than cores.
WORKERS := $(shell echo $$(($$(nproc) + 1)))

export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: demo test check lint bench conformance soak clean

demo: $(VENV)/.demo-installed
	$(BIN)/caetun demo

check: lint test

lint: $(VENV)/.test-installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(VENV)/.test-installed $(VENV)/.system-packages
	$(BIN)/python -m pytest tests conformance -m "not (soak or slow or alone)" -n $(WORKERS) --dist loadfile
	$(BIN)/python -m pytest tests conformance -m "alone and not (soak or slow)"

conformance: $(VENV)/.test-installed $(VENV)/.system-packages
	$(BIN)/python -m pytest conformance -m "not soak"
	$(BIN)/python -m pytest tests -m "slow and not soak"

soak: $(VENV)/.test-installed $(VENV)/.system-packages
	$(BIN)/python -m pytest conformance -m soak -s

bench: $(VENV)/.test-installed $(VENV)/.system-packages
	PATH="$(CURDIR)/$(BIN):$$PATH" benchmarks/run.sh

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made: .ci/make-venv
	.ci/make-venv $(VENV)
	touch $@

$(VENV)/.demo-installed: $(VENV)/.made $(PACKAGING)
	$(PIP) --editable '.[fast]'
	$(COMPILE)
	touch $@

$(VENV)/.test-installed: $(VENV)/.made $(PACKAGING)
	$(PIP) --editable '.[fast,test]'
	$(COMPILE)
	touch $@ $(VENV)/.demo-installed

$(VENV)/.system-packages: $(VENV)/.made .ci/system-packages Makefile
	.ci/system-packages $(PROGRAMS)
	touch $@
