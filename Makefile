# Every target is the whole set-up: virtual environment, locked dependencies, services. A second run reuses the first's.
# VENV and HEADWORKS_CACHE_DIR may point elsewhere; nothing here needs root, and all of it works as root.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: browser storm-alarms bench-dashboards help setup services peers demo up test test-unit test-faults test-deliveries check bench fuzz lock dashboards clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

setup:  ## the virtual environment and the locked Python dependencies
	@$(PYTHON) deploy/bootstrap.py --venv $(VENV)

services: setup  ## fetch TimescaleDB, mosquitto and libcoap once into the user's cache
	@$(BIN)/python -m deploy.provision --link $(BIN)

demo: services  ## one day of a simulated plant, checked against ground truth; writes build/demo.json
	@$(BIN)/headworks demo

up: services  ## the same platform, kept running until Ctrl-C
	@$(BIN)/headworks up

peers: setup  ## client libraries of others, each in a folder of its own, for the tests that are driven by them
	@$(BIN)/python -m tests.peers

large-peers: setup  ## WNTR (430 MB), for the cross-check of the hydraulics
	@$(BIN)/python -m tests.peers large

test: services peers  ## every test, on a real TimescaleDB and a real broker; four files at a time, as much is waiting
	@HEADWORKS_REQUIRE_SERVICES=1 $(BIN)/python -m pytest -n 4 --dist loadfile

test-unit: setup  ## only the pure tests, in seconds
	@$(BIN)/python -m pytest tests/unit

test-faults: services  ## break everything again and again, for half an hour; writes build/faults.json
	@HEADWORKS_REQUIRE_SERVICES=1 $(BIN)/python -m pytest tests/acceptance/faults -m faults

test-deliveries: setup  ## the order of arrival once more: ten thousand random deliveries over random rules
	@$(BIN)/python -m pytest tests/unit/alerts/test_engine.py tests/unit/alerts/test_groups.py \
	    tests/unit/alerts/test_keeping.py tests/unit/alerts/test_feeding.py -m deliveries

check: setup  ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: services  ## measure, each figure beside its limit; writes build/bench.json
	@$(BIN)/python -m tests.benchmarks

fuzz: setup  ## fuzz every decoder with a million inputs each (FUZZ="--runs N TARGET" for less); writes build/fuzz.json
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-fuzz.lock
	@nice $(BIN)/python -m tests.fuzz $(FUZZ)

bench-dashboards: services  ## every query of every dashboard on a year of 1,000 devices; adds to build/bench.json
	@$(BIN)/python -m tests.benchmarks.bench_dashboards

bench-storage: services  ## twenty million readings: dashboards' queries, bytes a reading; adds to build/bench.json
	@$(BIN)/python -m tests.benchmarks.bench_storage

storm-alarms: services  ## 10,000 alarms in a minute: messages sent, and the console in a browser; writes build/storm-alarms.json
	@$(BIN)/python -m tests.benchmarks.storm_alarms

dashboards: setup  ## build the dashboards' JSON from their code
	@$(BIN)/python -m dashboards

lock:  ## write requirements*.lock anew (needs uv on the PATH)
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-annotate --no-header -o requirements.lock
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-annotate --no-header -c requirements.lock -o requirements-dev.lock
	uv pip compile --group browser --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-annotate --no-header -o requirements-browser.lock
	uv pip compile --group fuzz --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-annotate --no-header -o requirements-fuzz.lock

browser: setup  ## Playwright, for the tests of the console; the browser is Debian's package chromium
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip -q
	@$(BIN)/python -m pip install -q --require-hashes -r requirements-browser.lock

clean:  ## remove what was built here (not the cache, not your data)
	rm -rf build dist $(VENV)
