"""A participant's key is rotated between two rounds: its node goes on under the new key, with the same number, state
and residual; the old key is nobody any more.
"""

import re
import shutil
import signal
import threading
from contextlib import closing
from pathlib import Path

import pytest

from chain.client import LedgerClient
from chain.devnet import Devnet
from chain.errors import KeyRotated, NotEnrolled, NotParticipant, WrongPhase
from chain.protocol.digest import Digest
from chain.signing import sign_commit, sign_rotation
from fl_node import node, prepare
from tests.integration.conftest import MAKE
from tests.integration.harness import ETHER, Done, Federation, Nodes, invoke, make_key

LONG = {"commit_window": 120, "reveal_window": 120, "attest_window": 120}
FOR_EVER = 2**40


def test_a_node_goes_on_under_a_new_key(federation: MAKE, nodes: Nodes, devnet: Devnet) -> None:
    made = federation(3, rounds=2, **LONG)
    names = [f"node-{seat}" for seat in (1, 2, 3)]
    owner, old = made.client(), made.client(3)
    owner.set_pauser(owner.address)

    # Round 1 waits for the third node, so it is paused in time: it ends, and no other is opened.
    nodes.start(made.config(1), made.config(2))
    nodes.wait("commit", "node-1", 1)
    owner.pause()
    nodes.start(made.config(3))
    for name in names:
        nodes.wait("finalized", name, 1)
    since = len(nodes.seen)
    nodes.signal("node-3", signal.SIGTERM)
    assert nodes.wait("exit", "node-3", after=since).values == {"code": 0}

    new = make_key(made.folder, "node-3-new")
    devnet.fund(new.address, 100 * ETHER)
    done = rotate(made, "node-3", "node-3-new")
    assert done.code == 0, done.err
    config = made.config(3)
    config.write_text(config.read_text().replace("keys/node-3.", "keys/node-3-new."))
    assert made.history().members[new.address].number == made.history().members[old.address].number == 3

    # What it must send next, by its residual: worked out in a copy of its state.
    first = made.history().rounds[0].reveals[old.address]
    state, copy = made.folder / "state" / "node-3", made.folder / "state" / "copy"
    shutil.copytree(state, copy)
    other = made.folder / "copy.toml"
    other.write_text(config.read_text().replace('"state/node-3"', '"state/copy"'))
    owner.unpause()
    nodes.wait("commit", "node-1", 2)
    nodes.wait("commit", "node-2", 2)
    expected = expected_update(other, 2)
    shutil.rmtree(copy)
    assert expected_update(other, 2) != expected  # without the residual it would be another one

    # Round 2 waits for the third node; the old key is none of its participants.
    the_old_key_can_do_nothing(made, old, 2)

    since = len(nodes.seen)
    nodes.start(config)
    assert nodes.wait("start", "node-3", after=since).values["participant"] == new.address
    for name in names:
        nodes.wait("done", name)
    round_ = made.history().rounds[1]
    assert round_.roster.keys() == {made.address(1), made.address(2), new.address}
    assert round_.roster[new.address] == 3
    assert round_.commits.keys() == round_.reveals.keys() == round_.roster.keys()
    assert round_.outcome is not None
    assert round_.outcome[1] == b"\1\1\1"
    second = round_.reveals[new.address]
    assert str(second.update_digest) == expected
    assert (second.data_root, second.secret_commitment) == (first.data_root, first.secret_commitment)
    code, findings = made.audit()
    assert code == 0, findings

    its_own_data_is_checked_under_both_keys(made, config, [old.address, new.address])


def its_own_data_is_checked_under_both_keys(made: Federation, config: Path, keys: list[str]) -> None:
    """As they were, and changed."""
    deployment, blobs, other = made.folder / "deployment.json", made.folder / "blobs", made.folder / "other.toml"
    words = ["audit", "--deployment", deployment, "--rpc", made.url, "--blobs", blobs, "--json", "--node"]

    def checked(config: Path) -> list[tuple[str, int, str]]:
        found = invoke(*words, config).json["findings"]
        return [(f["status"], f["round"], f["participant"]) for f in found if f["code"] == "D1"]

    assert checked(config) == [("pass", number, key) for number, key in enumerate(keys, 1)]
    mine, others = (re.search("(?m)^data = .*$", made.config(seat).read_text()) for seat in (3, 1))
    assert mine and others
    other.write_text(config.read_text().replace(mine[0], others[0]))
    assert checked(other) == [("fail", number, key) for number, key in enumerate(keys, 1)]


def rotate(made: Federation, key: str, replacement: str) -> Done:
    """`roundledger member rotate`, with the keystores of these names."""
    folder = made.folder / "keys"
    words = ["--deployment", made.folder / "deployment.json", "--rpc", made.url]
    for option, name in (("", key), ("replacement-", replacement)):
        store = option.rstrip("-") or "keystore"
        words += [f"--{store}", folder / f"{name}.json", f"--{option}password-file", folder / f"{name}.password"]
    return invoke("member", "rotate", *words)


def expected_update(config: Path, number: int) -> str:
    """The digest of the update that the node of this file would send now."""
    session = node.load(config, lambda *_, **__: None, threading.Event())
    with closing(session.journal):
        node.finish_interrupted_round(session, session.history())
        round_ = session.round(number)
        session.load_model(round_.base_model)
        return str(prepare.prepare(session, round_).metadata.update_digest)


def the_old_key_can_do_nothing(made: Federation, old: LedgerClient, number: int) -> None:
    head = made.history().head
    account = made.accounts[2]
    model = Digest.of(b"a model of its own")
    for act in (lambda: old.commit(number, b"s" * 28), lambda: old.open(number + 1)):
        with pytest.raises((NotParticipant, WrongPhase)):
            act()
    relayed = sign_commit(account, made.deployment, number, b"s" * 28, FOR_EVER)
    assert made.client().check_commits(number, [relayed]) == [NotParticipant(old.address, number)]
    with pytest.raises(WrongPhase):
        old.attest(number, model, b"\1")
    stranger = make_key(made.folder, "stranger")
    with pytest.raises(NotEnrolled):
        old.rotate(stranger.address, sign_rotation(stranger, made.deployment, old.address, FOR_EVER))
    with pytest.raises(KeyRotated):
        made.client().enrol(old.address)
    assert made.history().head == head
