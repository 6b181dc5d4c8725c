"""Processes that do not outlive the one that starts them, whatever becomes of it."""

import os
import signal
import sys

# Runs between fork and the program: the kernel signals the program when the thread that started it ends, however it
# ends. A program of its own, because Python code between fork and exec may deadlock in a process that has threads.
_TIED = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, int(sys.argv[1]))  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[2]):
    sys.exit("the parent is gone")
os.execv(sys.argv[3], sys.argv[3:])
"""


def tied(command: list[str], number: signal.Signals) -> list[str]:
    """The command of a process that gets this signal when the calling thread ends. Elsewhere than on Linux (macOS has
    no such signal) the command as it is."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", _TIED, str(int(number)), str(os.getpid()), *command]
