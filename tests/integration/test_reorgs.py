"""Reorganisations of a real chain: what lies deep enough is acted on, what is thrown out is sent again; what changes
below makes a node refuse.
"""

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from eth_account import Account
from eth_utils.address import to_checksum_address

from chain.blocks import Depth
from chain.client import LedgerClient
from chain.deploy import load_deployment
from chain.devnet import Devnet
from chain.protocol.errors import Code, Pending, VerificationError
from chain.protocol.events import AbortReason
from chain.protocol.round import Phase
from chain.reader import LedgerReader
from chain.rpc import Rpc
from fl_node import rounds
from fl_node.federation import found
from fl_node.ledger import Ledger
from fl_node.session import RoundGone, Session
from tests.integration.harness import ETHER, Federation, Nodes, found_federation, wait_for

LONG = {"commit_window": 600, "reveal_window": 600, "attest_window": 600}
DEPTH = 5


@pytest.fixture
def net() -> Iterator[Devnet]:
    """Its own: blocks are taken back."""
    with Devnet.start() as chain:
        yield chain


@contextmanager
def mining(net: Devnet, seconds: float = 0.1) -> Iterator[None]:
    """A block every so often, whether there are transactions or not."""
    stop = threading.Event()

    def mine() -> None:
        with Rpc(net.url) as rpc:
            while not stop.wait(seconds):
                rpc.call("evm_mine")

    net.rpc.call("evm_setAutomine", False)
    thread = threading.Thread(target=mine)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        net.rpc.call("evm_setAutomine", True)


def mine(net: Devnet, blocks: int) -> None:
    for _ in range(blocks):
        net.rpc.call("evm_mine")


def head(made: Federation) -> bytes:
    reader = LedgerReader(Rpc(made.url), made.deployment)
    return reader.head(reader.block_number())


def ledger(made: Federation, depth: Depth) -> Ledger:
    return Ledger(LedgerReader(Rpc(made.url), made.deployment), made.rules, depth=depth)


# ------------------------------------------------------------ a whole federation


def the_same_again(made: Federation, net: Devnet, folder: Path) -> Federation:
    """The same rules, keys and records, founded once more on another chain, where nodes wait for depth."""
    shutil.copytree(made.folder, folder, ignore=shutil.ignore_patterns("state", "deployment.json", "blobs"))
    for account in (made.owner, *made.accounts):
        net.fund(account.address, 100 * ETHER)
    addresses = [account.address for account in made.accounts]
    record = folder / "deployment.json"
    found(folder / "federation.toml", net.url, made.owner, str(folder / "blobs"), addresses, record)
    again = replace(made, folder=folder, url=net.url, deployment=load_deployment(record))
    for seat in range(1, len(addresses) + 1):
        text = again.config(seat).read_text().replace(made.url, net.url).replace("depth = 0", f"depth = {DEPTH}")
        again.config(seat).write_text(text)
    return again


def transactions(net: Devnet, address: str) -> list[bool]:
    """By nonce: whether each transaction of the account succeeded."""
    status = []
    for number in range(int(net.rpc.call("eth_blockNumber"), 16) + 1):
        for found_ in net.rpc.call("eth_getBlockByNumber", hex(number), True)["transactions"]:
            if to_checksum_address(found_["from"]) == address:
                assert int(found_["nonce"], 16) == len(status)
                status.append(int(net.rpc.call("eth_getTransactionReceipt", found_["hash"])["status"], 16) == 1)
    return status


def test_reorganisations_in_every_phase_lose_nothing_and_do_nothing_twice(
    devnet: Devnet, net: Devnet, nodes: Nodes, tmp_path: Path
) -> None:
    """Three processes, depth 5: the first commit, reveal and vote of a round is thrown out right after it was mined."""
    calm = found_federation(tmp_path / "calm", devnet, 3, 2, None, **LONG)
    stormy = the_same_again(calm, net, tmp_path / "stormy")
    names = ["node-1", "node-2", "node-3"]
    nodes.start(*map(calm.config, (1, 2, 3)))
    undisturbed = {nodes.wait("done", name).values["model"] for name in names}
    for name in names:
        nodes.wait("exit", name)
    nodes.seen.clear()

    stranger = Account.create()
    net.fund(stranger.address, ETHER)
    thrown_out, sent = 0, 0
    plan = [(1, "commit", 5), (1, "reveal", 4), (1, "attest", 5), (2, "commit", 2), (2, "reveal", 5), (2, "attest", 1)]
    with mining(net):
        nodes.start(*map(stormy.config, (1, 2, 3)))
        for number, phase, depth in plan:
            # Whoever is first: the last of three may not get to vote.
            wait_for(lambda kind=phase, number=number: any((e.kind, e.round) == (kind, number) for e in nodes.seen))
            others = []
            if depth % 2:  # other people's transactions in the new blocks
                fields = {"chainId": net.chain_id, "nonce": sent, "gas": 21_000, "to": stranger.address, "value": 1}
                fields |= {"maxFeePerGas": 10**10, "maxPriorityFeePerGas": 1}
                others, sent = [[stranger.sign_transaction(fields).raw_transaction.to_0x_hex(), depth - 1]], sent + 1
            before = head(stormy)
            net.rpc.call("anvil_reorg", depth, others)
            thrown_out += head(stormy) != before
        ended = {nodes.wait("done", name).values["model"] for name in names}
        for name in names:
            assert nodes.wait("exit", name).values == {"code": 0}
    assert thrown_out >= 3  # the others met blocks without an event
    assert ended == undisturbed
    history = stormy.history()
    assert [round_.phase for round_ in history.rounds] == [Phase.FINALIZED] * 2
    for round_ in history.rounds:
        assert len(round_.commits) == len(round_.reveals) == 3
    acts = sum(1 + len(r.commits) + len(r.reveals) + len(r.attestations) for r in history.rounds)
    done = [transactions(net, account.address) for account in stormy.accounts]
    assert sum(sum(status) for status in done) == acts
    assert stormy.audit()[0] == 0


# ---------------------------------------------------------------- how far it reads


def test_ledger_reads_what_lies_deep_enough_and_a_reorganisation_above_changes_nothing(
    net: Devnet, tmp_path: Path
) -> None:
    made = found_federation(tmp_path, net, 2, 1, None, **LONG)
    reading, newest = ledger(made, 3), ledger(made, 0)
    mine(net, 3)
    assert len(reading.sync().members) == 2
    made.client(1).open(1)
    assert newest.sync().current is not None
    for _ in range(2):
        assert reading.sync().current is None
        mine(net, 1)
    net.rpc.call("anvil_reorg", 3, [])
    mine(net, 3)
    assert reading.sync().current is None
    assert reading.replays == 0
    assert newest.sync().current is None
    assert newest.replays == 1
    made.client(1).open(1)
    mine(net, 3)
    assert reading.sync().current is not None


def test_ledger_reads_final_blocks_only(net: Devnet, tmp_path: Path) -> None:
    made = found_federation(tmp_path, net, 2, 1, None, **LONG)
    reading = ledger(made, "finalized")
    with pytest.raises(Pending, match="the ledger begins in block"):
        ledger(replace(made, deployment=made.deployment.model_copy(update={"block": 3})), "finalized").sync()
    made.client(1).open(1)
    assert reading.sync().current is None
    mine(net, 2)
    assert reading.sync().current is not None
    assert reading.block == int(net.rpc.call("eth_getBlockByNumber", "finalized", False)["number"], 16)


def test_ledger_of_the_same_height_with_other_blocks_is_read_again(net: Devnet, tmp_path: Path) -> None:
    """Filters and heights do not tell: the hashes do."""
    made = found_federation(tmp_path, net, 2, 1, None, **LONG)
    reading = ledger(made, 0)
    made.client(1).open(1)
    assert reading.sync().current is not None
    net.rpc.call("anvil_reorg", 1, [])
    assert reading.sync().current is None
    assert reading.replays == 1


def test_changed_blocks_below_the_depth_must_extend_the_checkpoint(net: Devnet, tmp_path: Path) -> None:
    made = found_federation(tmp_path, net, 2, 1, None, **LONG)
    reading = ledger(made, 2)
    mine(net, 2)
    reading.sync()
    reading.save()
    made.client(1).open(1)
    mine(net, 2)
    assert reading.sync().current is not None
    net.rpc.call("anvil_reorg", 4, [])  # takes the opening back, which was acted on, but not the checkpoint
    mine(net, 2)
    assert reading.sync().current is None
    assert reading.replays == 1

    made.client(1).open(1)
    mine(net, 2)
    seen = reading.sync()
    saved, events = reading.save(), seen.events
    net.rpc.call("anvil_reorg", 5, [])
    mine(net, 4)
    for _ in range(2):  # it stays refused
        with pytest.raises(VerificationError, match=f"history: expected the {events} events seen before, found only"):
            reading.sync()
    assert reading.checkpoint == saved
    net.increase_time(60)  # or it would be the very same event
    made.client(1).open(1)
    mine(net, 2)
    with pytest.raises(VerificationError, match=f"expected head 0x{saved.head.hex()} after {events} events") as caught:
        reading.sync()
    assert (caught.value.code, caught.value.exit_code) == (Code.L4, 1)


def test_session_sends_again_what_a_reorganisation_threw_out(net: Devnet, tmp_path: Path) -> None:
    """Every look at the ledger keeps alive what is on its way."""
    made = found_federation(tmp_path, net, 2, 1, None, **LONG)
    mine(net, 3)
    session = at_depth(made, 1, 3)
    session.history()
    client: LedgerClient = session.client
    receipt = client.open(1)
    mine(net, 1)
    net.rpc.call("anvil_reorg", 2, [])
    assert net.rpc.call("eth_getTransactionReceipt", receipt.transaction) is None
    time.sleep(2)
    wait_for(lambda: [session.history(), net.rpc.call("eth_getTransactionReceipt", receipt.transaction)][1])
    mine(net, 3)
    assert session.round(1).phase is Phase.COMMIT
    assert client._sender.outbox.entries() == []


def test_without_depth_a_round_starts_again_and_does_what_is_undone(net: Devnet, tmp_path: Path) -> None:
    made = found_federation(tmp_path, net, 2, 1, None, **LONG)
    session, other = made.session(1), made.session(2)
    session.client.open(1)
    session.load_model(session.round(1).base_model)
    rounds.commit(session, session.round(1))
    (sealed,) = session.round(1).commits.values()
    net.rpc.call("anvil_reorg", 1, [])
    with pytest.raises(RoundGone, match="round 1 is looked at again"):
        session.wait_while(1, Phase.COMMIT)
    assert session.round(1).commits == {}
    rounds.commit(session, session.round(1))
    assert session.round(1).commits == {session.address: sealed}

    # Back to the phase before: the update is still there to be revealed.
    other.load_model(other.round(1).base_model)
    rounds.commit(other, other.round(1))
    assert session.wait_while(1, Phase.COMMIT).phase is Phase.REVEAL
    net.rpc.call("anvil_reorg", 1, [])
    with pytest.raises(RoundGone):
        session.wait_while(1, Phase.REVEAL)
    assert session.round(1).phase is Phase.COMMIT
    assert session.journal.prepared_round() == 1


# --------------------------------------------------------------- a session's patience


def at_depth(made: Federation, seat: int, depth: int) -> Session:
    config = made.config(seat)
    config.write_text(config.read_text().replace("depth = 0", f"depth = {depth}"))
    return made.session(seat)


@dataclass
class OwnClock:
    """The clock of one machine, some seconds ahead of the others."""

    ahead: float = 0.0

    def time(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic()


def kinds(made: Federation, session: Session) -> list[str]:
    return [kind for who, kind, _, _ in made.events if who == session.address]


def test_session_waits_until_the_ledger_itself_lies_deep_enough(net: Devnet, tmp_path: Path) -> None:
    made = found_federation(tmp_path, net, 2, 1, None, **LONG)
    session = at_depth(made, 1, 6)
    session.outage = 0.0  # it is none
    with mining(net):
        assert session.history().created is not None
    assert "waiting" in kinds(made, session)


def test_session_does_not_wait_for_ever_for_a_transaction_that_nobody_mines(net: Devnet, tmp_path: Path) -> None:
    made = found_federation(tmp_path, net, 2, 1, None, **LONG)
    session = made.session(1)
    session.client._sender.timeout = 0.1
    net.rpc.call("evm_setAutomine", False)
    assert session.send("open", 1, lambda: session.client.open(1))
    assert kinds(made, session) == ["waiting"]
    assert session.history().rounds == []
    mine(net, 1)
    assert session.round(1).phase is Phase.COMMIT
    assert session.client._sender.outbox.entries() == []


def test_phase_that_nobody_acts_in_is_closed_once_though_it_shows_only_later(
    net: Devnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three commit, and then nobody reveals. The sessions see everything five blocks late; each would close."""
    monkeypatch.setattr("fl_node.session.SLOWEST", 3.0)
    made = found_federation(tmp_path, net, 3, 1, None, **(LONG | {"commit_window": 6, "reveal_window": 6}))
    sessions = [at_depth(made, 1, DEPTH), at_depth(made, 2, DEPTH)]
    with mining(net, 0.2):
        sessions[0].client.open(1)
        for session in sessions:
            wait_for(lambda session=session: session.history().rounds)
            session.load_model(session.round(1).base_model)
            rounds.commit(session, session.round(1))
        with ThreadPoolExecutor(2) as pool:
            over = list(pool.map(lambda session: session.wait_while(1, Phase.COMMIT), sessions))
            assert [session.phase(round_) for session, round_ in zip(sessions, over, strict=True)] == [Phase.REVEAL] * 2
            ended = list(pool.map(lambda session: session.wait_while(1, Phase.REVEAL), sessions))
    assert {round_.abort_reason for round_ in ended} == {AbortReason.TOO_FEW_REVEALS}
    told = [kind for session in sessions for kind in kinds(made, session)]
    assert told.count("advance") == 2  # the commits closed, the round aborted
    assert told.count("refused") <= 8
    for session in sessions:
        assert all(transactions(net, session.address))


def test_node_opens_its_update_only_when_its_own_clock_is_past_the_deadline_too(net: Devnet, tmp_path: Path) -> None:
    """A server shows blocks of a time that has not come: somebody could still commit a copy of what is opened now."""
    made = found_federation(tmp_path, net, 3, 1, None, **LONG)
    sessions = [at_depth(made, seat, 1) for seat in (1, 2)]  # the third never commits: the window decides
    for session in sessions:
        session.clock = OwnClock()
    sessions[0].client.open(1)
    with mining(net), ThreadPoolExecutor(2) as pool:
        wait_for(lambda: sessions[0].history().rounds)
        running = [pool.submit(rounds.run_round, session, 1) for session in sessions]
        wait_for(lambda: len(made.history().rounds[0].commits) == 2)
        net.increase_time(2 * LONG["commit_window"])
        wait_for(lambda: sessions[0].ledger.time >= made.history().rounds[0].deadline)
        time.sleep(2)  # dozens of looks
        assert not any(task.done() for task in running)
        assert not {"reveal", "refused", "advance"} & {kind for _, kind, _, _ in made.events}
        assert made.history().rounds[0].phase is Phase.COMMIT
        for session in sessions:
            session.clock.ahead = 2 * LONG["commit_window"]
        for task in running:
            task.result()
    (round_,) = made.history().rounds
    assert (round_.phase, len(round_.commits), len(round_.reveals)) == (Phase.FINALIZED, 2, 2)


def test_node_opens_its_update_only_when_the_chain_is_past_the_deadline_too(net: Devnet, tmp_path: Path) -> None:
    """A node whose own clock is fast."""
    made = found_federation(tmp_path, net, 3, 1, None, **LONG)
    sessions = [at_depth(made, seat, 1) for seat in (1, 2)]
    sessions[0].client.open(1)
    mine(net, 1)
    for session in sessions:
        session.load_model(session.round(1).base_model)
        rounds.commit(session, session.round(1))
    mine(net, 1)
    round_ = sessions[0].round(1)
    assert len(round_.commits) == 2  # enough to go on with
    sessions[0].clock = OwnClock(2 * LONG["commit_window"])
    assert sessions[0].phase(round_) is Phase.COMMIT
    net.increase_time(2 * LONG["commit_window"])
    mine(net, 2)
    assert sessions[0].phase(sessions[0].round(1)) is Phase.REVEAL


def test_nobody_needs_to_close_a_phase_that_somebody_missed(net: Devnet, nodes: Nodes, tmp_path: Path) -> None:
    """Processes that act on final blocks. One dies after its commit: the first vote of round 1 closes the reveals, and
    the first reveal of round 2, where it is missing, the commits.
    """
    made = found_federation(tmp_path, net, 3, 2, None, **(LONG | {"commit_window": 20, "reveal_window": 8}))
    for seat in (1, 2, 3):
        text = made.config(seat).read_text()
        made.config(seat).write_text(text.replace("depth = 0", 'depth = "finalized"'))
    with mining(net, 0.2):
        nodes.start(*map(made.config, (1, 2, 3)))
        nodes.wait("commit", "node-3", 1)
        nodes.kill("node-3")
        ended = {nodes.wait("done", name).values["model"] for name in ("node-1", "node-2")}
    assert len(ended) == 1
    history = made.history()
    assert [round_.phase for round_ in history.rounds] == [Phase.FINALIZED] * 2
    assert [(len(round_.commits), len(round_.reveals)) for round_ in history.rounds] == [(3, 2), (2, 2)]
    assert all(all(transactions(net, account.address)) for account in made.accounts)
    assert "advance" not in {event.kind for event in nodes.seen}
    assert made.audit()[0] == 0
