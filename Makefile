# Everything sets itself up: a virtual environment in .venv, made with $(PY), with this checkout installed in it.
#
#   make demo         a cluster of three nodes with agents and services, and requests while a node is killed
#   make test         the whole test suite
#   make lint         ruff, mypy, import contracts
#   make config-docs  docs/configuration.md and the samples in etc/, from the classes
#   make fuzz         malformed traffic for FUZZ_SECONDS (600)
#   make soak         long transfers and many idle connections, with an eye on memory
#   make bench        load through node and agent, beside nginx doing the same
#   make cluster-figures  how quickly five nodes notice what happens to one of them
#   make simulate     the gossip of SIMULATE_NODES (100) on a virtual clock, for SIMULATE_MINUTES (60) of its time
#   make netns        nodes in network namespaces: loss, partitions, a machine that dies; needs root, iproute2, nftables
#   make clean        remove what the above have made

PY ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable
METADATA := setup.cfg setup.py pyproject.toml

.PHONY: demo test lint format config-docs fuzz soak bench cluster-figures simulate netns clean

demo: $(VENV)/.installed
	@$(BIN)/python demo/run.py

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile tests

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

config-docs: $(VENV)/.installed
	$(BIN)/python -m pico_twisted.config.generate

fuzz: $(VENV)/.installed-test
	FUZZ_SECONDS=$${FUZZ_SECONDS:-600} $(BIN)/python tests/fuzz/run.py

soak: $(VENV)/.installed-test
	$(BIN)/python tests/soak/run.py

bench: $(VENV)/.installed-test
	$(BIN)/python benchmarks/run.py

cluster-figures: $(VENV)/.installed-test
	$(BIN)/python tests/cluster_figures/run.py

simulate: $(VENV)/.installed-test
	$(BIN)/python -m tests.simulator.run \
	  --nodes $${SIMULATE_NODES:-100} --endpoints $${SIMULATE_ENDPOINTS:-10000} --loss $${SIMULATE_LOSS:-0.1} \
	  --minutes $${SIMULATE_MINUTES:-60} --seed $${SIMULATE_SEED:-1}

netns: $(VENV)/.installed-test
	$(BIN)/python tests/netns/run.py

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	rm -f twisted/plugins/dropin.cache
	find pico_twisted twisted tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp says what is installed; a change of the metadata installs anew.

$(BIN)/python:
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed. $(PY) is not that: name another one, as in make PY=python3.12" >&2; exit 1; }
	$(PY) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: $(BIN)/python $(METADATA)
	$(INSTALL) .
	@touch $@

$(VENV)/.installed-test: $(BIN)/python $(METADATA)
	$(INSTALL) '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: $(BIN)/python $(METADATA)
	$(INSTALL) '.[test,dev]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test
