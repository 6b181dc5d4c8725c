"""Work shared by threads, where there are several."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

A = TypeVar("A")
B = TypeVar("B")


class Mapped(Protocol):
    """`map`, or that of a pool of threads: results in the order of the items."""

    def __call__(self, work: Callable[[A], B], items: Iterable[A], /) -> Iterator[B]: ...


@contextmanager
def shared(threads: int) -> Iterator[Mapped]:
    """One thread is the caller's own: handing pieces over, one by one, costs more than most of them."""
    if threads == 1:
        yield map
        return
    with ThreadPoolExecutor(threads) as pool:
        yield pool.map
