"""Nodes as separate processes on a real chain: killed, late, alone among liars, stopped.

Where the order of things must be certain, the other participants are sessions in this process: the node's own steps,
taken one by one by the test. The windows of such a federation are long, and close early when all have acted.
"""

import shutil
import signal
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from chain.devnet import Devnet
from chain.errors import WrongPhase, WrongRound
from chain.protocol import verdicts
from chain.protocol.digest import Digest
from chain.protocol.errors import Code
from chain.protocol.history import History
from chain.protocol.round import Phase, Round
from chain.protocol.rules import SelectionRules
from chain.protocol.seal import Metadata, seal
from fl_node import making, node, pace, prepare, rounds, update
from fl_node.findings import Status
from fl_node.gradient import Layout, gradient_matrices
from fl_node.journal import Journal
from fl_node.model import load_tensors, to_tensors
from fl_node.norms import Norms
from fl_node.session import RoundGone, Session
from fl_node.train import train, training_seed
from fl_node.update import Update
from tests.integration.conftest import MAKE
from tests.integration.harness import Federation, Nodes, command, found_federation, invoke, wait_for

LONG = {"commit_window": 120, "reveal_window": 120, "attest_window": 120}


def begin(session: Session, number: int) -> None:
    """Opens the round, unless a node was faster."""
    with suppress(WrongRound, WrongPhase):
        session.client.open(number)
    assert session.round(number).number == number


def take_part(sessions: Sequence[Session], number: int, *, until: Phase = Phase.FINALIZED) -> None:
    """Takes `sessions` through round `number`, step by step; others must act for phases to close early."""
    for session in sessions:
        session.load_model(session.round(number).base_model)
        rounds.commit(session, session.round(number))
    if until is Phase.COMMIT:
        return
    reach(sessions[0], number, Phase.REVEAL)
    for session in sessions:
        rounds.reveal(session, session.round(number))
    if until is Phase.REVEAL:
        return
    attest_and_update(sessions, number)


def attest_and_update(sessions: Sequence[Session], number: int) -> None:
    reach(sessions[0], number, Phase.ATTEST, Phase.FINALIZED)
    results = [rounds.gather_updates(session, session.round(number)) for session in sessions]
    derived = [
        rounds.derive_outcome(session, number, result) for session, result in zip(sessions, results, strict=True)
    ]
    for session, result, outcome in zip(sessions, results, derived, strict=True):
        rounds.attest(session, session.round(number), result, outcome)
    reach(sessions[0], number, Phase.FINALIZED)
    for session, result, model in zip(sessions, results, derived, strict=True):
        rounds.update_model(session, session.round(number), result, model)
        rounds.settle(session, session.round(number))


def reach(session: Session, number: int, *phases: Phase) -> Round:
    found: Round = wait_for(lambda: (r := session.round(number)).phase in phases and r)
    return found


def accepted(round_: Round, address: str) -> bool:
    assert round_.outcome is not None
    return verdicts.decode(round_.outcome[1]).get(round_.roster[address]) == verdicts.ACCEPTED


def assert_audit_passes(made: Federation) -> list[tuple[Code, int, str | None]]:
    """(code, round, participant) of what the audit notes beside."""
    code, findings = made.audit()
    assert code == 0, [finding for finding in findings if finding.status is not Status.PASS]
    return [(f.code, f.round, f.participant) for f in findings if f.status is Status.NOTE and f.round]


# -------------------------------------------------------------- killed, late


def test_round_that_ends_while_a_restarted_node_looks_is_settled_before_the_next(
    federation: MAKE, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node was in a round when it died. The others end it just after the node has seen it open: it must not take
    the next one for its own before it has verified this one's outcome.
    """
    made = federation(3, rounds=1, **LONG)
    first, *others = (made.session(seat) for seat in (1, 2, 3))
    begin(first, 1)
    take_part([first, *others], 1, until=Phase.REVEAL)
    look = node.finish_interrupted_round

    def look_and_miss_the_end(session: Session, history: History) -> None:
        look(session, history)
        if history.rounds[0].is_open:
            attest_and_update(others, 1)

    monkeypatch.setattr(node, "finish_interrupted_round", look_and_miss_the_end)
    node.run(first)
    assert len(made.history().rounds) == 1
    assert accepted(made.history().rounds[0], first.address)
    assert first.journal.unfinished_round() is None
    unsent, last = first.journal.residual.before(first.layout, 2)
    assert unsent is not None and last == 1


def test_kill_of_one_of_four_the_others_finish_and_it_rejoins(federation: MAKE, nodes: Nodes) -> None:
    """Four processes. Killed after its commit, killed before its commit; each time the others finish the round and the
    restarted node is accepted in a later one.
    """
    made = federation(4, rounds=30, commit_window=5, reveal_window=3, attest_window=20)
    names = [f"node-{seat}" for seat in range(1, 5)]
    nodes.start(*map(made.config, range(1, 5)))
    for name in names:
        nodes.wait("finalized", name)

    # After its commit: the reveal is never sent, or just so.
    since = len(nodes.seen)
    killed = nodes.wait("commit", "node-4", after=since).round
    nodes.kill("node-4")
    for name in names[:3]:
        nodes.wait("finalized", name, killed)
    made_round = made.history().rounds[killed - 1]
    assert made.address(4) in made_round.commits
    assert len(made_round.reveals) >= 3
    rejoin(made, nodes, 4)

    # Before its commit: it is stopped as soon as it has voted in the round before.
    since = len(nodes.seen)
    before = nodes.wait("attest", "node-3", after=since).round
    nodes.signal("node-3", signal.SIGSTOP)
    nodes.wait("commit", "node-1", before + 1)
    nodes.kill("node-3")
    for name in ("node-1", "node-2", "node-4"):
        nodes.wait("finalized", name, before + 1)
    assert made.address(3) not in made.history().rounds[before].commits
    rejoin(made, nodes, 3)

    since = len(nodes.seen)
    for name in names:
        nodes.signal(name, signal.SIGTERM)
    for name in names:
        assert nodes.wait("exit", name, after=since).values == {"code": 0}
    assert_audit_passes(made)


def rejoin(made: Federation, nodes: Nodes, seat: int) -> None:
    """Starts the node again; it takes part in a round, and its update is accepted."""
    since, name = len(nodes.seen), f"node-{seat}"
    nodes.start(made.config(seat))
    number = nodes.wait("commit", name, after=since).round
    nodes.wait("finalized", name, number)
    assert accepted(made.history().rounds[number - 1], made.address(seat))


def test_a_commit_that_the_journal_does_not_know_is_told_and_not_revealed(federation: MAKE, nodes: Nodes) -> None:
    made = federation(3, rounds=1, **LONG | {"reveal_window": 8})
    others = [made.session(2), made.session(3)]
    begin(others[0], 1)
    nodes.start(made.config(1))
    nodes.wait("commit", "node-1", 1)
    nodes.kill("node-1")
    shutil.rmtree(made.folder / "state" / "node-1")

    nodes.start(made.config(1))
    take_part(others, 1, until=Phase.REVEAL)
    assert "another node runs with the key" in nodes.wait("not revealed", "node-1", 1).values["reason"]
    attest_and_update(others, 1)
    nodes.wait("done", "node-1")
    assert made.history().rounds[0].no_shows == [made.address(1)]
    assert_audit_passes(made)


def test_kill_after_the_commit_and_restart_reveals_with_the_seal_of_the_journal(federation: MAKE, nodes: Nodes) -> None:
    made = federation(3, rounds=1, **LONG)
    others = [made.session(2), made.session(3)]
    begin(others[0], 1)
    nodes.start(made.config(1))
    nodes.wait("commit", "node-1", 1)
    nodes.kill("node-1")
    state = made.folder / "state" / "node-1"
    with closing(Journal(state)) as journal:
        prepared = journal.pending(1)
    assert prepared is not None
    sealed = made.history().rounds[0].commits[made.address(1)]
    take_part(others, 1, until=Phase.REVEAL)

    nodes.start(made.config(1))
    nodes.wait("reveal", "node-1", 1)
    assert nodes.find("train", "node-1", after=len(nodes.seen) - 5) is None  # not trained again
    attest_and_update(others, 1)
    ended, history = nodes.wait("done", "node-1"), made.history()
    assert ended.values == {"model": str(history.model), "head": f"0x{history.head.hex()}"}
    round_ = made.history().rounds[0]
    metadata = round_.reveals[made.address(1)]
    assert (metadata, metadata.update_digest) == (prepared.metadata, Digest.of(prepared.blob))
    assert seal(others[0].domain, 1, made.address(1), metadata) == sealed
    assert accepted(round_, made.address(1))
    assert nodes.wait("exit", "node-1", after=nodes.seen.index(nodes.wait("done", "node-1"))).values == {"code": 0}
    assert list(state.glob("blob-*")) == []
    assert assert_audit_passes(made) == []


def test_late_node_catches_up_from_the_model_blob_and_missing_ones_stop_nobody(nodes: Nodes, tmp_path: Path) -> None:
    with Devnet.start() as net:  # its own: the clock is moved
        made = found_federation(tmp_path, net, participants=3, rounds=2, enrolled=None, **LONG)
        others = [made.session(2), made.session(3)]
        begin(others[0], 1)
        take_part(others, 1, until=Phase.COMMIT)
        net.increase_time(LONG["commit_window"])  # participant 1 is enrolled, and missing
        others[0].client.advance(1)
        take_part(others, 1)
        assert made.history().rounds[0].commits.keys() == {made.address(2), made.address(3)}

        nodes.start(made.config(1))  # it opens round 2 itself: nobody else does
        assert nodes.wait("caught up", "node-1").values == {"model": str(made.history().model)}
        take_part(others, 2)
        assert nodes.wait("done", "node-1").round == 2
        assert accepted(made.history().rounds[1], made.address(1))
        assert assert_audit_passes(made) == []


def test_sigterm_and_sigint_end_a_node_at_once_and_cleanly(federation: MAKE, nodes: Nodes) -> None:
    made = federation(2, rounds=2, **LONG)
    nodes.start(made.config(1), made.config(2))
    nodes.wait("finalized", "node-1", 1)
    for name, number in (("node-1", signal.SIGTERM), ("node-2", signal.SIGINT)):
        nodes.signal(name, number)
    for name in ("node-1", "node-2"):
        assert nodes.wait("exit", name).values == {"code": 0}
        assert "Traceback" not in nodes.fleet.last_words(name)
    assert not list((made.folder / "state").rglob(".*"))  # nothing half-written


# --------------------------------------------------------------------- liars


def test_honest_node_refuses_a_model_that_does_not_follow(federation: MAKE, nodes: Nodes) -> None:
    """Three of four collude: correct updates, and a quorum for another model. The fourth does not go along, also not
    after a restart.
    """
    made = federation(4, rounds=2, **LONG)
    liars = [made.session(seat) for seat in (2, 3, 4)]
    begin(liars[0], 1)
    nodes.start(made.config(1))
    take_part(liars, 1, until=Phase.REVEAL)
    right = wait_for(lambda: made.history().rounds[0].attestations.get(made.address(1)))
    poisoned = {name: tensor + np.float32(1) for name, tensor in liars[0].model.items()}
    wrong = liars[0].store.put(rounds.weights.encode_model(poisoned))
    for liar in liars:
        liar.client.attest(1, wrong, right[1])
    assert made.history().model == wrong

    for _ in range(2):
        assert nodes.wait("exit", "node-1").values == {"code": 1}
        said = nodes.fleet.last_words("node-1", 1)
        assert said == f"error: A2 round 1 model: expected {wrong}, found {right[0]}"
        assert nodes.find("finalized", "node-1") is None
        assert nodes.find("train", "node-1", 2) is None
        nodes.seen.clear()
        nodes.start(made.config(1))
    nodes.wait("exit", "node-1")
    code, findings = made.audit()
    assert code == 1
    assert [(f.code, f.round) for f in findings if f.status is Status.FAIL] == [(Code.A2, 1)]

    for said in ("round 1 is given up", "nothing to give up"):  # the way out, by hand
        done = invoke("node", "give-up", "--config", made.config(1))
        assert (done.code, done.said) == (0, said)


@dataclass(frozen=True)
class Forged:
    """What a dishonest participant puts on the ledger and into the store; None: it withholds the blob."""

    metadata: Metadata
    blob: bytes | None


def honest_update(session: Session, round_: Round) -> tuple[Update, Layout]:
    """The update that the participant would send."""
    load_tensors(session.module, session.model)
    seed = training_seed(b"x" * 32, round_.number, session.address)
    train(session.module, session.records, session.rules, round_.number, seed)
    layout = session.layout
    gradient = gradient_matrices(layout, session.model, to_tensors(session.module), None)
    made = making.make_update(gradient, layout, session.rules, session.address, round_.number, round_.base_model)
    return made, layout


def describe(session: Session, made: Update, blob: bytes) -> Metadata:
    held = session.data_root
    return making.describe(made, blob, session.layout, held.root, held.secret_commitment, held.count, bytes(32))


def whole(session: Session, made: Update) -> Forged:
    blob = update.encode(made, session.rules.compression, session.layout)
    return Forged(describe(session, made, blob), blob)


def forge_selection(session: Session, made: Update, layout: Layout) -> Forged:
    """U5: more channels are sent than the upload rate allows, everything else is consistent."""
    everything = session.rules.model_copy(update={"selection": SelectionRules(upload_rate=Decimal(1))})
    gradient = gradient_matrices(layout, session.model, to_tensors(session.module), None)
    greedy = making.make_update(gradient, layout, everything, made.participant, made.round, made.base_model)
    return whole(session, greedy)


def forge_norms(session: Session, made: Update, layout: Layout) -> Forged:
    """U4: the committed channel table claims a larger norm than the values have."""
    good, table = whole(session, made), made.table(layout)
    first, *others = table.squared_norms
    norms = Norms.of([first + 1, *others])
    return replace(good, metadata=replace(good.metadata, channel_root=replace(table, squared_norms=norms).root))


def forge_count(session: Session, made: Update, layout: Layout) -> Forged:
    """U3: another number of channels than were sent."""
    good = whole(session, made)
    return replace(good, metadata=replace(good.metadata, sent=good.metadata.sent - 1))


def forge_layout(session: Session, made: Update, layout: Layout) -> Forged:
    """U2: a byte behind the end of a canonical file, committed as it is."""
    blob = update.encode(made, session.rules.compression, layout) + b"\0"
    return Forged(describe(session, made, blob), blob)


def forge_round(session: Session, made: Update, layout: Layout) -> Forged:
    """U2: an update that says it is of another round (an old one, sent again)."""
    return whole(session, replace(made, round=made.round - 1))


def forge_size(session: Session, made: Update, layout: Layout) -> Forged:
    """U2: larger than the rules allow; nobody reads a byte of it."""
    good = whole(session, made)
    return Forged(replace(good.metadata, update_bytes=session.rules.limits.update_bytes + 1), good.blob)


def withhold(session: Session, made: Update, layout: Layout) -> Forged:
    """U1: there never is a blob."""
    return Forged(whole(session, made).metadata, None)


FORGERIES: list[tuple[Callable[[Session, Update, Layout], Forged], Code]] = [
    (forge_selection, Code.U5),
    (forge_norms, Code.U4),
    (forge_count, Code.U3),
    (forge_layout, Code.U2),
    (forge_round, Code.U2),
    (forge_size, Code.U2),
    (withhold, Code.U1),
]


def test_forged_updates_are_excluded_for_the_right_reason(federation: MAKE, nodes: Nodes) -> None:
    """Each round the fourth participant cheats in another way; all the others, one of them a process, exclude it."""
    windows = LONG | {"attest_window": 12}  # a missing blob is waited for during half of it
    made = federation(4, rounds=len(FORGERIES), **windows)
    honest, cheat = [made.session(2), made.session(3)], made.session(4)
    nodes.start(made.config(1))
    for number, (forge, code) in enumerate(FORGERIES, start=1):
        begin(cheat, number)
        round_ = cheat.round(number)
        cheat.load_model(round_.base_model)
        forged = forge(cheat, *honest_update(cheat, round_))
        cheat.client.commit(number, seal(cheat.domain, number, cheat.address, forged.metadata))
        take_part(honest, number, until=Phase.COMMIT)
        reach(cheat, number, Phase.REVEAL)
        if forged.blob is not None:
            cheat.store.put(forged.blob)
        cheat.client.reveal(number, cheat.address, forged.metadata)
        take_part(honest, number)
        event = nodes.wait("excluded", "node-1", number)
        assert event.values["participant"] == cheat.address
        assert event.values["reason"].startswith(f"{code} round {number} update of {cheat.address}"), event
        assert nodes.wait("finalized", "node-1", number).values["accepted"] == 3
        outcome = made.history().rounds[number - 1].outcome
        assert outcome is not None
        assert verdicts.decode(outcome[1])[4] == verdicts.EXCLUDED[code]
    assert nodes.wait("exit", "node-1").values == {"code": 0}
    notes = assert_audit_passes(made)
    assert notes == [(code, number, cheat.address) for number, (_, code) in enumerate(FORGERIES, start=1)]


def test_committed_and_never_revealed_is_a_no_show(federation: MAKE) -> None:
    made = federation(3, rounds=1, commit_window=60, reveal_window=4, attest_window=60)
    honest, absent = [made.session(1), made.session(2)], made.session(3)
    begin(honest[0], 1)
    take_part([absent], 1, until=Phase.COMMIT)
    take_part(honest, 1, until=Phase.COMMIT)
    reach(honest[0], 1, Phase.REVEAL)
    for session in honest:
        rounds.reveal(session, session.round(1))
    for session in honest:
        assert session.wait_while(1, Phase.REVEAL).phase is Phase.ATTEST
    attest_and_update(honest, 1)
    assert assert_audit_passes(made) == [(Code.C1, 1, absent.address)]
    # What it had prepared is given back to it: the residual did not change.
    rounds.settle(absent, absent.round(1))
    assert absent.journal.prepared_round() is None
    assert absent.journal.residual.before(Layout.of(absent.model), 2) == (None, 0)


def killed(session: Session) -> None:
    """Its process has died: the next one can have the state folder."""
    session.journal.residual.flush()
    session.journal._database.close()
    session.journal._lock.close()


def restarted(made: Federation) -> Session:
    """The first node, as far as the beginning of the next round; it waits for no blob."""
    session = made.session(1)
    session.outage = 0.2
    node.finish_interrupted_round(session, session.history())
    session.load_model(session.ledger.history.rounds[-1].base_model)
    return session


def residual_of(session: Session, number: int) -> list[bytes] | None:
    found = prepare.unsent_before(session, number)
    return None if found is None else [matrix.tobytes() for matrix in found]


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """The residual counts as a large one, which is written in the first round and then not for a long time. So does the
    model, which is stored after the last round, too.
    """
    monkeypatch.setattr(pace, "SMALL", 0)
    monkeypatch.setattr(pace, "SHARE", 1e-9)


@pytest.mark.usefixtures("large")
def test_what_a_killed_node_had_not_written_of_its_residual_is_made_again(federation: MAKE) -> None:
    """The same bits as in the memory of a node that was not killed, from three rounds of training done again; the one
    that it was killed in among them, or not.
    """
    made = federation(2, rounds=4, **LONG)
    sessions = [made.session(1), made.session(2)]
    for number in (1, 2, 3):
        begin(sessions[number % 2], number)
        take_part(sessions, number)
    begin(sessions[0], 4)
    take_part(sessions, 4, until=Phase.REVEAL)
    state, copy = sessions[0].journal.folder, made.folder / "before"
    shutil.copytree(state, copy)
    attest_and_update(sessions, 4)
    expected = residual_of(sessions[0], 5)
    assert sessions[0].journal._database.fact("residual")[1] == 1
    killed(sessions[0])

    for folder in (None, copy):  # killed after settling the fourth round, and while it took part in it
        if folder:
            shutil.rmtree(state)
            shutil.copytree(folder, state)
        made.events.clear()
        again = restarted(made)
        assert residual_of(again, 5) == expected
        assert [number for _, kind, number, _ in made.events if kind == "training again"] == [2, 3, 4]
        made.events.clear()
        assert residual_of(again, 5) == expected and made.events == []
        again.journal.close()
    with closing(made.session(1).journal) as journal:
        assert journal._database.fact("residual")[1] == 4, "a node that is stopped writes it"
    assert_audit_passes(made)


class Always(pace.Pace):
    def due(self, size: int) -> bool:
        return True


@pytest.mark.usefixtures("large")
def test_what_cannot_be_made_again_is_lost_and_told(federation: MAKE) -> None:
    """A blob that is nowhere any more, and other data than were trained with: the node goes on without."""
    made = federation(2, rounds=4, **LONG)
    sessions = [made.session(1), made.session(2)]
    for session in sessions:
        session.storing = Always()  # without that update no later model can be derived
    for number in (1, 2, 3):
        begin(sessions[0], number)
        take_part(sessions, number)
    killed(sessions[0])
    state, copy = sessions[0].journal.folder, made.folder / "before"
    shutil.copytree(state, copy)
    digest = made.history().rounds[1].reveals[made.address(1)].update_digest.hex()
    blob = made.folder / "blobs" / "sha256" / digest[:2] / digest
    kept = blob.read_bytes()

    def lost() -> list[tuple[int, str]]:
        return [(number, values["reason"]) for _, kind, number, values in made.events if kind == "unsent lost"]

    blob.unlink()
    made.events.clear()
    again = restarted(made)
    without = residual_of(again, 4)
    ((number, reason),) = lost()
    assert number == 2 and digest in reason
    assert [number for _, kind, number, _ in made.events if kind == "trained"] == [3], "the next one is made again"
    made.events.clear()
    assert residual_of(again, 4) == without and made.events == [], "it is told once"
    killed(again)

    blob.write_bytes(kept)
    shutil.rmtree(state)
    shutil.copytree(copy, state)
    other = restarted(made)
    other.data_root = sessions[1].data_root
    assert residual_of(other, 4) not in (None, without)
    assert [number for number, _ in lost()] == [2, 3] and "data root" in lost()[0][1]
    other.journal.close()


def test_round_without_quorum_aborts_and_the_next_builds_on_the_same_model(federation: MAKE) -> None:
    made = federation(3, rounds=1, commit_window=60, reveal_window=60, attest_window=4)
    sessions = [made.session(seat) for seat in (1, 2, 3)]
    begin(sessions[0], 1)
    take_part(sessions, 1, until=Phase.REVEAL)
    for session in sessions:
        session.client.attest(1, Digest.of(session.address.encode()), b"\1\1\1")  # everybody something else
    for session in sessions:
        round_ = session.wait_while(1, Phase.ATTEST)
        assert round_.phase is Phase.ABORTED
        rounds.settle(session, round_)
        assert session.journal.residual.before(Layout.of(session.model), 2) == (None, 0)
    begin(sessions[1], 2)
    assert made.history().rounds[1].base_model == made.history().rules.genesis_model
    take_part(sessions, 2)
    assert [r.phase for r in made.history().rounds] == [Phase.ABORTED, Phase.FINALIZED]
    assert assert_audit_passes(made) == [(Code.L3, 1, None)]


# ------------------------------------------------------------- wrong settings


def run_node(config: Path) -> tuple[int, str]:
    done = command("node", "run", "--config", config)
    assert done.out == ""
    assert "Traceback" not in done.err
    return done.code, done.err


def test_wrong_password_and_foreign_chain_are_usage_errors(federation: MAKE, tmp_path: Path) -> None:
    made = federation(2)
    (made.folder / "keys" / "node-1.password").write_text("not it\n")
    assert run_node(made.config(1)) == (2, f"error: {made.folder / 'keys' / 'node-1.json'}: wrong password\n")
    assert not (made.folder / "state").exists()
    with Devnet.start(chain_id=4711) as foreign:
        config = made.config(2)
        config.write_text(config.read_text().replace(made.url, foreign.url))
        code, said = run_node(config)
        assert code == 2
        assert f"{foreign.url}: wrong chain id: this server is on chain 4711" in said
        assert int(foreign.rpc.call("eth_blockNumber"), 16) == 0


def test_roster_that_changes_on_the_way_is_a_note(federation: MAKE) -> None:
    made = federation(3, rounds=2, **LONG)
    sessions = [made.session(seat) for seat in (1, 2, 3)]
    stranger = "0x" + "12" * 20
    begin(sessions[0], 1)
    made.client().enrol(stranger)
    take_part(sessions, 1)
    assert stranger not in made.history().rounds[0].roster  # from the next round on
    made.client().retire(made.address(3))
    notes = {(code, number, who) for code, number, who in assert_audit_passes(made)}
    assert notes == {(Code.L3, 1, stranger), (Code.L3, 1, made.address(3))}


def test_round_that_a_reorganisation_takes_back_is_left(federation: MAKE) -> None:
    made = federation(2, rounds=1, **LONG)
    session = made.session(1)
    rpc = session.ledger.reader.rpc
    before = rpc.call("evm_snapshot")
    begin(session, 1)
    assert rpc.call("evm_revert", before)
    for _ in range(4):
        rpc.call("evm_mine")
    with pytest.raises(RoundGone):
        session.round(1)
    assert session.history().rounds == []  # and goes on from there
