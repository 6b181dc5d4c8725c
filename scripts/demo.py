"""Runs the whole demo: `python scripts/demo.py --dataset digits` (see --help)."""

import sys

from fl_node.cli.__main__ import main

if __name__ == "__main__":
    sys.argv[1:1] = ["demo"]
    main()
