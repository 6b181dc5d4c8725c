"""JSON-RPC calls over HTTP, one or several in a request, and what their failure means.

`Unavailable` says that the server could not be asked (down, too slow, too large, not JSON-RPC): retry. `RpcError` says
that the server was asked and refused: the caller decides. Nothing is retried here.
"""

import base64
import itertools
import json
import re
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import unquote, urlsplit

from pydantic_core import from_json  # as fast as json.loads, which crashes on deep nesting: py_ecc lifts Python's limit

from chain.http_post import Poster, PostError, TooLong
from chain.protocol.errors import Code, ConfigError, RoundledgerError, Unavailable, printable

HOST, PRINTED = re.compile(r"[A-Za-z0-9._:-]+"), re.compile(r"[!-~]*")
MAX_REPLY = 64 << 20  # bytes, after decompression; 20,000 logs of 256 data bytes are 19 MB


class RpcError(RoundledgerError):
    """The server answered with a JSON-RPC error. `data` is what it sent with it, as it came."""

    exit_code = 3

    def __init__(self, method: str, code: int, message: str, data: Any = None) -> None:
        self.method, self.code, self.message, self.data = method, code, printable(message), data
        super().__init__(f"{method}: error {code}: {self.message}")

    @property
    def revert(self) -> bytes | None:
        """What the contract reverted with (selector and arguments of a custom error); None if the error holds none.

        Anvil, geth, Ganache's `eth_call`: `data` is the hex. Ganache's `eth_estimateGas`: `data.result`. Hardhat:
        `data.data`. `eth_sendRawTransaction` never tells: the receipt has status 0, and `eth_call` must be asked again.
        """
        data = self.data
        if isinstance(data, dict):
            data = data.get("result") or data.get("data")
        if not isinstance(data, str) or not data.startswith("0x"):
            return None
        try:
            return bytes.fromhex(data[2:])
        except ValueError:
            return None


class AnswerTooLong(Unavailable):
    """The server has answered, with more bytes than are taken: less must be asked for at once."""


Call = tuple[Any, ...]  # the method, then its parameters


class JsonRpc(Protocol):
    """What can be asked: one server (`Rpc`), or several of one chain (`chain.servers.Servers`)."""

    @property
    def name(self) -> str:
        """Who answers, fit to be shown: scheme, host and port."""

    def call(self, method: str, *params: Any) -> Any: ...

    def batch(self, calls: Sequence[Call]) -> list[Any]: ...

    def elsewhere(self, calls: Sequence[Call], but: str) -> list[tuple[str, list[Any]]]:
        """The batch, asked of every server that can be reached, but one: the name and the results of each."""

    def pass_over(self) -> None:
        """Turns to another server for a while, if there is one."""

    def close(self) -> None: ...


class Rpc:
    """A JSON-RPC server at an http(s) address, over kept-alive connections. Threads may share one.

    `timeout` bounds a whole call in seconds, `max_reply` the bytes of an answer. A user and password in the URL are
    sent as basic authentication. Messages and `repr` show only scheme, host and port: keys of hosted servers are in the
    rest. Redirects are not followed. Raises ConfigError if the URL is not usable.
    """

    def __init__(self, url: str, timeout: float = 30.0, max_reply: int = MAX_REPLY) -> None:
        self.name, self._target, authorization = address("RPC URL", url)
        self._ids = itertools.count(1)
        self._takes_batches = True
        self._server = Poster(self.name, authorization, timeout, max_reply)

    def __repr__(self) -> str:
        return f"Rpc({self.name})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the idle connections; a later call opens new ones."""
        self._server.close()

    def call(self, method: str, *params: Any) -> Any:
        """The result of `method`. Raises Unavailable if the server could not be asked, RpcError if it refused."""
        number = next(self._ids)
        reply = self._exchange({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        if not isinstance(reply, dict):
            raise self._unavailable("the answer is not JSON-RPC")
        result = self._result(method, reply, number)
        if isinstance(result, RpcError):
            raise result
        return result

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        """The results of several calls, in their order, by one request (JSON-RPC 2.0, section 6). A call that was
        refused has its RpcError as its result. A server that takes no batches is asked one by one. Raises Unavailable.
        """
        if self._takes_batches and len(calls) > 1:
            numbers = [next(self._ids) for _ in calls]
            named = zip(numbers, calls, strict=True)
            replies = self._exchange(
                [{"jsonrpc": "2.0", "id": number, "method": call[0], "params": call[1:]} for number, call in named]
            )
            if isinstance(replies, list):
                answers = [reply for reply in replies if isinstance(reply, dict) and isinstance(reply.get("id"), int)]
                found = {reply["id"]: reply for reply in answers}
                return [self._result(call[0], found.get(n, {}), n) for n, call in zip(numbers, calls, strict=True)]
            if not isinstance(replies, dict) or "error" not in replies:
                raise self._unavailable("the answer is not JSON-RPC")
            self._takes_batches = False
        return [self._attempt(call) for call in calls]

    def elsewhere(self, calls: Sequence[Call], but: str) -> list[tuple[str, list[Any]]]:
        """Nothing: there is no other server."""
        return []

    def pass_over(self) -> None:
        """There is no other server."""

    def _attempt(self, call: Call) -> Any:
        try:
            return self.call(*call)
        except RpcError as error:
            return error

    def _exchange(self, request: object) -> Any:
        """The answer to a request, parsed. Raises Unavailable."""
        try:
            status, content = self._server.post(self._target, json.dumps(request).encode())
        except TooLong as error:
            raise AnswerTooLong(Code.L1, self.name, error) from None
        except PostError as error:
            raise self._unavailable(str(error)) from None
        # 400 is what some servers send with a JSON-RPC error; every other status is about reaching the server.
        if status not in (200, 400):
            raise self._unavailable(f"HTTP status {status}")
        try:
            return from_json(content)
        except ValueError:
            raise self._unavailable("the answer is not JSON") from None

    def _result(self, method: str, reply: dict[str, Any], number: int) -> Any:
        """What the reply to call `number` says: a result, or the RpcError. Raises Unavailable if it is none."""
        error = reply.get("error")
        if error is not None:
            return _rpc_error(method, error)
        if "result" not in reply or reply.get("id") != number:
            raise self._unavailable("the answer is not the one to this call")
        return reply["result"]

    def _unavailable(self, reason: str) -> Unavailable:
        return Unavailable(Code.L1, self.name, reason)


def results(rpc: JsonRpc, *calls: Call) -> list[Any]:
    """The results of a batch. Raises Unavailable, and RpcError if one of the calls was refused."""
    found = rpc.batch(calls)
    for result in found:
        if isinstance(result, RpcError):
            raise result
    return found


def address(of: str, url: str) -> tuple[str, str, dict[str, str]]:
    """The name to show and to connect to, the path, the authorization header of a URL. Raises ConfigError without its
    text, in which there may be a password.
    """
    wrong = ConfigError(of, "not a usable address", "write http://HOST:PORT or https://HOST")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not host or not HOST.fullmatch(host) or not PRINTED.fullmatch(url):
        raise wrong
    place = (f"[{host}]" if ":" in host else host) + (f":{port}" if port is not None else "")
    name = f"{parts.scheme}://{place}"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.username is None:
        return name, target, {}
    secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return name, target, {"Authorization": "Basic " + base64.b64encode(secret.encode()).decode()}


def _rpc_error(method: str, error: object) -> RpcError:
    if not isinstance(error, dict):
        return RpcError(method, 0, str(error))
    code = error.get("code")
    return RpcError(method, code if isinstance(code, int) else 0, str(error.get("message")), error.get("data"))
