"""A node that is asked to stop."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from fl_node.cli.member import _asked_to_stop


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_second_signal_ends_the_process() -> None:
    stop = _asked_to_stop()
    assert not stop.is_set()
    signal.raise_signal(signal.SIGTERM)
    assert stop.wait(10)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_that_comes_while_the_node_looks_whether_to_stop_is_heard() -> None:
    """The main thread then holds the lock that setting the event needs: a handler that waits for it waits for ever."""
    stop: Any = _asked_to_stop()
    with stop._cond:
        signal.raise_signal(signal.SIGINT)
    assert stop.wait(10)
