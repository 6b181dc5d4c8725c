"""The relayer: many participants' actions in one transaction, and no power over any of them."""

import contextlib
import json
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest

from chain import relay_server
from chain.devnet import Devnet
from chain.errors import Reverted
from chain.keys import address_of
from chain.protocol.errors import Unavailable
from chain.protocol.events import decode
from chain.reader import LedgerReader
from chain.relayed import RelayedClient
from chain.rpc import Rpc
from tests.integration.conftest import MAKE
from tests.integration.harness import Federation, Nodes
from tests.integration.serving import Handler, serving

LONG = {"commit_window": 120, "reveal_window": 120, "attest_window": 120}
WAIT = 0.5


@contextlib.contextmanager
def relayer(made: Federation) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`roundledger relay` as a process, with the operator's account: its URL."""
    command = [sys.executable, "-m", "fl_node.cli", "relay", "--rpc", made.url, "--port", "0", "--wait", str(WAIT)]
    command += ["--deployment", str(made.folder / "deployment.json")]
    command += ["--keystore", str(made.folder / "keys" / "operator.json")]
    command += ["--password-file", str(made.folder / "keys" / "operator.password")]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**_environment(), "COLUMNS": "200"}
    ) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            yield said.split()[-1], process
        finally:
            process.kill()


def _environment() -> dict[str, str]:
    import os

    return dict(os.environ)


def use(made: Federation, url: str, patience: float = 10.0) -> None:
    for seat in range(1, len(made.accounts) + 1):
        with made.config(seat).open("a") as file:
            file.write(f'relay = "{url}"\nrelay_patience = {patience}\n')


def events(made: Federation) -> Counter[str]:
    reader = LedgerReader(Rpc(made.url), made.deployment)
    logs = reader.logs(made.deployment.block, reader.block_number())
    return Counter(type(decode(log)).__name__ for log in logs)


def test_nodes_have_their_actions_brought_together_and_one_needs_no_coin(
    federation: MAKE, nodes: Nodes, devnet: Devnet
) -> None:
    """No participant sends a commit, reveal or attestation of its own, and one of them could not: it has nothing."""
    made = federation(4, rounds=3, **LONG)
    devnet.fund(made.address(4), 0)
    with relayer(made) as (url, _):
        use(made, url)
        nodes.start(*map(made.config, range(1, 5)))
        for seat in range(1, 5):
            assert nodes.wait("exit", f"node-{seat}").values == {"code": 0}
    found = events(made)
    assert found["Finalized"] == 3
    assert found["CommitsRelayed"] and found["RevealsRelayed"] and found["AttestationsRelayed"]
    assert not found["Committed"] + found["Revealed"] + found["Attested"], found
    assert int(devnet.rpc.call("eth_getTransactionCount", made.address(4), "latest"), 16) == 0
    code, _ = made.audit()
    assert code == 0


def test_a_relayer_that_dies_or_lies_costs_no_round(federation: MAKE, nodes: Nodes) -> None:
    """One that says to have brought what it has not, and one that is not there: the direct call is made instead."""
    made = federation(3, rounds=2, **LONG)
    with liar() as url:
        use(made, url, patience=1.0)
        nodes.start(*map(made.config, range(1, 4)))
        nodes.wait("finalized", "node-1", 1)
    for seat in range(1, 4):
        assert nodes.wait("exit", f"node-{seat}").values == {"code": 0}
    found = events(made)
    assert found["Finalized"] == 2
    assert found["Committed"] == found["Revealed"] == 6


def test_a_relayer_that_cannot_pay_says_so_and_costs_no_round(federation: MAKE, nodes: Nodes, devnet: Devnet) -> None:
    made = federation(3, rounds=1, **LONG)
    devnet.fund(address_of(made.folder / "keys" / "operator.json"), 0)
    with relayer(made) as (url, process):
        use(made, url)
        nodes.start(*map(made.config, range(1, 4)))
        for seat in range(1, 4):
            assert nodes.wait("exit", f"node-{seat}").values == {"code": 0}
        process.kill()
        assert process.stderr is not None
        said = process.stderr.read().splitlines()
    assert said and all("nothing could be brought: " in line and "not enough funds" in line for line in said), said
    assert not events(made)["CommitsRelayed"]


BROUGHT = {"transaction": "0x" + "11" * 32, "block": 1, "gas": 1, "items": 1}


@pytest.mark.parametrize(
    "answer",
    [
        b'{"transaction": "0x11", "block": 1e999, "gas": 1}',
        b'{"transaction": "0x11", "block": "1", "gas": 1}',
        b'{"transaction": "0x11", "block": -1, "gas": 1}',
        b'{"transaction": "0x11", "block": 1, "gas": 9e99}',
        b'{"transaction": 7, "block": 1, "gas": 1}',
        json.dumps({**BROUGHT, "block": 10**400}).encode(),
        json.dumps({**BROUGHT, "transaction": "x" * 10_000}).encode(),
        b"[]",
        b"7",
        b"\xff",
    ],
)
def test_an_answer_that_is_none_is_as_if_there_were_none(made_open: Federation, answer: bytes) -> None:
    with liar(answer) as url:
        client = RelayedClient(url, 1.0, made_open.url, made_open.deployment, made_open.accounts[0])
        assert client._ask("commit", {}) is None


@pytest.fixture
def made_open(federation: MAKE) -> Federation:
    return federation(2, rounds=1, **LONG)


@pytest.mark.parametrize("wei", [0, 1])
def test_a_participant_that_cannot_pay_leaves_it_to_others_to_open(federation: MAKE, devnet: Devnet, wei: int) -> None:
    """A single wei that somebody sends it changes nothing."""
    made = federation(2, rounds=1, **LONG)
    devnet.fund(made.address(1), wei)
    with liar(b"") as url:
        client = RelayedClient(url, 1.0, made.url, made.deployment, made.accounts[0])
        with pytest.raises(Reverted, match="has no funds to open"):
            client.open(1)
        made.client(2).open(1)
        with pytest.raises(Unavailable, match="it has not brought the commit, and there are no funds here"):
            client.commit(1, b"\x11" * 28)
        client.keep_alive(0)


@contextlib.contextmanager
def liar(body: bytes = json.dumps(BROUGHT).encode()) -> Iterator[str]:
    class Liar(Handler):
        def do_POST(self) -> None:
            self.body()
            self.answer(body)

    with serving(Liar) as url:
        yield url


def test_what_a_reorganisation_takes_back_is_sent_directly(federation: MAKE, devnet: Devnet) -> None:
    """The relayer is gone when its transaction is: the participant asks again, and does it itself."""
    made = federation(3, rounds=1, **LONG)
    with relayer(made) as (url, _):
        client = RelayedClient(url, 10.0, made.url, made.deployment, made.accounts[0])
        client.open(1)
        client.commit(1, b"\x11" * 28)
    assert events(made)["CommitsRelayed"] == 1
    devnet.rpc.call("anvil_reorg", 1, [])
    assert events(made)["CommitsRelayed"] == 0
    client.commit(1, b"\x11" * 28)
    assert events(made)["Committed"] == 1


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/commit", b"{", 400),
        ("/commit", b'{"round": 1}', 400),
        ("/commit", b'{"round": 0, "seal": "0x", "signature": {"deadline": 1, "r": "0x", "vs": "0x"}}', 400),
        ("/reveal", b'{"round": 1, "participant": "0x00", "metadata": "0xzz"}', 400),
        ("/attest", b"[" * 100_000, 400),
        ("/attest", b" " * (1 << 18), 413),
        ("/nothing", b"{}", 404),
    ],
)
def test_what_is_no_item_is_refused(relay_url: str, path: str, body: bytes, status: int) -> None:
    with pytest.raises(HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(relay_url + path, body), timeout=10)  # noqa: S310 - loopback
    assert refused.value.code == status


def test_an_item_that_does_not_arrive_holds_no_connection_for_long(relay_url: str) -> None:
    host, port = relay_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=4 * relay_server.BODY_LIMIT) as connection:
        connection.sendall(b"POST /commit HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert connection.recv(1000).startswith(b"HTTP/1.1 408")
        while connection.recv(1000):  # until it is closed
            pass


def test_an_item_that_the_ledger_refuses_is_told_why(relay_url: str) -> None:
    """No round is open."""
    signature = {"deadline": 2**40, "r": "0x" + "11" * 32, "vs": "0x" + "22" * 32}
    body = json.dumps({"round": 1, "seal": "0x" + "33" * 28, "signature": signature}).encode()
    with pytest.raises(HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(relay_url + "/commit", body), timeout=10)  # noqa: S310 - loopback
    assert refused.value.code == 409
    assert json.load(refused.value)["refused"] == "WrongRound"


@pytest.fixture(scope="module")
def relay_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from tests.integration.harness import found_federation

    folder: Path = tmp_path_factory.mktemp("relay")
    with Devnet.start() as devnet, relayer(found_federation(folder, devnet, 2, 1, None)) as (url, _):
        yield url
