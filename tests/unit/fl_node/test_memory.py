"""Freed memory that is kept: the next array of that size takes no new pages from the system."""

import subprocess
import sys

import pytest

SIZE = 96 << 20
PROGRAM = f"""
import resource, sys
import numpy as np
from fl_node.memory import keep_freed_memory

if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit(77)
faults = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.full({SIZE}, 1, np.uint8)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(*faults)
"""


def faults(how: str) -> list[int]:
    """Page faults of four arrays of that size, one after the other."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("the C library has no such setting")
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def test_memory_is_taken_from_the_system_once() -> None:
    first, *others = faults("keep")
    assert max(others) < first / 10 + 10


def test_it_would_be_taken_every_time() -> None:
    """Or the test above tells nothing: huge pages could be so few as to hide in it."""
    assert min(faults("leave")) > 10
