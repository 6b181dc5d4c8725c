"""Memory that was freed, kept for the next round.

The C library gives large blocks back to the system as soon as they are freed. Every round needs them again, and to get
a page from the system costs more than to fill it: several times as much on a virtual machine.
"""

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # of mallopt(3)
_STEP = 1 << 24  # bytes by which the heap grows at least


def keep_freed_memory() -> bool:
    """From now on this process keeps what it frees, as long as it lives: it stays as large as it was at most. False
    where the C library has no such setting (it is glibc's).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    done: list[int] = [  # no block with pages of its own; never shrink; grow in large steps
        mallopt(_MMAP_MAX, 0),
        mallopt(_TRIM_THRESHOLD, -1),
        mallopt(_TOP_PAD, _STEP),
    ]
    return all(done)
