"""What integration tests share: small federations on a real chain, nodes as processes, commands, and an RPC server that
lies.

`conftest.py` puts this folder on the path and makes the fixtures.
"""

import contextlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from eth_account.signers.local import LocalAccount

from chain import keys
from chain.client import LedgerClient
from chain.deploy import load_deployment
from chain.devnet import Devnet
from chain.files import load_rules, write_atomic
from chain.protocol.deployment import Deployment
from chain.protocol.history import History
from chain.protocol.rules import DataRules, Rules
from chain.reader import LedgerReader
from chain.rpc import Rpc, RpcError
from fl_node import node
from fl_node.audit import Audit
from fl_node.cli import main as cli
from fl_node.data import Records
from fl_node.federation import found
from fl_node.findings import Finding
from fl_node.fleet import Fleet, NodeEvent
from fl_node.ledger import Ledger
from fl_node.presets import federation_toml, node_toml, preset
from fl_node.session import Session
from fl_node.store import BlobStore
from tests.integration.serving import Handler, serving

ETHER = 10**18
PASSWORD = "a password for tests"
PATIENCE = 60.0  # seconds that anything may take on a loaded machine with two cores


def wait_for(what: Callable[[], Any], limit: float = PATIENCE) -> Any:
    """The first true value of `what`."""
    deadline = time.monotonic() + limit
    while not (value := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return value


# ------------------------------------------------------------------ commands


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def said(self) -> str:
        """Everything it said, as one line: rich breaks lines where the terminal ends."""
        return " ".join((self.out + " " + self.err).split())


def command(*arguments: object, environment: dict[str, str] | None = None, folder: Path | None = None) -> Done:
    """`roundledger` as a process of its own, called in `folder`."""
    words = [Path(sys.executable).parent / "roundledger", *map(str, arguments)]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=folder,
        env=os.environ | (environment or {}),
    )
    return Done(done.returncode, done.stdout, done.stderr)


def invoke(*arguments: object) -> Done:
    """The same `main`, with the same parsing and the same exit code, in this process: tests run hundreds of them."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["roundledger", *map(str, arguments)])
        patch.setattr(sys, "path", [*sys.path])
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    said, complained = (stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]
    return Done(code, said, complained)


def processes_with(marker: str) -> list[str]:
    """Command lines of the processes with `marker` in their environment: all that a command started."""
    left = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and marker.encode() in (folder / "environ").read_bytes():
                left.append((folder / "cmdline").read_text().replace("\0", " "))
    return left


# --------------------------------------------------------------- federations


@cache
def hospital_records(parts: int) -> tuple[DataRules, list[Records], Records]:
    return preset("breast-cancer").records(parts, seed=1)


def make_key(folder: Path, name: str) -> LocalAccount:
    """A keystore that opens at once, and its password file."""
    write_atomic(folder / "keys" / f"{name}.password", PASSWORD.encode() + b"\n", mode=0o600)
    keys.create(folder / "keys" / f"{name}.json", PASSWORD, kdf="pbkdf2", work=1)
    return keys.unlock(folder / "keys" / f"{name}.json", PASSWORD)


def write_rules(path: Path, data: DataRules, rounds: int, **ledger: int | float) -> Rules:
    """A breast-cancer federation.toml with the given values in its [ledger] table."""
    text = federation_toml(preset("breast-cancer"), data, rounds).replace("epochs = 4", "epochs = 1")
    for name, value in ledger.items():
        text, count = re.subn(rf"^{name} = [0-9.]+", f"{name} = {value}", text, flags=re.MULTILINE)
        assert count == 1, name
    write_atomic(path, text.encode())
    return load_rules(path)


@dataclass
class Federation:
    """A deployed federation whose participants the test can be, each with keys, records and a node.toml in `folder`."""

    folder: Path
    url: str
    rules: Rules
    owner: LocalAccount
    accounts: list[LocalAccount]
    deployment: Deployment
    events: list[tuple[str, str, int, dict[str, Any]]] = field(default_factory=list)  # of `session`s

    def config(self, seat: int) -> Path:
        """The node.toml of a seat (from 1)."""
        return self.folder / f"node-{seat}.toml"

    def address(self, seat: int) -> str:
        return str(self.accounts[seat - 1].address)

    def client(self, seat: int = 0) -> LedgerClient:
        """The account of a seat; 0: the owner."""
        return LedgerClient(self.url, self.deployment, self.accounts[seat - 1] if seat else self.owner)

    def session(self, seat: int) -> Session:
        """A node in this process, for the test to take through a round step by step."""

        def report(kind: str, number: int, **values: Any) -> None:
            self.events.append((self.address(seat), kind, number, values))

        return node.load(self.config(seat), report, threading.Event())

    def history(self) -> History:
        return Ledger(LedgerReader(Rpc(self.url), self.deployment), self.rules).sync()

    def audit(self) -> tuple[int, list[Finding]]:
        audit = Audit(Ledger(LedgerReader(Rpc(self.url), self.deployment)), BlobStore(self.folder / "blobs"))
        findings = list(audit.run())
        return audit.exit_code, findings


def found_federation(
    folder: Path, devnet: Devnet, participants: int, rounds: int, enrolled: Sequence[int] | None, **ledger: int | float
) -> Federation:
    """Founds a federation of `participants` hospitals; `enrolled` names the seats to enrol at once, default all."""
    data, held, _ = hospital_records(participants)
    rules = write_rules(folder / "federation.toml", data, rounds, **ledger)
    owner, accounts = make_key(folder, "operator"), []
    devnet.fund(owner.address, 100 * ETHER)
    for seat, records in enumerate(held, start=1):
        accounts.append(make_key(folder, f"node-{seat}"))
        devnet.fund(accounts[-1].address, 100 * ETHER)
        preset("breast-cancer").write(folder / f"hospital-{seat}.csv", records, data)
        text = node_toml(f"hospital-{seat}", f"hospital-{seat}.csv", rpc=devnet.url, seat=seat) + "poll = 0.05\n"
        write_atomic(folder / f"node-{seat}.toml", text.encode())
    seats = range(1, participants + 1) if enrolled is None else enrolled
    addresses = [accounts[seat - 1].address for seat in seats]
    record = folder / "deployment.json"
    found(folder / "federation.toml", devnet.url, owner, str(folder / "blobs"), addresses, record)
    return Federation(folder, devnet.url, rules, owner, accounts, load_deployment(record))


class Nodes:
    """Nodes as processes, and everything that they have reported so far."""

    def __init__(self, logs: Path) -> None:
        self.fleet = Fleet([], logs)
        self.seen: list[NodeEvent] = []
        self._news, self._closed = threading.Condition(), threading.Event()
        self._reader = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self.fleet.__enter__()
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self.fleet.stop()
        self._reader.join()

    def _read(self) -> None:
        while not self._closed.wait(0.02):
            for event in self.fleet.events():
                with self._news:
                    self.seen.append(event)
                    self._news.notify_all()

    def start(self, *configs: Path) -> None:
        for config in configs:
            self.fleet.start(config)

    def find(self, kind: str, node: str, number: int | None = None, after: int = 0) -> NodeEvent | None:
        """The first such event; `after` so many events seen before."""
        wanted = (
            event
            for event in self.seen[after:]
            if (event.kind, event.node) == (kind, node) and number in (None, event.round)
        )
        return next(wanted, None)

    def wait(self, kind: str, node: str, number: int | None = None, *, after: int = 0) -> NodeEvent:
        with self._news:
            if not self._news.wait_for(lambda: self.find(kind, node, number, after), PATIENCE):
                seen = "\n".join(map(str, self.seen[-30:]))
                pytest.fail(f"{node}: no {kind!r} in round {number}; seen:\n{seen}\n{self.fleet.last_words(node)}")
            event = self.find(kind, node, number, after)
            assert event is not None
            return event

    def signal(self, node: str, number: signal.Signals) -> None:
        self.fleet.processes[node].send_signal(number)

    def kill(self, node: str) -> None:
        """kill -9, and it is gone."""
        since = len(self.seen)
        self.signal(node, signal.SIGKILL)
        assert self.wait("exit", node, after=since).values == {"code": -signal.SIGKILL}


# ----------------------------------------------------------------- bad servers

Change = Callable[[str, list[Any], Any], Any]


@contextlib.contextmanager
def proxy(url: str, change: Change) -> Iterator[str]:
    """A JSON-RPC server that asks the one at `url`, and answers what `change(method, params, result)` makes of it."""
    behind, connections = Rpc(url), set()

    class Proxy(Handler):
        def setup(self) -> None:
            super().setup()
            connections.add(self.connection)

        def do_POST(self) -> None:
            asked = json.loads(self.body())
            answers = [self.pass_on(one) for one in asked] if isinstance(asked, list) else self.pass_on(asked)
            self.answer(json.dumps(answers).encode())

        def pass_on(self, request: dict[str, Any]) -> dict[str, Any]:
            about = {"jsonrpc": "2.0", "id": request["id"]}
            try:
                result = behind.call(request["method"], *request["params"])
                return about | {"result": change(request["method"], request["params"], result)}
            except RpcError as error:
                return about | {"error": {"code": error.code, "message": error.message, "data": error.data}}

    try:
        with serving(Proxy) as server:
            yield server
    finally:
        for connection in connections:  # a server that is gone answers nobody any more
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        behind.close()
