# make demo    everything once, for real (DATASET=breast-cancer|digits|fashion-mnist)
# make test    linting, types, contracts, unit, property and integration tests
SHELL := /bin/bash
DATASET ?= breast-cancer
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: setup demo test lint test-contracts accuracy vectors clean

setup:
	@scripts/setup.sh

demo: setup
	@roundledger demo --dataset $(DATASET) --dir runs/demo

test: lint
	@pytest -n 2

lint: setup
	@ruff format --check .
	@ruff check .
	@mypy
	@lint-imports

test-contracts: setup
	@pytest tests/integration/test_contracts.py

# Accuracy beside dense federated averaging, three seeds.
accuracy: setup
	@python -m benchmarks.accuracy

clean:
	rm -rf runs contracts/cache contracts/out .pytest_cache .mypy_cache .ruff_cache .hypothesis
