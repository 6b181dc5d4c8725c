"""The RPC helper against a real HTTP server that misbehaves."""

import gzip
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chain.protocol.errors import Code, ConfigError, Unavailable
from chain.rpc import Rpc, RpcError

ROOT = Path(__file__).parents[3]
Answer = Callable[["Handler", dict[str, Any]], object]


class Handler(BaseHTTPRequestHandler):
    """Answers as the test says, and remembers who asked."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    answer: Answer
    seen: list[tuple[tuple[str, int], str, str | None]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.client_address, self.path, self.headers["Authorization"]))
        type(self).answer(self, json.loads(body))

    def send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


class Threads(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64  # five callers at once are too few: the kernel resets the others


class Server:
    def __init__(self, answer: Answer) -> None:
        self.seen: list[tuple[tuple[str, int], str, str | None]] = []
        self.handler = type("TestHandler", (Handler,), {"answer": staticmethod(answer), "seen": self.seen})
        self.http = Threads(("127.0.0.1", 0), self.handler)
        self.place = f"127.0.0.1:{self.http.server_port}"
        self.url = f"http://{self.place}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Server]]:
    servers: list[Server] = []

    def start(answer: Answer) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


def result(request: dict[str, Any], value: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": value}).encode()


def test_call_gives_the_result_over_one_connection(serve: Callable[[Answer], Server]) -> None:
    server = serve(lambda http, request: http.send(result(request, [request["method"], request["params"]])))
    with Rpc(server.url) as rpc:
        for number in range(5):
            assert rpc.call("echo", number, {"a": None}) == ["echo", [number, {"a": None}]]
    assert len({client for client, _, _ in server.seen}) == 1


def test_call_null_is_a_result(serve: Callable[[Answer], Server]) -> None:
    assert Rpc(serve(lambda http, request: http.send(result(request, None))).url).call("x") is None


def test_call_threads_get_their_own_answers(serve: Callable[[Answer], Server]) -> None:
    rpc = Rpc(serve(lambda http, request: http.send(result(request, request["params"][0]))).url)
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda number: rpc.call("echo", number), range(400))) == list(range(400))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda http, request: http.send(b"<html>"), "not JSON"),
        (lambda http, request: http.send(b""), "not JSON"),
        (lambda http, request: http.send(b"\xff\xfe"), "not JSON"),
        (lambda http, request: http.send(b"[" * 200_000), "not JSON"),
        (lambda http, request: http.send(b"[1]"), "not JSON-RPC"),
        (lambda http, request: http.send(b'{"jsonrpc": "2.0", "id": 1}'), "not the one"),
        (lambda http, request: http.send(result({"id": 99}, "0x1")), "not the one"),
        (lambda http, request: http.send(result(request, "0x1"), status=500), "HTTP status 500"),
        (lambda http, request: http.send(result(request, "0x1"), status=503), "HTTP status 503"),
        (lambda http, request: http.send(result(request, "0x1"), status=429), "HTTP status 429"),
        (lambda http, request: http.send(b"no", status=401), "HTTP status 401"),
        (lambda http, request: http.send(b"", status=307, Location="http://127.0.0.1:1/"), "HTTP status 307"),
        (lambda http, request: http.send(b"x", Content_Length="9", Connection="close"), "connection failed|no answer"),
        (lambda http, request: http.send(b"not gzip", Content_Encoding="gzip"), "connection failed"),
        (lambda http, request: http.send(b"x" * 300_001), "longer than 300000 bytes"),
        (lambda http, request: http.send(gzip.compress(b" " * (64 << 20)), Content_Encoding="gzip"), "longer than"),
        (lambda http, request: http.connection.shutdown(socket.SHUT_RDWR), "connection failed"),
    ],
)
def test_call_badAnswer_isUnavailable(serve: Callable[[Answer], Server], answer: Answer, reason: str) -> None:  # noqa: N802
    server = serve(answer)
    with pytest.raises(Unavailable, match=reason) as caught:
        Rpc(server.url, timeout=2, max_reply=300_000).call("eth_getLogs")
    assert (caught.value.code, caught.value.subject) == (Code.L1, server.url)


def test_call_afterBadAnswer_worksAgain(serve: Callable[[Answer], Server]) -> None:  # noqa: N802
    rpc = Rpc(serve(lambda http, request: http.send(result(request, "x" * request["params"][0]))).url, max_reply=1000)
    for _ in range(20):
        with pytest.raises(Unavailable):
            rpc.call("x", 5000)
        assert rpc.call("x", 5) == "xxxxx"


def test_call_gzip_is_decoded(serve: Callable[[Answer], Server]) -> None:
    body = "0x" + "ab" * 100_000
    server = serve(lambda http, request: http.send(gzip.compress(result(request, body)), Content_Encoding="gzip"))
    assert Rpc(server.url).call("x") == body


def test_call_nobodyListens_cannotConnect() -> None:  # noqa: N802
    with socket.socket() as held:  # bound, but not listening
        held.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match="cannot connect"):
            Rpc(f"http://127.0.0.1:{held.getsockname()[1]}").call("x")


def test_call_silent_server_times_out(serve: Callable[[Answer], Server]) -> None:
    done = threading.Event()
    server = serve(lambda http, request: done.wait(10))
    with pytest.raises(Unavailable, match=r"no answer within 0\.2 s"):
        Rpc(server.url, timeout=0.2).call("x")
    done.set()


def test_call_dripping_server_times_out(serve: Callable[[Answer], Server]) -> None:
    done = threading.Event()

    def drip(http: Handler, request: dict[str, Any]) -> None:
        http.send(b"", Content_Length="1000000")
        while not done.wait(0.02):
            http.wfile.write(b" ")
            http.wfile.flush()

    begin = time.monotonic()
    with pytest.raises(Unavailable, match=r"no whole answer within 0\.3 s"):
        Rpc(serve(drip).url, timeout=0.3).call("x")
    done.set()
    assert time.monotonic() - begin < 2


def test_call_ctrl_c_is_heard_while_the_server_is_silent(serve: Callable[[Answer], Server]) -> None:
    done = threading.Event()
    server = serve(lambda http, request: done.wait(30))
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # ignored in a shell's background
    words = [sys.executable, "-c", f"{heard}; from chain.rpc import Rpc; Rpc({server.url!r}).call('x')"]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        while not server.seen:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=20)[1]
    done.set()


def test_call_a_kept_connection_that_was_closed_is_opened_again(serve: Callable[[Answer], Server]) -> None:
    def answer(http: Handler, request: dict[str, Any]) -> None:
        http.send(result(request, 1))
        http.close_connection = True  # without a word about it

    server = serve(answer)
    rpc = Rpc(server.url)
    for _ in range(3):
        assert rpc.call("x") == 1
        time.sleep(0.05)
    assert len(server.seen) == 3


def test_call_takes_no_proxy_from_the_environment(
    serve: Callable[[Answer], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert Rpc(serve(lambda http, request: http.send(result(request, 1))).url).call("x") == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_call_https_needs_a_certificate_that_is_trusted(
    serve: Callable[[Answer], Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(words, check=True, capture_output=True)
    server = serve(lambda http, request: http.send(result(request, 1)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    url = f"https://{server.place}"
    with pytest.raises(Unavailable, match="certificate is not trusted"):
        Rpc(url).call("x")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert Rpc(url).call("x") == 1
    with pytest.raises(Unavailable, match="connection failed"):
        Rpc(f"http://{server.place}").call("x")


@pytest.mark.parametrize("status", [200, 400])
def test_call_error_keeps_everything(serve: Callable[[Answer], Server], status: int) -> None:
    error = {"code": 3, "message": "execution reverted", "data": "0xdeadbeef01"}
    body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()
    with pytest.raises(RpcError) as caught:
        Rpc(serve(lambda http, request: http.send(body, status)).url).call("eth_call")
    assert (caught.value.method, caught.value.code, caught.value.data) == ("eth_call", 3, "0xdeadbeef01")
    assert str(caught.value) == "eth_call: error 3: execution reverted"


@pytest.mark.parametrize("error", ["words", {}, {"code": "x", "message": None}, [1], 7])
def test_call_strange_errors_are_errors(serve: Callable[[Answer], Server], error: object) -> None:
    body = json.dumps({"id": 1, "error": error}).encode()
    with pytest.raises(RpcError):
        Rpc(serve(lambda http, request: http.send(body)).url).call("x")


@pytest.mark.parametrize(
    ("data", "revert"),
    [
        ("0xdeadbeef", b"\xde\xad\xbe\xef"),
        ("0x", b""),
        ({"result": "0xdead", "hash": None}, b"\xde\xad"),
        ({"data": "0xdead", "message": "x"}, b"\xde\xad"),
        (None, None),
        ({}, None),
        ("0xzz", None),
        ("Reverted", None),
        ([1], None),
    ],
)
def test_revert_finds_the_bytes_wherever_the_server_puts_them(data: object, revert: bytes | None) -> None:
    assert RpcError("eth_call", 3, "execution reverted", data).revert == revert


def test_message_of_a_stranger_cannot_drive_the_terminal() -> None:
    text = str(RpcError("x", 1, "\x1b[2Jred\n" + "y" * 5000))
    assert text.isprintable()
    assert len(text) < 600


def test_credentials_are_sent_and_never_shown(serve: Callable[[Answer], Server]) -> None:
    server = serve(lambda http, request: http.send(b"no", 500))
    rpc = Rpc(f"http://user:p%40ss@{server.place}/v3/KEY?token=TOKEN")
    with pytest.raises(Unavailable) as caught:
        rpc.call("x")
    _, path, authorization = server.seen[0]
    assert path == "/v3/KEY?token=TOKEN"
    assert authorization == "Basic dXNlcjpwQHNz"
    shown = str(caught.value) + repr(caught.value) + repr(rpc)
    assert not any(secret in shown for secret in ("user", "p%40ss", "p@ss", "KEY", "TOKEN"))


@pytest.mark.parametrize(
    "url",
    ["", "x", "ftp://h", "file:///etc/passwd", "ws://h", "http://", "http://h:99999", "http://h:x", "http://[::1",
     "http://h/SECRET path", "http://h/\nSECRET", "https://SECRET@", "http://ho%st:8545"],
)  # fmt: skip
def test_url_unusable_isConfigError(url: str) -> None:  # noqa: N802
    with pytest.raises(ConfigError) as caught:
        Rpc(url)
    assert "SECRET" not in str(caught.value)


# ----------------------------------------------------------------- batches


def batch_answer(change: Callable[[list[dict[str, Any]]], object]) -> Answer:
    """Answers every call of a batch with its own parameters, then `change` has its way."""

    def answer(http: Handler, request: Any) -> None:
        calls = request if isinstance(request, list) else [request]
        replies = [json.loads(result(call, [call["method"], call["params"]])) for call in calls]
        http.send(json.dumps(change(replies) if isinstance(request, list) else replies[0]).encode())

    return answer


CALLS = [("a", 1), ("b",), ("c", {"x": None}, [])]
EXPECTED = [["a", [1]], ["b", []], ["c", [{"x": None}, []]]]


@pytest.mark.parametrize("change", [lambda replies: replies, lambda replies: replies[::-1]])
def test_batch_gives_the_results_in_order_by_one_request(serve: Callable[[Answer], Server], change: Any) -> None:
    server = serve(batch_answer(change))
    assert Rpc(server.url).batch(CALLS) == EXPECTED
    assert len(server.seen) == 1


def test_batch_refused_call_is_an_error_in_its_place(serve: Callable[[Answer], Server]) -> None:
    def refuse(replies: list[dict[str, Any]]) -> object:
        replies[1] = {"id": replies[1]["id"], "error": {"code": -32000, "message": "no"}}
        return replies

    first, second, third = Rpc(serve(batch_answer(refuse)).url).batch(CALLS)
    assert [first, third] == EXPECTED[::2]
    assert isinstance(second, RpcError)
    assert str(second) == "b: error -32000: no"


def test_batch_server_that_takes_none_is_asked_one_by_one_from_then_on(serve: Callable[[Answer], Server]) -> None:
    server = serve(batch_answer(lambda _: {"id": None, "error": {"code": -32600, "message": "no batches"}}))
    rpc = Rpc(server.url)
    for _ in range(2):
        assert rpc.batch(CALLS) == EXPECTED
    assert len(server.seen) == 1 + 2 * len(CALLS)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda replies: replies[:2], "not the one to this call"),
        (lambda replies: [], "not the one to this call"),
        (lambda replies: [7, *replies[1:]], "not the one to this call"),
        (lambda replies: [{**replies[0], "id": replies[1]["id"]}, *replies[1:]], "not the one to this call"),
        (lambda replies: 7, "not JSON-RPC"),
        (lambda replies: {"result": "0x1"}, "not JSON-RPC"),
    ],
)
def test_batch_bad_answer_is_unavailable(serve: Callable[[Answer], Server], change: Any, reason: str) -> None:
    with pytest.raises(Unavailable, match=reason):
        Rpc(serve(batch_answer(change)).url).batch(CALLS)


def test_batch_of_one_is_a_plain_call(serve: Callable[[Answer], Server]) -> None:
    server = serve(batch_answer(lambda replies: 1 / 0))
    assert Rpc(server.url).batch(CALLS[:1]) == EXPECTED[:1]
    assert Rpc(server.url).batch([]) == []
