"""Where the `roundledger` command begins: Ctrl-C is heard before anything that takes time to import."""

import signal

from fl_node.cli.interrupted import end

signal.signal(signal.SIGINT, end)  # the library of the command line would exit with 1, which is a finding here

from fl_node.cli.main import main  # noqa: E402

if __name__ == "__main__":
    main()
