#!/usr/bin/env bash
# Checks the contracts: format and lint, tests with the gas snapshots, slither, halmos. Called by `make test-contracts`;
# the first time it installs slither and halmos from PyPI, each in an environment of its own.
set -euo pipefail
cd "$(dirname "$0")/../contracts"
root=$(cd .. && pwd)
environments=$root/runs/environments
export PATH="$root/hardhat-free-local/node_modules/@foundry-rs/forge-linux-amd64/bin:$root/.venv/bin:$PATH"

say() { echo "contracts: $*" >&2; }

# environment NAME PACKAGE: the pinned package in $environments/NAME
environment() {
  local pinned
  pinned=$(grep "^$2==" requirements.lock)
  if [ "$(cat "$environments/$1/.ready" 2>/dev/null)" != "$pinned" ]; then
    say "installing $pinned"
    python3 -m venv "$environments/$1"
    "$environments/$1/bin/python" -m pip install --quiet "$pinned"
    echo "$pinned" > "$environments/$1/.ready"
  fi
}
environment slither slither-analyzer
environment halmos halmos

say "format, lint" # the linter compiles without bytecode: not into the build that the tests deploy from
forge fmt --check
FOUNDRY_OUT=$root/runs/lint/out FOUNDRY_CACHE_PATH=$root/runs/lint/cache forge lint src

say "tests, gas snapshots"
mkdir -p "$root/runs"
FORGE_SNAPSHOT_CHECK=true forge test "$@" | tee "$root/runs/forge.txt"
grep -q ", 0 failed, 0 skipped" "$root/runs/forge.txt"

say "slither" # any finding fails; what is excluded and why: README.md
FOUNDRY_OUT=$root/runs/slither/out FOUNDRY_CACHE_PATH=$root/runs/slither/cache \
  "$environments/slither/bin/slither" . --config-file slither.config.json

say "halmos" # its own build, of the libraries alone; it looks for its solver in the environment that is active
VIRTUAL_ENV=$environments/halmos FOUNDRY_SRC=test/symbolic FOUNDRY_TEST=test/symbolic FOUNDRY_VIA_IR=false FOUNDRY_OUT=../runs/halmos/out \
  FOUNDRY_CACHE_PATH=../runs/halmos/cache \
  "$environments/halmos/bin/halmos" --forge-build-out ../runs/halmos/out --contract LibrariesCheck --loop 4
