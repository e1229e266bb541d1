# Everything sets itself up: a virtual environment in .venv, made with $(PY), with this checkout installed in it.
# `make help` lists the targets: those with a comment behind them.

PY ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS ?= $(wildcard constraints.txt)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS:%=--constraint %) --editable
METADATA := setup.cfg setup.py pyproject.toml $(CONSTRAINTS)

# Tests that start processes mostly wait for them: two workers for each core. The others are busy all the time.
CORES := $(shell nproc)
PYTEST := $(BIN)/python -m pytest

# The workers of pytest compile 450 files of tests, and the hundreds of processes that these start compile the product:
# once, and not each of them anew, also where images of containers have told Python to keep nothing.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help check quick-tests demo test long-tests properties lint format config-docs man-pages states-docs walk fuzz soak programs alarms dashboards conformance websockets examples docs-commands questions bench cluster-figures simulate odd-requests attacks netns faults systemd dist image chart deb clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS='	' read -r name text; do \
	  printf '  make %-16s %s\n' "$$name" "$$text"; done

check: $(VENV)/.installed-dev  ## lint, and all tests that start no node, with few examples: about a minute
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint quick-tests

quick-tests: $(VENV)/.installed-test
	$(PYTEST) -n $$(($(CORES) + 1)) -m "not processes" --hypothesis-profile=dev tests

test: $(VENV)/.installed-test  ## the test suite, but for what `make long-tests` runs
	$(PYTEST) -n $$(($(CORES) * 2)) -m "not long" tests

long-tests: $(VENV)/.installed-test  ## tests that start many programs and wait for them: commands, pages and tracing of real clusters
	$(PYTEST) -n $$(($(CORES) * 2)) -m long tests

properties: $(VENV)/.installed-test  ## the tests of properties, with a thousand examples each, new ones every time
	$(PYTEST) -n $(CORES) -m hypothesis --hypothesis-profile=nightly tests

demo: $(VENV)/.installed  ## a cluster of three nodes with agents and services, and requests while a node is killed
	@$(BIN)/python -m demo.run

lint: $(VENV)/.installed-dev  ## ruff, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev  ## what ruff can put right by itself
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

config-docs: $(VENV)/.installed  ## docs/configuration.md and the samples in etc/, from the classes
	$(BIN)/python -m tools.config_docs

dashboards: $(VENV)/.installed  ## etc/grafana/*.json, from the tables in tools/grafana_dashboards.py
	$(BIN)/python -m tools.grafana_dashboards

man-pages: $(VENV)/.installed  ## the man pages and completions in etc/, from picoctl and the classes
	$(BIN)/python -m tools.man_pages

states-docs: $(VENV)/.installed  ## docs/development/states.md, from the states in the code
	$(BIN)/python -m tools.states_docs

walk: $(VENV)/.installed-test  ## the calls of ours that one small request makes, in their order
	$(BIN)/python benchmarks/walk.py --trace

fuzz: $(VENV)/.installed-test  ## malformed traffic for FUZZ_SECONDS (600)
	FUZZ_SECONDS=$${FUZZ_SECONDS:-600} $(BIN)/python -m tests.fuzz.run

soak: $(VENV)/.installed-test  ## long transfers and many idle connections, with an eye on memory
	$(BIN)/python -m tests.soak.run

programs: $(VENV)/.installed-test  ## docker, chromium, curl, postgresql, redis, ssh, rsync, nc, socat and haproxy through nodes, zsh, fish, man and groff; needs all of them
	$(BIN)/python -m tests.programs.run

alarms: $(VENV)/.installed-dev  ## each alarm by a real fault, each panel and /sd, at a real Prometheus; needs prometheus
	$(BIN)/python -m tests.monitoring.run

conformance: $(VENV)/.installed-test  ## all that RFC 9113 and RFC 7541 ask of a server, of a node without and with TLS
	$(BIN)/python -m tests.conformance.run

websockets: $(VENV)/.installed-test  ## Autobahn's suite through Pico, over HTTP/1.1 and HTTP/2: WSTEST=…/wstest; needs nghttpx; an hour
	$(BIN)/python -m tests.websockets.run --wstest $(WSTEST)

examples: $(VENV)/.installed-test  ## the programs of docs/python.md, from PyPI, each in an environment of its own; needs the network and ssh
	$(BIN)/python -m tests.python_programs.run

docs-commands: $(VENV)/.installed-test  ## the commands of docs/ that one machine can run, in a fresh environment; says which target runs the others
	$(BIN)/python -m tests.pages.run

questions: $(VENV)/.installed-test  ## the questions of docs/questions.md, asked of a cluster in which each answer was planted
	$(BIN)/python -m tests.questions.run

bench: $(VENV)/.installed-test  ## load through node and agent, beside nginx doing the same
	$(BIN)/python -m benchmarks.run

cluster-figures: $(VENV)/.installed-test  ## how quickly five nodes notice what happens to one of them, and what a restart costs
	$(BIN)/python -m tests.cluster_figures.run

simulate: $(VENV)/.installed-test  ## gossip of SIMULATE_NODES (100) on a virtual clock for SIMULATE_MINUTES (60) of its time; fails on a broken promise. With SIMULATE_HOSTS: its size
ifdef SIMULATE_HOSTS
	$(BIN)/python -m tests.simulator.size \
	  --hosts $(SIMULATE_HOSTS) --workers $${SIMULATE_WORKERS:-1} --endpoints $${SIMULATE_ENDPOINTS:-100000} \
	  --changes $${SIMULATE_CHANGES:-500} --seconds $${SIMULATE_SECONDS:-20} --seed $${SIMULATE_SEED:-1}
else
	$(BIN)/python -m tests.simulator.run \
	  --nodes $${SIMULATE_NODES:-100} --endpoints $${SIMULATE_ENDPOINTS:-10000} --loss $${SIMULATE_LOSS:-0.1} \
	  --minutes $${SIMULATE_MINUTES:-60} --seed $${SIMULATE_SEED:-1}
endif

odd-requests: $(VENV)/.installed-test  ## which odd requests nginx and HAProxy serve, for the table in tests/odd_requests
	$(BIN)/python -m tests.odd_requests.record

attacks: $(VENV)/.installed-test  ## what nginx and HAProxy make of the attacks, for the tables in tests/attacks
	$(BIN)/python -m tests.attacks.record

netns: $(VENV)/.installed-test  ## nodes in network namespaces: loss, partitions, a machine that dies; needs root, iproute2, nftables
	$(BIN)/python -m tests.netns.run

faults: $(VENV)/.installed-test  ## one fault after the other under constant load, and a table of what clients saw; needs root, iproute2, nftables, haproxy; 20 minutes
	$(BIN)/python -m tests.faults.run

systemd: $(VENV)/.installed-test  ## docs/run.md and docs/cluster.md, command for command, on three machines booted with systemd; needs root, debootstrap, systemd-container
	$(BIN)/python -m tests.booted.run

dist: $(VENV)/.installed-test  ## sdist and wheel in dist/, held against twine, and the demo out of the sdist; needs the network
	$(BIN)/python -m tests.packages.dist

image: $(VENV)/.installed-test  ## the image of packaging/Containerfile, run as strictly as can be; needs root, podman, debootstrap
	$(BIN)/python -m tests.packages.image

chart: $(VENV)/.installed-test  ## the chart of packaging/helm, by Helm's code and Kubernetes' schemas; needs the network
	$(BIN)/python -m tests.packages.chart

deb: $(VENV)/.installed-test  ## a Debian package in dist/, and its life on a booted machine; needs root, debootstrap, systemd-container, lintian
	$(BIN)/python -m tests.packages.debian

clean:  ## remove what the others have made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	rm -f twisted/plugins/dropin.cache
	find pico_twisted twisted tests tools benchmarks demo -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp says what is installed; a change of the metadata installs it again.

$(BIN)/python:
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed. $(PY) is not that: name another one, as in make PY=python3.12" >&2; exit 1; }
	$(PY) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: $(BIN)/python $(METADATA)
	$(INSTALL) '.[http2]'
	@touch $@

$(VENV)/.installed-test: $(BIN)/python $(METADATA)
	$(INSTALL) '.[test,http2,otlp]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: $(BIN)/python $(METADATA)
	$(INSTALL) '.[test,dev,http2,otlp]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test
