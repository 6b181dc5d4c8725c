"""Deploys a federation's ledger: `python scripts/deploy.py --federation federation.toml --rpc URL ...` (see --help)."""

import sys

from fl_node.cli.__main__ import main

if __name__ == "__main__":
    sys.argv[1:1] = ["deploy"]
    main()
