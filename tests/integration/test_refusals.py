"""What stands at the RPC address is not the pinned ledger any more: a node says what it found, trains no further, and
keeps its state. Also while it runs.
"""

import shutil
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from chain.devnet import Devnet
from chain.protocol.errors import ConfigError, TrustError, Unavailable, VerificationError
from fl_node import ledger
from fl_node.journal import DATABASE
from tests.integration.conftest import MAKE
from tests.integration.harness import Federation, Nodes, found_federation

LONG = {"commit_window": 600, "reveal_window": 600, "attest_window": 600}


@pytest.fixture
def net() -> Iterator[Devnet]:
    """Its own: it is tampered with."""
    with Devnet.start() as chain:
        yield chain


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the ledger checks what is otherwise checked now and then."""
    monkeypatch.setattr(ledger, "RECHECK", 0.0)


def state(made: Federation) -> dict[str, object]:
    """Everything that the nodes keep: the files, and what the databases say."""
    kept: dict[str, object] = {}
    for path in sorted((made.folder / "state").rglob("*")):
        if path.name == DATABASE:
            copied = shutil.copytree(path.parent, path.parent.with_name("copy"))
            with sqlite3.connect(copied / DATABASE) as database:
                kept[str(path)] = list(database.iterdump())
            shutil.rmtree(copied)
        elif path.is_file() and not path.name.startswith(DATABASE):
            kept[str(path)] = path.read_bytes()
    return kept


def test_devnet_that_was_reset_stops_a_running_node(nodes: Nodes, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with Devnet.start(port=port) as before:
        made = found_federation(tmp_path, before, 2, 1, None, **LONG)
        nodes.start(made.config(1))
        nodes.wait("commit", "node-1", 1)
        kept = state(made)
    with Devnet.start(port=port):
        nodes.wait("exit", "node-1")
        said = nodes.fleet.last_words("node-1", 1)
        assert said.startswith("not trusted: L1 genesis block: expected 0x")
        assert nodes.find("exit", "node-1") is not None and nodes.find("exit", "node-1").values == {"code": 5}  # type: ignore[union-attr]
        assert state(made) == kept
        nodes.seen.clear()
        nodes.start(made.config(1))
        assert nodes.wait("exit", "node-1").values == {"code": 5}  # and a restart changes nothing
        assert state(made) == kept


def test_chain_id_that_changes_is_refused(net: Devnet, tmp_path: Path, always: None) -> None:
    made = found_federation(tmp_path, net, 2, 1, None, **LONG)
    session = made.session(1)
    session.history()
    net.rpc.call("anvil_setChainId", 4711)
    with pytest.raises(ConfigError, match="wrong chain id: this server is on chain 4711"):
        session.history()


def test_contract_that_is_replaced_is_refused(net: Devnet, tmp_path: Path, always: None) -> None:
    made = found_federation(tmp_path, net, 2, 1, None, **LONG)
    session = made.session(1)
    session.history()
    kept = state(made)
    net.rpc.call("anvil_setCode", made.deployment.address, "0x00")
    with pytest.raises(TrustError, match=f"bytecode of {made.deployment.address}") as caught:
        session.history()
    assert caught.value.exit_code == 5
    net.rpc.call("anvil_setCode", made.deployment.address, "0x")
    with pytest.raises(ConfigError, match="no contract at this address"):
        session.history()
    assert state(made) == kept


def test_contract_that_is_replaced_is_found_without_being_asked_all_the_time(
    net: Devnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = found_federation(tmp_path, net, 2, 1, None, **LONG)
    session, asked = made.session(1), []
    check = session.ledger.reader.check_deployment
    monkeypatch.setattr(session.ledger.reader, "check_deployment", lambda: [asked.append(1), check()])
    for _ in range(5):
        net.rpc.call("evm_mine")
        session.history()
    assert len(asked) == 1
    net.rpc.call("anvil_reorg", 1, [])  # blocks were replaced: who knows what else
    session.history()
    assert len(asked) == 2


def test_history_that_does_not_extend_the_last_one_seen_is_refused(
    federation: MAKE, net: Devnet, tmp_path: Path
) -> None:
    made = found_federation(tmp_path, net, 2, 1, None, **LONG)
    session = made.session(1)
    before = net.rpc.call("evm_snapshot")
    session.client.open(1)
    events = session.history().events
    session.journal.save_checkpoint(session.ledger.save())
    kept = state(made)
    net.rpc.call("evm_revert", before)
    made.client().retire(made.address(2))  # as many events, others
    restarted = ledger.Ledger(session.ledger.reader, made.rules, session.journal.checkpoint())
    for look in (session.history, session.history, restarted.sync):
        with pytest.raises(VerificationError, match=f"after {events} events, as seen before") as caught:
            look()
        assert caught.value.exit_code == 1
        assert state(made) == kept


def test_server_that_is_behind_the_checkpoint_is_no_liar(net: Devnet, tmp_path: Path) -> None:
    """After a restart, another server may answer, that has not seen the newest blocks yet: that is waited for."""
    made = found_federation(tmp_path, net, 2, 1, None, **LONG)
    session = made.session(1)
    before = net.rpc.call("evm_snapshot")
    session.client.open(1)
    session.history()
    saved = session.ledger.save()
    net.rpc.call("evm_revert", before)
    restarted = ledger.Ledger(session.ledger.reader, made.rules, saved)
    with pytest.raises(Unavailable, match=f"block {saved.block} was seen before, this server shows {saved.block - 1}"):
        restarted.sync()
