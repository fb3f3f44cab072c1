# Everything is done in .venv inside this folder; `make` alone lists the commands.

PYTHON ?= python3
VENV := .venv
# Exact versions that passed the tests; `make install CONSTRAINTS=` takes the newest that pyproject.toml allows.
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_ARGS ?=
TEST_ARGS ?=
BENCH_ARGS ?=
# A file of tests stays in one process: what it exports once is used by all its tests. Files go in the order of
# tests/conftest.py, not those with most tests first: the longest have few.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder

# Threads that wait must not spin: on a machine with few cores they take them from those that work.
OMP_WAIT_POLICY ?= PASSIVE
export OMP_WAIT_POLICY

.DEFAULT_GOAL := help
.PHONY: help install upgrade demo test test-all coverage lint bench-step bench-run bench-table bench-export bench-devices bench-pruners bench-budgets bench-depth-width bench-speedup bench-measures bench-learned bench-faults clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv and install wdp-edge into it, once and again when pyproject.toml changes

$(STAMP): pyproject.toml $(CONSTRAINTS)
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "error: there is no $(PYTHON)."; \
	  echo "hint: install Python 3.11, 3.12 or 3.13, or name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; } >&2
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { \
	  echo "error: wdp-edge needs Python 3.11, 3.12 or 3.13; $(PYTHON) is $$("$(PYTHON)" --version)."; \
	  echo "hint: name another one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; } >&2
	test -x $(BIN)/pip || "$(PYTHON)" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check $(addprefix --constraint ,$(CONSTRAINTS)) --editable '.[dev]'
	@touch $@

# torch names its own CUDA packages exactly, and its CPU build has none: they are left out.
upgrade: $(STAMP) ## take the newest versions that pyproject.toml allows and write constraints.txt; run `make test` after it
	$(BIN)/python -m pip install --disable-pip-version-check --upgrade --upgrade-strategy eager --editable '.[dev]'
	$(BIN)/python -m pip freeze --exclude-editable >$(VENV)/freeze.txt
	( echo '# Versions that passed `make test` together; written by `make upgrade`.'; \
	  grep -vE '^(nvidia-|cuda-|triton)' $(VENV)/freeze.txt | sed 's/+.*//' ) >constraints.txt.new
	mv constraints.txt.new constraints.txt
	@touch $(STAMP)

demo: $(STAMP) ## the whole loop on handwritten digits; DEMO_ARGS=--short for less
	$(BIN)/wdp-edge demo $(DEMO_ARGS)

test: $(STAMP) ## the tests on two cores, without those marked slow; TEST_ARGS="-k recipe" for some
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow" $(TEST_ARGS)

test-all: $(STAMP) ## every test
	$(BIN)/python -m pytest $(PARALLEL) $(TEST_ARGS)

# Timings are other ones under a tracer: figures of this are no results.
coverage: $(STAMP) ## the tests again, with the share of lines and branches that they run; TEST_ARGS="tests/io" for some
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow" --cov --cov-report=term:skip-covered $(TEST_ARGS)

lint: $(STAMP) ## ruff and mypy
	$(BIN)/python -m pytest -q tests/test_quality.py

bench-step: $(STAMP) ## a learning step against a plain fine-tuning step: time and peak memory
	$(BIN)/python benchmarks/bench_step.py $(BENCH_ARGS)

bench-run: $(STAMP) ## where the time of prune --images 0 goes: seconds and share of every stage
	$(BIN)/python benchmarks/bench_run.py $(BENCH_ARGS)

bench-table: $(STAMP) ## predicted against measured latency of structures drawn as selection does
	$(BIN)/python benchmarks/bench_table.py $(BENCH_ARGS)

bench-devices: $(STAMP) ## instruction counts of an emulator against measured time
	$(BIN)/python benchmarks/bench_devices.py $(BENCH_ARGS)

bench-export: $(STAMP) ## export ViT-S/16 at 224 px to all targets and prove every file
	$(BIN)/python benchmarks/bench_export.py $(BENCH_ARGS)

bench-pruners: $(STAMP) ## wdp-edge against other pruners at the same latency; BENCH_ARGS=--quick for digits
	$(BIN)/python benchmarks/bench_pruners.py $(BENCH_ARGS)

bench-budgets: $(STAMP) ## ten budgets, and what each file takes of its own
	$(BIN)/python benchmarks/bench_budgets.py $(BENCH_ARGS)

bench-depth-width: $(STAMP) ## accuracy against latency: fewer blocks, narrower blocks, both
	$(BIN)/python benchmarks/bench_depth_width.py $(BENCH_ARGS)

bench-speedup: $(STAMP) ## how much of the saved work is saved time, for ViT-S/16 at 224 px
	$(BIN)/python benchmarks/bench_speedup.py $(BENCH_ARGS)

bench-measures: $(STAMP) ## by which measure candidates are ordered as on new images; needs BENCH_ARGS='--project FOLDER'
	$(BIN)/python benchmarks/bench_measures.py $(BENCH_ARGS)

bench-learned: $(STAMP) ## whether learning widths brings anything; needs BENCH_ARGS='--project FOLDER'
	$(BIN)/python benchmarks/bench_learned.py $(BENCH_ARGS)

bench-faults: $(STAMP) ## kills, full disks, two commands at once, mutated input; goes on where it stopped
	$(BIN)/python benchmarks/bench_faults.py $(BENCH_ARGS)

clean: ## remove .venv and caches
	rm -rf $(VENV) .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
