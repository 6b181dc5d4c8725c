"""Time that passes only when everybody waits: actors in threads, of which one runs at a time, in a fixed order.

An hour of windows takes no time, and the same actors do the same in every run.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

START = 1_800_000_000.0


@dataclass
class Clock:
    """Stands in for Python's `time` at a node: `sleep` hands over to whoever wakes up next."""

    now: float = START
    _waking: dict[str, float] = field(default_factory=dict)  # who sleeps, and until when
    _turn: str | None = None
    _news: threading.Condition = field(default_factory=threading.Condition)

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, who: str, seconds: float) -> None:
        with self._news:
            self._waking[who] = self.now + max(seconds, 1e-3)
            self._next()
            self._news.wait_for(lambda: self._turn == who)

    def wake(self, who: str) -> None:
        """It has slept enough, if it sleeps."""
        with self._news:
            if who in self._waking:
                self._waking[who] = self.now

    def run(self, actors: Mapping[str, Callable[[], None]]) -> dict[str, BaseException]:
        """Runs them to their ends; whoever ended with an exception, with that."""
        ended: dict[str, BaseException] = {}

        def body(who: str, act: Callable[[], None]) -> None:
            with self._news:
                self._news.wait_for(lambda: self._turn == who)
            try:
                act()
            except BaseException as error:  # noqa: BLE001 - handed to the caller
                ended[who] = error
            with self._news:
                self._next()

        threads = [threading.Thread(target=body, args=item, daemon=True) for item in actors.items()]
        self._waking = dict.fromkeys(actors, self.now)
        for thread in threads:
            thread.start()
        with self._news:
            self._next()
        for thread in threads:
            thread.join()
        return ended

    def _next(self) -> None:
        """The one that wakes up first, of equals the first by name."""
        self._turn = min(self._waking, key=lambda who: (self._waking[who], who), default=None)
        if self._turn is not None:
            self.now = max(self.now, self._waking.pop(self._turn))
        self._news.notify_all()


class Never(threading.Event):
    """The wish to stop of a node that is never asked to: waiting for it is what a node does between two looks."""

    def __init__(self, clock: Clock, who: str) -> None:
        super().__init__()
        self._clock, self._who = clock, who

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.sleep(self._who, timeout or 0.0)
        return False
