"""Whatever is changed after the fact, the audit says so, by code, round and participant, with the right exit code.

The evidence is a finished demo: its chain is loaded again, its folder is copied for every test.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from chain.deploy import deploy, load_deployment
from chain.devnet import Devnet
from chain.files import load_rules
from chain.protocol import events
from chain.protocol.deployment import code_hash
from chain.protocol.digest import Digest
from chain.protocol.history import History
from chain.reader import LedgerReader
from chain.rpc import Rpc, RpcError
from fl_node.ledger import Ledger
from tests.integration.conftest import Finished
from tests.integration.harness import Done, command, invoke, proxy

LEDGER_CODES = {"L2", "L3", "C1", "U6", "A3"}  # what a replay of wrong events may stumble over first


@dataclass
class Evidence:
    """A copy of the finished demo and the chain that it ran on."""

    folder: Path
    url: str
    history: History

    def audit(self, *more: object, url: str = "") -> Done:
        words = ["audit", "--deployment", self.folder / "deployment.json", "--rpc", url or self.url]
        return invoke(*words, "--blobs", self.folder / "blobs", "--json", *more)

    def blob(self, digest: Digest) -> Path:
        return self.folder / "blobs" / "sha256" / digest.hex()[:2] / digest.hex()

    def updates(self) -> list[tuple[int, str, Path]]:
        """(round, participant, blob) of every update."""
        return [
            (round_.number, who, self.blob(metadata.update_digest))
            for round_ in self.history.rounds
            for who, metadata in round_.reveals.items()
        ]

    def models(self) -> list[tuple[int, Path]]:
        """(round, blob) of every finalized model; round 0 is the genesis model."""
        found = [(0, self.blob(self.history.rules.genesis_model))]
        return found + [(r.number, self.blob(r.outcome[0])) for r in self.history.rounds if r.outcome]

    def edit_record(self, **values: object) -> None:
        path = self.folder / "deployment.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture(scope="module")
def history(finished: Finished, saved_chain: Devnet) -> History:
    assert finished.done.code == 0, finished.done.out + finished.done.err
    return Ledger(LedgerReader(saved_chain.rpc, load_deployment(finished.folder / "deployment.json"))).sync()


@pytest.fixture
def evidence(finished: Finished, saved_chain: Devnet, history: History, tmp_path: Path) -> Evidence:
    shutil.copytree(finished.folder, tmp_path / "demo", ignore=shutil.ignore_patterns("chain.json", "logs"))
    return Evidence(tmp_path / "demo", saved_chain.url, history)


def bad(done: Done, status: str = "fail") -> list[tuple[str, int | None, str | None]]:
    """(code, round, participant) of the findings with this status."""
    return [(f["code"], f["round"], f["participant"]) for f in done.json["findings"] if f["status"] == status]


def test_untouched_passes(evidence: Evidence) -> None:
    done = evidence.audit()
    assert (done.code, done.json["verdict"], bad(done), bad(done, "missing")) == (0, "pass", [], [])


# --------------------------------------------------------------------- blobs


@pytest.mark.parametrize("place", ["first", "middle", "last", "random"])
def test_flip_of_a_byte_in_any_update_is_found(evidence: Evidence, place: str) -> None:
    rng = random.Random(7)  # noqa: S311 - a choice, not a secret
    for number, participant, path in evidence.updates():
        data = path.read_bytes()
        at = {"first": 0, "middle": len(data) // 2, "last": -1, "random": rng.randrange(len(data))}[place]
        changed = bytearray(data)
        changed[at] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        done = evidence.audit()
        path.write_bytes(data)
        if done.code == 0:  # the coder's last word may have bits that carry nothing: then the content is the same
            assert at % len(data) >= len(data) - 4
            continue
        assert (done.code, done.json["verdict"]) == (1, "fail")
        assert ("U1", number, participant) in bad(done)
        assert {found[1] for found in bad(done)} == {number}  # no other round is accused
        assert {found[2] for found in bad(done)} <= {participant, None}
    assert evidence.audit().code == 0


@pytest.mark.parametrize("change", [lambda data: b"", lambda data: data[:-1], lambda data: data + b"\0"])
def test_update_of_another_length_is_found(evidence: Evidence, change: Callable[[bytes], bytes]) -> None:
    number, participant, path = evidence.updates()[5]
    path.write_bytes(change(path.read_bytes()))
    done = evidence.audit()
    assert done.code == 1
    assert ("U1", number, participant) in bad(done)


def test_update_removed_is_incomplete_not_proven(evidence: Evidence) -> None:
    for number, participant, path in evidence.updates()[::5]:
        data = path.read_bytes()
        path.unlink()
        done = evidence.audit()
        path.write_bytes(data)
        assert (done.code, done.json["verdict"], bad(done)) == (3, "incomplete", [])
        assert ("U1", number, participant) in bad(done, "missing")
        assert {found[1] for found in bad(done, "missing")} == {number}


def test_update_removed_and_another_changed_is_proven(evidence: Evidence) -> None:
    (_, _, gone), (number, participant, changed), *_ = evidence.updates()
    gone.unlink()
    changed.write_bytes(b"x" + changed.read_bytes()[1:])
    done = evidence.audit()
    assert done.code == 1
    assert ("U1", number, participant) in bad(done)


@pytest.mark.parametrize("choose", [min, max])
def test_swapped_updates_are_both_found(evidence: Evidence, choose: Callable[..., Any]) -> None:
    """Two updates of two rounds and two participants: those most alike in size, and those least."""
    updates = evidence.updates()
    pairs = [(a, b) for a in updates for b in updates if a[0] < b[0] and a[1] != b[1]]
    one, other = choose(pairs, key=lambda pair: abs(pair[0][2].stat().st_size - pair[1][2].stat().st_size))
    content = one[2].read_bytes()
    one[2].write_bytes(other[2].read_bytes())
    other[2].write_bytes(content)
    done = evidence.audit()
    assert done.code == 1
    assert {("U1", *one[:2]), ("U1", *other[:2])} <= set(bad(done))
    assert {found[1] for found in bad(done)} == {one[0], other[0]}


def test_model_changed_is_found_and_the_rounds_after_it_still_verified(evidence: Evidence) -> None:
    for number, path in evidence.models():
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        done = evidence.audit()
        path.write_bytes(data)
        assert done.code == 1
        assert bad(done) == [("U1", number or None, None)]
        message = next(f["message"] for f in done.json["findings"] if f["status"] == "fail")
        assert (f"model of round {number}" if number else "genesis model") in message
        verified = {f["round"] for f in done.json["findings"] if f["code"] == "A2" and f["status"] == "pass"}
        # Without its base nothing of round 1 can be derived; its stored model carries the others.
        assert verified == ({1, 2, 3} if number else {2, 3})


def test_only_the_genesis_model_is_needed_where_there_are_the_updates(evidence: Evidence) -> None:
    (_, genesis), *others = evidence.models()
    for _, path in others:
        path.unlink()
    done = evidence.audit()
    assert (done.code, bad(done), bad(done, "missing")) == (0, [], [])
    genesis.unlink()
    done = evidence.audit()
    assert (done.code, bad(done)) == (3, [])
    assert ("U1", None, None) in bad(done, "missing")


def test_model_removed_that_cannot_be_derived_is_incomplete(evidence: Evidence) -> None:
    number, who, update = evidence.updates()[0]
    update.unlink()
    evidence.models()[number][1].unlink()
    done = evidence.audit()
    assert (done.code, bad(done)) == (3, [])
    assert {("U1", number, who), ("U1", number, None), ("A2", number + 1, None)} <= set(bad(done, "missing"))


def test_model_of_another_round_in_its_place_is_found(evidence: Evidence) -> None:
    models = evidence.models()
    models[3][1].write_bytes(models[2][1].read_bytes())
    done = evidence.audit()
    assert (done.code, bad(done)) == (1, [("U1", 3, None)])


def test_blob_folder_that_is_not_there(evidence: Evidence) -> None:
    shutil.rmtree(evidence.folder / "blobs")
    done = evidence.audit()
    assert done.code == 2
    assert f"{evidence.folder / 'blobs'}: no such blob folder" in done.err
    assert not (evidence.folder / "blobs").exists()


def test_blob_folder_that_is_empty(evidence: Evidence) -> None:
    shutil.rmtree(evidence.folder / "blobs")
    (evidence.folder / "blobs").mkdir()
    done = evidence.audit()
    assert (done.code, bad(done)) == (3, [])


# --------------------------------------------------------------------- rules


@pytest.mark.parametrize(
    ("old", "new"),
    [("upload_rate = 0.25", "upload_rate = 0.5"), ("quorum = 0.66", "quorum = 0.75"), ("epochs = 4", "epochs = 5")],
)
def test_federation_file_changed_is_found(evidence: Evidence, old: str, new: str) -> None:
    path = evidence.folder / "federation.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    done = evidence.audit()
    assert (done.code, bad(done)) == (1, [("L4", None, None)])
    digest = str(load_rules(path).digest)
    assert digest in next(f["message"] for f in done.json["findings"] if f["status"] == "fail")


def test_federation_file_with_other_comments_is_the_same(evidence: Evidence) -> None:
    path = evidence.folder / "federation.toml"
    path.write_text("# seen by the auditor\n" + path.read_text().replace("upload_rate = 0.25", "upload_rate = 0.250"))
    assert evidence.audit().code == 0


def test_federation_file_removed_its_blob_stands_in(evidence: Evidence) -> None:
    (evidence.folder / "federation.toml").unlink()
    assert evidence.audit().code == 0
    rules = evidence.blob(evidence.history.rules.rules_digest)
    data = rules.read_bytes()
    rules.write_bytes(data.replace(b"breast", b"brEast"))
    done = evidence.audit()
    assert done.code == 1
    rules.unlink()
    done = evidence.audit()
    assert (done.code, bad(done, "missing")) == (3, [("L4", None, None)])


@pytest.mark.parametrize("text", ["[model", "", "format = 1", "\xff"])
def test_federation_file_unreadable_is_a_usage_error(evidence: Evidence, text: str) -> None:
    path = evidence.folder / "federation.toml"
    path.write_bytes(text.encode("latin-1"))
    done = evidence.audit()
    assert done.code == 2
    assert str(path) in done.err
    assert done.json["exit_code"] == 2


def test_federation_file_named_but_not_there(evidence: Evidence) -> None:
    done = evidence.audit("--federation", evidence.folder / "typo.toml")
    assert done.code == 2
    assert f"{evidence.folder / 'typo.toml'}: no such file" in done.err


# ----------------------------------------------------- the deployment record


def other_ledger(devnet: Devnet, folder: Path) -> str:
    """Another RoundLedger with the same rules, really deployed on the same chain."""
    owner, pinned = Account.create(), load_deployment(folder / "deployment.json")
    devnet.fund(owner.address, 10**18)
    made = deploy(devnet.url, owner, load_rules(folder / "federation.toml"), pinned.genesis, "federation.toml")
    return made.address


def test_record_of_another_contract_is_not_trusted(evidence: Evidence, saved_chain: Devnet) -> None:
    evidence.edit_record(address=other_ledger(saved_chain, evidence.folder))
    done = evidence.audit()
    assert (done.code, done.json["verdict"], bad(done)) == (5, "untrusted", [("L1", None, None)])


def test_record_of_another_contract_with_its_bytecode_hash_is_not_trusted(
    evidence: Evidence, saved_chain: Devnet
) -> None:
    """Somebody who can write the record pins the code too: the ledger's own rounds are then simply not there."""
    address = other_ledger(saved_chain, evidence.folder)
    code = bytes.fromhex(saved_chain.rpc.call("eth_getCode", address, "latest")[2:])
    evidence.edit_record(address=address, bytecode_hash=code_hash(code))
    done = evidence.audit()
    assert done.json["rounds"] == []
    assert "rounds=0" in done.json["summary"]


def test_record_that_pins_a_changed_contract_is_not_trusted(evidence: Evidence, saved_chain: Devnet) -> None:
    """Whoever deploys writes the record, and could pin a ledger with a back door."""
    address = load_deployment(evidence.folder / "deployment.json").address
    code = bytearray.fromhex(saved_chain.rpc.call("eth_getCode", address, "latest")[2:])
    code[len(code) // 2] ^= 1
    changed = Account.create().address
    saved_chain.rpc.call("anvil_setCode", changed, f"0x{code.hex()}")
    evidence.edit_record(address=changed, bytecode_hash=code_hash(bytes(code)))
    done = evidence.audit()
    assert (done.code, done.json["verdict"], bad(done)) == (5, "untrusted", [("L1", None, None)])
    assert "the ledger of this program" in done.said


@pytest.mark.parametrize("name", ["genesis_block", "bytecode_hash", "rules_digest", "genesis_model"])
def test_record_changed_is_not_trusted(evidence: Evidence, name: str) -> None:
    value = json.loads((evidence.folder / "deployment.json").read_text())[name]
    evidence.edit_record(**{name: value[:-1] + ("0" if value[-1] != "0" else "1")})
    done = evidence.audit()
    assert (done.code, done.json["verdict"], bad(done)) == (5, "untrusted", [("L1", None, None)])
    assert name.split("_", maxsplit=1)[0] in done.json["findings"][-1]["message"]


def test_record_of_an_address_without_code_is_a_usage_error(evidence: Evidence) -> None:
    address = Account.create().address
    evidence.edit_record(address=address)
    done = evidence.audit()
    assert done.code == 2
    assert f"{address}: no contract at this address on chain 31337" in done.err


def test_record_of_another_chain_is_a_usage_error(evidence: Evidence) -> None:
    evidence.edit_record(chain_id=1)
    done = evidence.audit()
    assert done.code == 2
    assert "wrong chain id: this server is on chain 31337, the deployment record names chain 1" in done.err


def test_record_with_another_first_block_never_passes(evidence: Evidence) -> None:
    block = json.loads((evidence.folder / "deployment.json").read_text())["block"]
    evidence.edit_record(block=0)
    assert evidence.audit().code == 0  # looks further back than needed, and finds nothing more
    for later in (block + 1, block + 20):
        evidence.edit_record(block=later)
        done = evidence.audit()
        assert (done.code, {code for code, _, _ in bad(done)}) == (1, {"L3"})
    evidence.edit_record(block=10**6)  # a server that is behind, as far as one can see
    done = evidence.audit()
    assert (done.code, bad(done), bad(done, "missing")) == (3, [], [("L1", None, None)])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "Invalid JSON"),
        ("[]", "file: "),
        ("{}", "chain_id: Field required"),
        ('{"format": "roundledger-deployment/2"}', "format: Input should be 'roundledger-deployment/1'"),
        ('{"colour": 1}', "colour: unknown key"),
        ('{"address": "0x00000000000000000000000000000000000000aB"}', "address: "),
        ('{"block": -1}', "block: "),
    ],
)
def test_record_unreadable_is_a_usage_error(evidence: Evidence, content: str, said: str) -> None:
    path = evidence.folder / "deployment.json"
    path.write_text(content)
    done = evidence.audit()
    assert done.code == 2
    assert str(path) in done.err
    assert said in done.err


# ------------------------------------------------------------- bad RPC servers


def test_server_down_is_incomplete(evidence: Evidence) -> None:
    done = command("audit", "--deployment", evidence.folder / "deployment.json", "--rpc", "http://127.0.0.1:1",
                   "--blobs", evidence.folder / "blobs", "--json")  # fmt: skip
    assert (done.code, done.json["verdict"]) == (3, "incomplete")
    assert "http://127.0.0.1:1: not available: cannot connect" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("method", ["eth_chainId", "eth_getCode", "eth_getLogs", "eth_call", "eth_getBlockByNumber"])
def test_server_that_refuses_is_incomplete(evidence: Evidence, method: str) -> None:
    def refuse(asked: str, params: list[Any], result: Any) -> Any:
        if asked == method:
            raise RpcError(method, -32005, "limit exceeded")
        return result

    with proxy(evidence.url, refuse) as url:
        done = evidence.audit(url=url)
    assert done.code == 3
    assert "limit exceeded" in done.said


def test_server_that_refuses_long_ranges_is_asked_for_short_ones(evidence: Evidence) -> None:
    def refuse(asked: str, params: list[Any], result: Any) -> Any:
        if asked == "eth_getLogs" and int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) >= 3:
            raise RpcError(asked, -32005, "query returned more than 3 blocks")
        return result

    with proxy(evidence.url, refuse) as url:
        done = evidence.audit(url=url)
    assert (done.code, done.json) == (0, evidence.audit().json)


Logs = list[dict[str, Any]]


def altered(evidence: Evidence, change: Callable[[Logs], Logs]) -> Done:
    """The audit through a server that answers with other logs than there are."""

    def lie(asked: str, params: list[Any], result: Any) -> Any:
        return change(result) if asked == "eth_getLogs" else result

    with proxy(evidence.url, lie) as url:
        return evidence.audit(url=url)


def _assert_found(done: Done) -> None:
    assert (done.code, done.json["verdict"]) == (1, "fail"), done.err
    assert {code for code, _, _ in bad(done)} <= LEDGER_CODES
    assert bad(done)


def test_server_that_drops_any_log_is_found(evidence: Evidence) -> None:
    for at in range(evidence.history.events):
        _assert_found(altered(evidence, lambda logs, at=at: logs[:at] + logs[at + 1 :]))  # type: ignore[misc]


def test_server_that_changes_any_log_is_found(evidence: Evidence) -> None:
    rng = random.Random(7)  # noqa: S311 - a choice, not a secret

    def flip(text: str) -> str:
        data = bytearray.fromhex(text[2:])
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return "0x" + data.hex()

    def change(logs: Logs, at: int) -> Logs:
        log = logs[at]
        if at % 2 and len(log["topics"]) > 1:
            log["topics"][-1] = flip(log["topics"][-1])
        elif len(log["data"]) > 2:
            log["data"] = flip(log["data"])
        else:
            log["topics"][0] = flip(log["topics"][0])
        return logs

    for at in range(evidence.history.events):
        _assert_found(altered(evidence, lambda logs, at=at: change(logs, at)))  # type: ignore[misc]


def test_server_that_reorders_logs_is_found(evidence: Evidence) -> None:
    for at in range(0, evidence.history.events - 1, 3):
        _assert_found(
            altered(evidence, lambda logs, at=at: [*logs[:at], logs[at + 1], logs[at], *logs[at + 2 :]])  # type: ignore[misc]
        )


def test_server_that_repeats_or_adds_a_log_is_found(evidence: Evidence) -> None:
    _assert_found(altered(evidence, lambda logs: [*logs, logs[-1]]))
    _assert_found(altered(evidence, lambda logs: [*logs[:7], logs[6], *logs[7:]]))
    foreign = {"topics": ["0x" + "11" * 32], "data": "0x", "blockNumber": "0xff"}
    _assert_found(altered(evidence, lambda logs: [*logs, foreign]))


def test_server_that_keeps_the_last_round_back_is_found(evidence: Evidence) -> None:
    _assert_found(altered(evidence, lambda logs: logs[:36]))
    _assert_found(altered(evidence, lambda logs: []))


def test_server_with_a_stale_head_is_found(evidence: Evidence, saved_chain: Devnet) -> None:
    logs = logs_of(evidence)
    until = logs[len(logs) // 2].block

    def stale(asked: str, params: list[Any], result: Any) -> Any:
        return saved_chain.rpc.call(asked, params[0], hex(until)) if asked == "eth_call" else result

    with proxy(evidence.url, stale) as url:
        done = evidence.audit(url=url)
    assert (done.code, bad(done)) == (1, [("L2", None, None)])


def test_head_is_compared_at_the_block_that_the_logs_end_with(evidence: Evidence) -> None:
    """The chain moves on between two calls: no false alarm."""

    def lagging(asked: str, params: list[Any], result: Any) -> Any:
        if asked == "eth_getBlockByNumber" and params[0] == "latest":
            return result | {"number": hex(int(result["number"], 16) - 3)}
        return result

    with proxy(evidence.url, lagging) as url:
        assert evidence.audit(url=url).code == 0


def test_finding_names_the_round_that_does_not_replay(evidence: Evidence) -> None:
    def drop(logs: Logs) -> Logs:
        kinds = [type(events.decode(_raw(log))) for log in logs]
        reveals = [at for at, kind in enumerate(kinds) if kind is events.Revealed]
        return [log for at, log in enumerate(logs) if at != reveals[4]]  # the first of round 2

    done = altered(evidence, drop)
    assert (done.code, bad(done)) == (1, [("L3", 2, None)])


def _raw(log: dict[str, Any]) -> events.Log:
    topics = tuple(bytes.fromhex(topic[2:]) for topic in log["topics"])
    return events.Log(topics, bytes.fromhex(log["data"][2:]), int(log["blockNumber"], 16))


# ------------------------------------------------------------- one's own data


def test_own_data_pass_and_changed_data_are_found(evidence: Evidence) -> None:
    done = evidence.audit("--node", evidence.folder / "node-1.toml")
    assert done.code == 0
    assert [f["round"] for f in done.json["findings"] if f["code"] == "D1"] == [1, 2, 3]
    path = evidence.folder / "data" / "hospital-1.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], ""]))  # a record less
    done = evidence.audit("--node", evidence.folder / "node-1.toml")
    assert done.code == 1
    who = next(f["participant"] for f in done.json["findings"] if f["code"] == "D1")
    assert bad(done) == [("D1", number, who) for number in (1, 2, 3)]


def test_own_data_without_the_secret_is_a_usage_error(evidence: Evidence) -> None:
    """A new secret would give another root and accuse the participant falsely."""
    secret = evidence.folder / "state" / "node-1" / "secret"
    secret.unlink()
    done = evidence.audit("--node", evidence.folder / "node-1.toml")
    assert done.code == 2
    assert str(secret) in done.err
    assert not secret.exists()


# ------------------------------------------------- a server that lies consistently


def invented(evidence: Evidence) -> Callable[[str, list[Any], Any], Any]:
    """Hides the last round, and gives the head that fits: nothing in its own answers contradicts it."""
    last = len(evidence.history.rounds)
    logs = logs_of(evidence)
    kept = next(i for i, log in enumerate(logs) if (e := events.decode(log)) and getattr(e, "round", 0) == last)
    head = heads(evidence)[kept]

    def lie(asked: str, params: list[Any], result: Any) -> Any:
        if asked == "eth_getLogs":
            return result[:kept]
        if asked == "eth_call":
            return "0x" + (head + bytes(4)).hex()
        return result

    return lie


def logs_of(evidence: Evidence) -> list[events.Log]:
    reader = LedgerReader(Rpc(evidence.url), load_deployment(evidence.folder / "deployment.json"))
    return list(reader.logs(0, reader.block_number()))


def heads(evidence: Evidence) -> list[bytes]:
    found = [events.EMPTY_HEAD]
    for log in logs_of(evidence):
        found.append(events.extend_head(found[-1], log))
    return found


def test_server_that_invents_logs_and_head_is_found_by_a_witness_or_a_known_head(evidence: Evidence) -> None:
    head = f"0x{evidence.history.head.hex()}"
    with proxy(evidence.url, invented(evidence)) as url:
        alone = evidence.audit(url=url)
        assert alone.code == 0 and len(alone.json["rounds"]) == len(evidence.history.rounds) - 1
        assert ("L2", None, None) in bad(alone, "note")  # and it says that nobody else was asked
        witnessed = evidence.audit("--witness", evidence.url, url=url)
        assert (witnessed.code, bad(witnessed)) == (1, [("L2", None, None)])
        known = evidence.audit("--head", head, url=url)
        assert (known.code, bad(known)) == (1, [("L4", None, None)])
        twice = evidence.audit("--witness", url + "/", url=url)
        assert (twice.code, "the same server twice" in twice.said) == (2, True)
    honest = evidence.audit("--head", head)
    assert (honest.code, bad(honest, "note")) == (0, [])
    older = evidence.audit("--head", f"0x{heads(evidence)[9].hex()}")  # passed on the way; but what of the rest?
    assert (older.code, bad(older, "note")) == (0, [("L2", None, None)])
    assert f"{evidence.history.events - 9} events after the known head are the word of one server" in older.said
    unknown = evidence.audit("--head", "0x" + "ab" * 28)
    assert (unknown.code, "is it typed right, and not newer than that block?" in unknown.said) == (1, True)
    assert evidence.audit("--head", "0x12").code == 2
    above = int(Rpc(evidence.url).call("eth_blockNumber"), 16) - logs_of(evidence)[-1].block
    early = evidence.audit("--head", head, "--depth", above + 1)  # the blocks that were asked for end before it
    assert early.code == 4 and "the known head is that of block" in early.said


def test_server_that_keeps_the_end_of_the_history_to_itself_is_noted_with_a_witness(evidence: Evidence) -> None:
    """Its head fits the blocks that it shows. Nothing is wrong with them, but something follows."""
    last = logs_of(evidence)[-1].block - 1
    kept = sum(log.block <= last for log in logs_of(evidence))

    def behind(asked: str, params: list[Any], result: Any) -> Any:
        if asked == "eth_getBlockByNumber" and params[0] == "latest":
            return Rpc(evidence.url).call("eth_getBlockByNumber", hex(last), False)
        return hex(last) if asked == "eth_blockNumber" else result

    with proxy(evidence.url, behind) as url:
        done = evidence.audit("--witness", evidence.url, url=url)
    assert done.code == 0
    assert ("L2", None, None) in bad(done, "note")
    later = len(logs_of(evidence)) - kept
    assert f"this audit ends at block {last}: {evidence.url} has {later} later events" in done.said


def test_witness_that_cannot_be_asked_leaves_the_audit_incomplete(evidence: Evidence) -> None:
    done = evidence.audit("--witness", "http://127.0.0.1:1")
    assert (done.code, bad(done, "missing")) == (3, [("L2", None, None)])


def test_witness_of_another_chain_speaks_against_itself(evidence: Evidence) -> None:
    with proxy(evidence.url, lambda asked, _, result: "0x7" if asked == "eth_chainId" else result) as url:
        done = evidence.audit("--witness", url)
    assert (done.code, bad(done), bad(done, "missing")) == (3, [], [("L2", None, None)])
    assert f"the witness {url} is no server of this ledger" in done.said
    assert len(done.json["rounds"]) == len(evidence.history.rounds)


# --------------------------------------------------------------------- where the report goes


def test_report_takes_the_place_of_a_plain_file_alone_and_an_old_one_does_not_stay(evidence: Evidence) -> None:
    report, device = evidence.folder / "report.json", evidence.folder / "a pipe"
    assert evidence.audit("--report", report).code == 0
    assert json.loads(report.read_text())["verdict"] == "pass"
    assert evidence.audit("--report", report, "--depth", 10**6).code == 4
    assert not report.exists(), "it would say that this audit passed"
    os.mkfifo(device)
    done = evidence.audit("--report", device)
    assert (done.code, "something else than a plain file" in done.said, device.is_fifo()) == (2, True, True)


def test_report_is_not_written_over_what_the_audit_reads(evidence: Evidence) -> None:
    for read in ("deployment.json", "federation.toml", "blobs/sha256/report.json"):
        before = (evidence.folder / read).read_bytes() if "blobs" not in read else None
        done = evidence.audit("--report", evidence.folder / read)
        assert (done.code, "would be written over what is read" in done.said) == (2, True)
        assert before is None or (evidence.folder / read).read_bytes() == before


def test_record_or_rules_that_are_no_plain_file_are_not_waited_for(evidence: Evidence) -> None:
    rules = evidence.folder / "federation.toml"
    rules.unlink()
    os.mkfifo(rules)
    done = evidence.audit()
    assert (done.code, "not a plain file" in done.said) == (2, True)
    evidence.edit_record(federation="/dev/zero")
    done = evidence.audit()
    assert (done.code, "not a plain file" in done.said) == (2, True)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("full", ["stdout", "stderr"])
def test_no_room_for_what_is_said_is_neither_a_finding_nor_a_pass(
    evidence: Evidence, unbuffered: str, full: str
) -> None:
    words = ["audit", "--deployment", evidence.folder / "deployment.json", "--rpc", evidence.url]
    command = [Path(sys.executable).parent / "roundledger", *words, "--blobs", evidence.folder / "blobs", "--json"]
    with Path("/dev/full").open("w") as nowhere:
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {full: nowhere}
        environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run(command, check=False, env=environment, **streams)
    assert done.returncode == 2


@pytest.mark.parametrize("answer", [None, "zz", "0xzz", {}, [], [None], [{"topics": []}], 7])
@pytest.mark.parametrize("method", ["eth_getBlockByNumber", "eth_getLogs", "eth_call", "eth_getCode", "eth_chainId"])
def test_senseless_answers_are_no_evidence(evidence: Evidence, method: str, answer: Any) -> None:
    with proxy(evidence.url, lambda asked, _, result: answer if asked == method else result) as url:
        done = evidence.audit(url=url)
    if method == "eth_getLogs" and answer == []:
        assert done.code == 1  # well formed, and contradicted by the head
    else:
        assert (done.code, [code for code, _, _ in bad(done, "missing")]) in ((3, ["L1"]), (3, ["L2"]))
