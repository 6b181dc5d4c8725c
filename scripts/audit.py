"""Audits a federation: `python scripts/audit.py --deployment deployment.json --rpc URL --blobs BLOBS` (see --help)."""

import sys

from fl_node.cli.__main__ import main

if __name__ == "__main__":
    sys.argv[1:1] = ["audit"]
    main()
