# Every target makes its own .venv from requirements.lock first; nothing but git, make and Python >= 3.11 is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: full smoke test quick portable bench lint format types report docs browser clean

full: $(READY)  ## the rows that have settings of their own on the embedded data, then the comparison table
	$(BIN)/python -m harness.run --suite full

smoke: $(READY)  ## everything end to end, in seconds
	$(BIN)/python -m harness.run --suite smoke

test: $(READY)  ## all tests
	OMP_NUM_THREADS=1 $(BIN)/pytest --benchmark-disable -n 2 --dist loadfile  # a thread a worker: more would fight

quick: $(READY)  ## tests that take no time
	OMP_NUM_THREADS=1 $(BIN)/pytest --benchmark-disable -n 2 --dist loadfile -m "not slow"

portable: $(READY)  ## the same with the plainest kernels: no test may rest on one processor's last bits
	ATEN_CPU_CAPABILITY=default NUMBA_CPU_NAME=generic OMP_NUM_THREADS=1 $(BIN)/pytest --benchmark-disable -n 2 --dist loadfile -m "not slow"

bench: $(READY)  ## speed, with repeats, and the ratios that count beside their goals
	mkdir -p .benchmarks
	OMP_NUM_THREADS=2 $(BIN)/pytest tests/perf --benchmark-only --benchmark-sort=name \
		--benchmark-columns=median,iqr,rounds --benchmark-json=.benchmarks/bench.json
	$(BIN)/python -m tests.perf.ratios .benchmarks/bench.json

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY)
	$(BIN)/pyright

report: $(READY)  ## are the committed tables, figures and texts those of the committed records?
	for folder in results/reference/*/; do $(BIN)/python -m harness.report --check "$$folder" || exit 1; done
	$(BIN)/python -m harness.report.texts --check

docs: $(READY)  ## pages of all modules from their docstrings, in build/api; a warning is an error
	$(BIN)/python -W error -m pdoc --output-directory build/api harness models baselines ablations

browser: build/axe/package/axe.min.js  ## Debian's Chromium for the tests of the page, and axe-core where there is npm; without them they are skipped
	@command -v chromium >/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq --no-install-recommends chromium; }

build/axe/package/axe.min.js:
	mkdir -p build/axe
	-command -v npm >/dev/null && cd build/axe && npm pack --silent axe-core@4.14.1 && tar xzf axe-core-4.14.1.tgz

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it with PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $(READY)

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis .benchmarks
