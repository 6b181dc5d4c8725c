"""Several JSON-RPC servers of one chain, used as if they were one: the first in order that answers.

Which of them tells the truth is not decided here. `elsewhere` asks the others, and `LedgerReader.compare` says who
disagrees.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from chain.protocol.errors import ConfigError, Unavailable
from chain.rpc import AnswerTooLong, Call, JsonRpc, Rpc

RETRY = 15.0  # seconds for which a server that did not answer is not asked again, unless no other one answers
PATIENCE = 10.0  # seconds for an answer, where another server can be asked instead

T = TypeVar("T")


class Servers:
    """Fails over in the order given. A refusal (RpcError) is an answer; only a server that cannot be asked is passed
    over. Threads may share it.
    """

    def __init__(self, servers: Sequence[Rpc]) -> None:
        self._servers = list(servers)
        self._away: dict[Rpc, float] = {}  # until when
        self._current = self._servers[0]
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The server that answered last."""
        return self._current.name

    def call(self, method: str, *params: Any) -> Any:
        """As `Rpc.call`. Raises Unavailable, that of the last server, when none can be asked."""
        return self._ask(lambda server: server.call(method, *params))

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        """As `Rpc.batch`, all by one server."""
        return self._ask(lambda server: server.batch(calls))

    def elsewhere(self, calls: Sequence[Call], but: str) -> list[tuple[str, list[Any]]]:
        """What every other server says that can be reached."""
        answers = []
        for server in self._servers:
            if server.name == but or self._is_away(server):
                continue
            try:
                answers.append((server.name, server.batch(calls)))
            except Unavailable:
                self._set_aside(server)
        return answers

    def pass_over(self) -> None:
        """Asks the one that answered last only after the others, for a while: it does not keep up with the chain."""
        self._set_aside(self._current)

    def close(self) -> None:
        for server in self._servers:
            server.close()

    def _ask(self, ask: Callable[[Rpc], T]) -> T:
        last: Unavailable | None = None
        for server in sorted(self._servers, key=self._is_away):  # stable: in order, those away as the last resort
            try:
                answer = ask(server)
            except AnswerTooLong:
                raise
            except Unavailable as error:
                self._set_aside(server)
                last = error
            else:
                with self._lock:
                    self._current = server
                    self._away.pop(server, None)
                return answer
        assert last is not None  # noqa: S101 - there is at least one server
        raise last

    def _is_away(self, server: Rpc) -> bool:
        return time.monotonic() < self._away.get(server, 0.0)

    def _set_aside(self, server: Rpc) -> None:
        with self._lock:
            self._away[server] = time.monotonic() + RETRY


def connect(urls: str | Sequence[str] | JsonRpc) -> JsonRpc:
    """The server at a URL, or all those at several, in order. Raises ConfigError for a URL that is not usable, or one
    named twice.
    """
    if isinstance(urls, str):
        return Rpc(urls)
    if not isinstance(urls, Sequence):
        return urls
    servers = [Rpc(url, PATIENCE) for url in urls]
    if not servers or len(set(urls)) < len(urls):
        raise ConfigError("rpc", "name at least one server, and each once")
    return Servers(servers) if len(servers) > 1 else connect(urls[0])
