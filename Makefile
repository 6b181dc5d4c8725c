# make demo         everything once, for real (DATASET=breast-cancer|digits|fashion-mnist)
# make test         linting, types, contracts, unit, property and integration tests
# make reliability  attacks, crashes, damaged input, a soak: the table that README quotes (half an hour; LONG=1 for hours)
# make soak         eight nodes and a hundred rounds, under kills, reorganisations, dropped calls and late blobs
# make bench        every measurement that README quotes, into benchmarks/results (six hours; PART=accuracy for one part, GO_ON=1 if that was cut off)
# make bench-quick  the short version, into runs/bench-quick (under ten minutes)
SHELL := /bin/bash
DATASET ?= breast-cancer
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: setup setup-bench demo test lint test-contracts reliability soak bench bench-quick clean

setup:
	@scripts/setup.sh

setup-bench: setup
	@scripts/setup.sh bench

demo: setup
	@roundledger demo --dataset $(DATASET) --dir runs/demo

test: lint
	@scripts/test.sh

lint: setup
	@ruff format --check .
	@ruff check .
	@mypy
	@lint-imports

test-contracts: setup
	@scripts/contracts.sh

reliability: setup
	@python -m tests.reliability $(if $(LONG),--long)

soak: setup
	@python -m tests.reliability.soak

bench: setup-bench
	@python -m benchmarks.run $(if $(PART),--part $(PART)) $(if $(GO_ON),--go-on)

bench-quick: setup-bench
	@python -m benchmarks.run --quick

clean:
	rm -rf runs contracts/cache contracts/out .pytest_cache .mypy_cache .ruff_cache .hypothesis
