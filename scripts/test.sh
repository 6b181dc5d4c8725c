#!/usr/bin/env bash
# All tests: the contracts' in the background, the others in front, since neither keeps two cores busy alone. Called by
# `make test`. Whatever is given is passed on to pytest.
set -umo pipefail # a job is a group of processes: all of it ends with this script
cd "$(dirname "$0")/.."
mkdir -p runs
log=runs/contracts.log

scripts/contracts.sh > "$log" 2>&1 &
contracts=$!
trap 'kill -- -"$contracts" 2>/dev/null' EXIT
echo "test: contracts (in the background, $log), then what pytest says" >&2
pytest -n 2 --dist worksteal "$@" # neighbours share fixtures, and nobody is left waiting for the other's long test
python=$?
wait "$contracts"
solidity=$?
if [ $solidity = 0 ]; then tail -n 2 "$log"; else cat "$log"; fi
echo "test: pytest $([ $python = 0 ] && echo passed || echo "FAILED ($python)"), contracts $([ $solidity = 0 ] && echo passed || echo "FAILED ($solidity), see above")" >&2
exit $((python != 0 || solidity != 0))
