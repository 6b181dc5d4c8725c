"""How often to write what is large, changes in every round, and follows from what is written already."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

SMALL = 1 << 20  # bytes that are written in every round
SHARE = 0.02  # of its time that a node gives to writing more than that; what was not written has to be made again


class Pace:
    """One thing to write."""

    def __init__(self) -> None:
        self._cost, self._since = 0.0, 0.0  # of the last writing: seconds, and when it was over

    def due(self, size: int) -> bool:
        """Whether to write so many bytes now. The first ones always are."""
        return size <= SMALL or time.monotonic() - self._since >= self._cost / SHARE

    @contextmanager
    def writing(self) -> Iterator[None]:
        """It counts once it is done."""
        begun = time.monotonic()
        yield
        self._since = time.monotonic()
        self._cost = self._since - begun
