# Two commands do everything: `make demo` and `make test`. Both build .venv on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_ARGS ?=
DEMO_ARGS ?=
export OMP_WAIT_POLICY ?= passive

.PHONY: demo test unit check format results install clean

# The environment is rebuilt only when what it is made from changes.
$(VENV)/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	touch $@

install: $(VENV)/.dev

demo: $(VENV)/.core
	$(BIN)/visavis demo $(DEMO_ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy

unit: $(VENV)/.dev
	$(BIN)/pytest -q -n 2 tests/unit tests/conformance tests/parity

test: check
	$(BIN)/pytest -q -n 2 --durations=10

format: $(VENV)/.dev
	$(BIN)/ruff check --fix src tests benchmarks
	$(BIN)/ruff format src tests benchmarks

# Tables of results/ in README.md, docs/results.md and docs/aoq.md, of benchmarks/machines/*.csv in docs/speed.md.
results: $(VENV)/.core
	$(BIN)/python -m benchmarks.results_table
	$(BIN)/python -m benchmarks.speed_table

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
