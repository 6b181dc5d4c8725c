"""What goes wrong in a soak: RPC calls are dropped, blocks taken back, blobs come late. All of it from a fixed seed,
and counted.
"""

import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from chain.rpc import Rpc

COUNTED = Counter[str]
LONGEST_DELAY = 0.5  # seconds that an answer is held back


class Repeated:
    """Calls `fault` again and again, after pauses drawn between `least` and `most` seconds, while the `with` block
    runs.

    `fault` returns the name of what it did, or None where there was nothing to do. What it raises ends the soak: a
    fault that cannot be injected proves nothing.
    """

    def __init__(
        self, name: str, seed: int, least: float, most: float, fault: Callable[[random.Random], str | None]
    ) -> None:
        self.counted: COUNTED = Counter()
        self.error: BaseException | None = None
        self._random, self._range, self._fault = random.Random(f"{name} {seed}"), (least, most), fault  # noqa: S311
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._random.uniform(*self._range)):
                if done := self._fault(self._random):
                    self.counted[done] += 1
        except BaseException as error:  # noqa: BLE001 - shown by `__exit__`
            self.error = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self.error is not None and error is None:
            raise self.error


class _Quiet(ThreadingHTTPServer):
    """Says nothing of clients that were killed in the middle of a call."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class FaultyRpc:
    """A server that passes JSON-RPC calls on to `url`, and fails some of them: drops the connection before or after the
    call was made, answers 503 or half of the answer, or keeps it waiting. `share` of all calls is hit.
    """

    def __init__(self, url: str, seed: int, share: float) -> None:
        self.counted: COUNTED = Counter()
        self._to, self._share = urlsplit(url), share
        self._random, self._lock = random.Random(f"rpc {seed}"), threading.Lock()  # noqa: S311
        self._local = threading.local()
        faulty = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm, wbufsize = True, -1  # an answer is one packet: otherwise each takes 40 ms

            def do_POST(self) -> None:
                faulty.answer(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
                pass

        self._server = _Quiet(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        fault = self._draw()
        if fault == "RPC call dropped":
            request.close_connection = True
            return
        if fault == "RPC answer 503":
            request.send_error(503)
            return
        if fault == "RPC answer late":
            time.sleep(LONGEST_DELAY)
        answer = self._ask(body)
        if fault == "RPC answer dropped":  # the call was made, and nobody is told
            request.close_connection = True
            return
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(answer)))
        request.end_headers()
        if fault == "RPC answer cut short":
            request.wfile.write(answer[: len(answer) // 2])
            request.close_connection = True
            return
        request.wfile.write(answer)

    def _draw(self) -> str | None:
        names = ("RPC call dropped", "RPC answer dropped", "RPC answer 503", "RPC answer late", "RPC answer cut short")
        with self._lock:
            if self._random.random() >= self._share:
                return None
            fault = self._random.choice(names)
            self.counted[fault] += 1
            return fault

    def _ask(self, body: bytes) -> bytes:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = HTTPConnection(self._to.hostname or "", self._to.port)
        connection.request("POST", "/", body, {"Content-Type": "application/json"})
        return bytes(connection.getresponse().read())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Miner:
    """Mines a block every so many seconds, as a chain does whether or not anybody sends something, and takes blocks
    back. Nothing else mines: Anvil takes no care of a transaction that comes while it takes blocks back.
    """

    def __init__(self, rpc: Rpc, seconds: float) -> None:
        self.counted: COUNTED = Counter()
        self._rpc, self._seconds, self._lock, self._stop = rpc, seconds, threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="miner")

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            with self._lock:
                self._rpc.call("evm_mine")

    def take_back(self, blocks: int) -> str:
        """Replaces the last `blocks` blocks by empty ones: what was in them is gone, unless it is sent again."""
        with self._lock:
            self._rpc.call("anvil_reorg", blocks, [])
        return f"reorganisation of depth {blocks}"

    def __enter__(self) -> Self:
        self._rpc.call("evm_setAutomine", False)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()


class LateBlobs:
    """Takes a young blob out of the folder of a store and puts it back a while later: to a reader, it comes late."""

    def __init__(self, store: Path, aside: Path, longest: float) -> None:
        self._store, self._aside, self._longest = store, aside, longest
        aside.mkdir()

    def __call__(self, drawn: random.Random) -> str | None:
        young = sorted(path for path in self._store.glob("*/[0-9a-f]*") if time.time() - path.stat().st_mtime < 10)
        if not young:
            return None
        blob = drawn.choice(young)
        hidden = self._aside / blob.name
        try:
            blob.replace(hidden)
        except FileNotFoundError:
            return None
        time.sleep(drawn.uniform(0.1, self._longest))
        hidden.replace(blob)
        return "blob late"
