"""The command line: bad input ends with exit code 2 and a message that names file and field, half-written files never
stay, and nobody ever sees a traceback. And that everything works when the input is good.
"""

import csv
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from chain import devnet as background
from chain.deploy import load_deployment
from chain.devnet import Devnet
from chain.devnet_process import start_time
from chain.errors import AlreadyEnrolled, AlreadyPaused, HasSuccessor
from chain.files import load_rules
from chain.protocol.digest import Digest
from chain.protocol.seal import Metadata, seal
from chain.reader import LedgerReader
from chain.rpc import Rpc
from fl_node.federation import found
from fl_node.presets import preset
from fl_node.rounds import weights
from fl_node.store import BlobStore
from tests.integration.conftest import MAKE
from tests.integration.harness import (
    ETHER,
    PASSWORD,
    Done,
    Federation,
    command,
    hospital_records,
    invoke,
    make_key,
    write_rules,
)

ZERO = "0x" + "00" * 20


def refused(done: Done, *parts: object, code: int = 2) -> None:
    """A clean refusal: the exit code, one error that names all `parts`, no traceback, nothing on stdout but JSON."""
    assert done.code == code, done.out + done.err
    assert "Traceback" not in done.out + done.err
    assert done.err.startswith(("error: ", "not trusted: ")), done.err
    assert done.err.count("\n") == 1, done.err
    for part in parts:
        assert str(part) in done.err, done.err
    if done.out:
        assert done.json["exit_code"] == code
        assert done.json["message"] in done.err


# -------------------------------------------------------------------- deploy


@dataclass
class Operator:
    """Everything that a deployment needs, in a folder."""

    folder: Path
    net: Devnet
    account: LocalAccount

    def deploy(self, *more: object, **changed: object) -> Done:
        options: dict[str, object] = {
            "federation": self.folder / "federation.toml",
            "rpc": self.net.url,
            "keystore": self.folder / "keys" / "operator.json",
            "password_file": self.folder / "keys" / "operator.password",
            "blobs": self.folder / "blobs",
            "out": self.folder / "deployment.json",
        } | changed
        words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        return invoke("deploy", *words, *more)

    @property
    def sent(self) -> int:
        """Transactions of the operator so far."""
        return int(self.net.rpc.call("eth_getTransactionCount", self.account.address, "latest"), 16)

    def edit(self, old: str, new: str) -> None:
        path = self.folder / "federation.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))


@pytest.fixture
def operator(tmp_path: Path, devnet: Devnet) -> Operator:
    account = make_key(tmp_path, "operator")
    devnet.fund(account.address, ETHER)
    write_rules(tmp_path / "federation.toml", hospital_records(2)[0], rounds=1)
    return Operator(tmp_path, devnet, account)


def refused_before_sending(operator: Operator, done: Done, *parts: object, code: int = 2) -> None:
    refused(done, *parts, code=code)
    assert operator.sent == 0
    assert not (operator.folder / "deployment.json").exists()
    assert not list(operator.folder.rglob(".*"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[selection]\nupload_rate = 0.25", "[selection]\nupload_rate = 0", "selection.upload_rate: "),
        ("[selection]\nupload_rate = 0.25", "[selection]\nupload_rate = 1.5", "selection.upload_rate: "),
        ("[selection]\nupload_rate = 0.25", "[selection]\nupload_rate = nan", "selection.upload_rate: "),
        ("[selection]\nupload_rate = 0.25", '[selection]\nupload_rate = "most"', "selection.upload_rate: "),
        ("[training]", "[training]\nepoch = 3", "training.epoch: unknown key"),
        ('name = "breast-cancer"', 'name = "breast-cancer"\ncolour = "red"', "colour: unknown key"),
        ("rounds = 1", "rounds = 0", "training.rounds: "),
        ("rounds = 1", 'rounds = "one"', "training.rounds: "),
        ("quorum = 0.66", "quorum = 0.5", "ledger.quorum: "),
        ("commit_window = 60", "commit_window = -1", "ledger.commit_window: "),
        ('format = "roundledger-federation/1"', 'format = "roundledger-federation/2"', "format: "),
        ("[model]", "[model", "line 5"),
        ('factory = "mlp"', 'factory = "no_such_module:make"', "cannot import no_such_module"),
        ('factory = "mlp"', 'factory = "json:dumb"', "module json has no function 'dumb'"),
        ('factory = "mlp"', 'factory = "resnet"', "no such factory"),
        ('factory = "mlp"', 'factory = "json:dumps"', "model factory 'json:dumps'"),
        ("hidden = [32, 16]", "hidden = [0]", "hidden must be a list of whole numbers above 0"),
        ("hidden = [32, 16]", "hiden = [32]", "hiden"),
        (
            "[selection]\nupload_rate = 0.25",
            '[selection]\nupload_rate = 0.0001\nbudget = "bytes"',
            "selection: a rate of 0.0001 leaves room for 1 of the entries in the model, where a channel has",
        ),
        (
            "[selection]\nupload_rate = 0.25",
            '[selection]\nupload_rate = 0.001\nbudget = "bytes"\nscope = "layer"',
            "leaves room for 1 of the entries in layer",
        ),
        ("[selection]", "[limits]\nmodel_bytes = 100\n\n[selection]", "limits.model_bytes: the genesis model has"),
    ],
)
def test_deploy_bad_rules(operator: Operator, old: str, new: str, said: str) -> None:
    operator.edit(old, new)
    done = operator.deploy()
    elsewhere = ("factory", "import", "function", "hid", "room")
    where = "" if any(word in said for word in elsewhere) else "federation.toml"
    refused_before_sending(operator, done, where, said)
    assert not (operator.folder / "blobs").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"federation": "none.toml"}, "none.toml: no such file"),
        ({"keystore": "none.json"}, "none.json: no such key file"),
        ({"password_file": "none.password"}, "none.password: cannot read the password file: No such file"),
        ({"rpc": "localhost:8545"}, "RPC URL: not a usable address"),
        ({"rpc": "http://"}, "RPC URL: not a usable address"),
        ({"enrol": "0x1234"}, "0x1234: not an Ethereum address"),
        ({"enrol": "0x00000000000000000000000000000000000000aB"}, "not an Ethereum address"),
        ({"enrol": ZERO}, f"{ZERO}: nobody has this address"),
        ({"blobs": "ftp://host/blobs"}, "ftp://host/blobs: not a blob store"),
    ],
)
def test_deploy_bad_options(operator: Operator, changed: dict[str, object], said: str) -> None:
    refused_before_sending(operator, operator.deploy(**changed), said)


def test_deploy_with_a_participant_twice(operator: Operator) -> None:
    address = Account.create().address
    done = operator.deploy("--enrol", address, "--enrol", address.lower())
    refused_before_sending(operator, done, f"{address}: named twice")


@pytest.mark.parametrize("seed", [-1, 10**30])
def test_deploy_seed_out_of_range(operator: Operator, seed: int) -> None:
    done = operator.deploy(seed=seed)
    assert done.code == 2 and "Invalid value for '--seed'" in done.err and not operator.sent


def test_deploy_wrong_password(operator: Operator) -> None:
    (operator.folder / "keys" / "operator.password").write_text("not it\n")
    done = operator.deploy()
    refused_before_sending(operator, done, operator.folder / "keys" / "operator.json", "wrong password")
    assert "not it" not in done.err + done.out


def test_deploy_unusable_password_files(operator: Operator) -> None:
    path = operator.folder / "keys" / "operator.password"
    path.chmod(0o644)
    refused_before_sending(operator, operator.deploy(), path, "open to other users", f"chmod 600 {path}")
    path.chmod(0o600)
    path.write_text("")
    refused_before_sending(operator, operator.deploy(), path, "empty")
    path.write_bytes(b"\xff\xfe\n")
    refused_before_sending(operator, operator.deploy(), path, "not UTF-8")
    path.unlink()
    path.mkdir(mode=0o700)
    refused_before_sending(operator, operator.deploy(), path, "Is a directory")


@pytest.mark.parametrize(
    ("content", "said"), [("", "not JSON"), ("[]", "not a key file"), ('{"version": 1}', "version 3")]
)
def test_deploy_damaged_keystore(operator: Operator, content: str, said: str) -> None:
    path = operator.folder / "keys" / "operator.json"
    path.write_text(content)
    refused_before_sending(operator, operator.deploy(), path, said)


def test_deploy_unusable_places(operator: Operator) -> None:
    (operator.folder / "file").write_text("mine")
    blobs = operator.folder / "file" / "blobs"
    refused_before_sending(operator, operator.deploy(blobs=blobs), blobs)
    record = operator.folder / "file" / "deployment.json"
    refused_before_sending(operator, operator.deploy(out=record), record, "cannot be written")
    refused_before_sending(operator, operator.deploy(out=operator.folder / "keys"), "keys: exists already")
    assert (operator.folder / "file").read_text() == "mine"


def test_deploy_without_server_or_money(operator: Operator) -> None:
    refused_before_sending(operator, operator.deploy(rpc="http://127.0.0.1:1"), "http://127.0.0.1:1", code=3)
    operator.net.fund(operator.account.address, 0)
    refused_before_sending(operator, operator.deploy(), operator.account.address, "not enough funds")


def test_deploy_bad_input_as_json(operator: Operator) -> None:
    operator.edit("rounds = 1", "rounds = 0")
    done = operator.deploy("--json")
    refused(done, "training.rounds")
    assert done.json == {"error": "ConfigError", "message": done.err.removeprefix("error: ").strip(), "exit_code": 2}


def test_deploy_twice_is_refused_before_a_transaction_is_sent(operator: Operator) -> None:
    participants = [Account.create().address for _ in range(2)]
    first = operator.deploy(*(word for address in participants for word in ("--enrol", address)), "--json")
    assert first.code == 0, first.err
    record = operator.folder / "deployment.json"
    before, sent = record.read_bytes(), operator.sent
    assert first.json == json.loads(before)
    assert sent == 3  # the contract and two enrolments
    deployment = load_deployment(record)
    assert deployment.federation == "federation.toml"
    store = BlobStore(operator.folder / "blobs", create=False)
    assert Digest.of(store.get(deployment.genesis, "genesis", 1 << 20)) == deployment.genesis
    assert Digest.of(store.get(deployment.rules, "rules", 1 << 20)) == deployment.rules

    refused(operator.deploy(), record, "exists already")
    assert (record.read_bytes(), operator.sent) == (before, sent)

    status = invoke("status", "--deployment", record, "--rpc", operator.net.url, "--json").json
    assert [member["address"] for member in status["participants"]] == participants
    assert (status["rounds"], status["model"]) == ([], deployment.genesis_model)


def test_deploy_with_an_enrolment_that_fails_keeps_the_record(operator: Operator) -> None:
    twice, record = [Account.create().address] * 2, operator.folder / "deployment.json"
    blobs = str(operator.folder / "blobs")
    with pytest.raises(AlreadyEnrolled):
        found(operator.folder / "federation.toml", operator.net.url, operator.account, blobs, twice, record)
    assert load_deployment(record).chain_id == operator.net.chain_id


def test_deploy_other_seed_other_genesis(operator: Operator) -> None:
    genesis = [
        operator.deploy("--json", "--seed", seed, out=operator.folder / f"{at}.json").json["genesis_model"]
        for at, seed in enumerate((1, 2, 1))
    ]
    assert genesis[0] == genesis[2] != genesis[1]


def test_deploy_own_model_factory_beside_the_caller(operator: Operator) -> None:
    """A real process: modules are found in the folder where the command is called."""
    (operator.folder / "our_model.py").write_text(
        "from torch import nn\n"
        "def make(shape, classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0], classes))\n"
    )
    operator.edit('factory = "mlp"\noptions = { hidden = [32, 16] }', 'factory = "our_model:make"')
    words = ["deploy", "--federation", "federation.toml", "--rpc", operator.net.url, "--keystore", "keys/operator.json"]
    words += ["--password-file", "keys/operator.password", "--blobs", "blobs"]
    done = command(*words, folder=operator.folder)
    assert done.code == 0, done.err
    assert done.out == "deployment record: deployment.json\n"
    assert load_deployment(operator.folder / "deployment.json").federation == "federation.toml"


# ----------------------------------------------------------- the deployed ledger


@pytest.fixture
def made(federation: MAKE) -> Federation:
    """Three accounts, two of them enrolled."""
    return federation(3, enrolled=(1, 2))


def ledger_options(made: Federation) -> list[object]:
    return ["--deployment", made.folder / "deployment.json", "--rpc", made.url]


def operator_options(made: Federation, key: str = "operator") -> list[object]:
    keys = made.folder / "keys"
    return [*ledger_options(made), "--keystore", keys / f"{key}.json", "--password-file", keys / f"{key}.password"]


def test_member_enrol_and_retire(made: Federation) -> None:
    third = made.address(3)
    done = invoke("member", "enrol", third.lower(), *operator_options(made))
    assert done.code == 0, done.err
    assert done.out.startswith(f"enrol {third}: block ")
    assert made.history().members[third].number == 3
    refused(invoke("member", "enrol", third, *operator_options(made)), f"AlreadyEnrolled(participant={third})")
    assert invoke("member", "retire", third, *operator_options(made)).code == 0
    assert made.history().members[third].until_round == 0
    refused(invoke("member", "retire", third, *operator_options(made)), f"NotEnrolled(participant={third})")


def test_member_is_the_owners_business(made: Federation) -> None:
    done = invoke("member", "enrol", made.address(3), *operator_options(made, "node-1"))
    refused(done, f"OwnableUnauthorizedAccount(account={made.address(1)}): only the owner may do this")
    refused(invoke("member", "enrol", "everybody", *operator_options(made)), "everybody: not an Ethereum address")


@dataclass
class Member:
    """`roundledger member ...` on a ledger whose pauser is node-1."""

    made: Federation

    def __call__(self, key: str, *words: object) -> Done:
        return invoke("member", *words, *operator_options(self.made, key))

    def rotate(self, key: str, replacement: str, *more: object) -> Done:
        """To the key of this name, which must consent."""
        keys = self.made.folder / "keys"
        store, password = keys / f"{replacement}.json", keys / f"{replacement}.password"
        return self(key, "rotate", "--replacement", store, "--replacement-password-file", password, *more)

    @property
    def head(self) -> bytes:
        return self.made.history().head


@pytest.fixture
def member(made: Federation) -> Member:
    member = Member(made)
    done = member("operator", "pauser", made.address(1))
    assert done.code == 0, done.err
    assert done.out.startswith(f"pauser {made.address(1)}: block ")
    return member


def test_member_pause_and_unpause(made: Federation, member: Member) -> None:
    place = made.deployment.address
    for opener, action in (("node-1", "pause"), ("node-1", "unpause"), ("node-1", "pause"), ("operator", "unpause")):
        done = member(opener, action)
        assert done.code == 0, done.err
        assert done.out.startswith(f"{action} {place}: block ")
        if action == "pause":
            with pytest.raises(AlreadyPaused):
                made.client(1).open(1)
    made.client(1).open(1)


def test_member_pause_refused(made: Federation, member: Member) -> None:
    before = member.head
    refused(member("node-1", "unpause"), "the ledger refused: NotPaused()")
    for key, seat in (("operator", 0), ("node-2", 2)):
        address = made.owner.address if seat == 0 else made.address(seat)
        refused(member(key, "pause"), f"the ledger refused: NotPauser(account={address})")
    assert member.head == before
    assert member("node-1", "pause").code == 0
    refused(member("node-1", "pause"), "the ledger refused: AlreadyPaused(): new rounds are paused")
    refused(member("node-2", "unpause"), f"the ledger refused: NotPauser(account={made.address(2)})")
    assert member("operator", "pauser", ZERO).code == 0
    refused(member("node-1", "unpause"), f"the ledger refused: NotPauser(account={made.address(1)})")
    assert member("operator", "unpause").code == 0  # so that a pauser who is gone stops nothing for ever


def test_member_pauser_refused(made: Federation, member: Member) -> None:
    before = member.head
    said = f"OwnableUnauthorizedAccount(account={made.address(1)}): only the owner may do this"
    refused(member("node-1", "pauser", made.address(1)), said)
    refused(member("operator", "pauser", "nobody"), "nobody: not an Ethereum address")
    assert member.head == before


def test_member_successor(made: Federation, member: Member) -> None:
    next_, other = Account.create().address, Account.create().address
    before = member.head
    said = f"OwnableUnauthorizedAccount(account={made.address(1)}): only the owner may do this"
    refused(member("node-1", "successor", next_), said)
    refused(member("operator", "successor", "0x12"), "0x12: not an Ethereum address")
    refused(member("operator", "successor", ZERO), "the ledger refused: ZeroAddress()")
    refused(member("operator", "successor", made.deployment.address), "this is the ledger itself")
    refused(member("operator", "enrol", ZERO), f"{ZERO}: nobody has this address")
    assert member.head == before
    done = member("operator", "successor", next_)
    assert done.code == 0, done.err
    assert done.out.startswith(f"successor {next_}: block ")
    ended = f"HasSuccessor(successor={next_}): this ledger has ended, the federation goes on at its successor"
    refused(member("operator", "successor", other), f"the ledger refused: {ended}")
    with pytest.raises(HasSuccessor):
        made.client(1).open(1)


def test_member_rotate(made: Federation, member: Member) -> None:
    old, new = made.address(2), made.address(3)  # account 3 was never enrolled
    done = member.rotate("node-2", "node-3")
    assert done.code == 0, done.err
    assert done.out.startswith(f"rotate {new}: block ")
    members = made.history().members
    assert members[old].number == members[new].number == 2
    assert members[old].rotated
    refused(member("operator", "enrol", old), f"KeyRotated(participant={old}): its number has gone on to another")
    refused(member("operator", "retire", old), f"the ledger refused: NotEnrolled(participant={old})")


def test_member_rotate_refused(made: Federation, member: Member) -> None:
    before = member.head
    refused(member.rotate("node-1", "node-2"), f"the ledger refused: AlreadyEnrolled(participant={made.address(2)})")
    refused(member.rotate("node-1", "node-1"), f"the ledger refused: AlreadyEnrolled(participant={made.address(1)})")
    refused(member.rotate("node-3", "operator"), f"the ledger refused: NotEnrolled(participant={made.address(3)})")
    refused(member.rotate("node-1", "nobody"), "nobody.password: cannot read the password file")
    (made.folder / "keys" / "node-3.password").write_text("not it\n")
    done = member.rotate("node-1", "node-3")
    refused(done, made.folder / "keys" / "node-3.json", "wrong password")
    assert "not it" not in done.out + done.err
    assert member.head == before


def test_member_as_json(made: Federation, member: Member) -> None:
    place, address = made.deployment.address, made.address(3)
    steps = [
        ("pause", place, member("node-1", "pause", "--json")),
        ("unpause", place, member("node-1", "unpause", "--json")),
        ("pauser", ZERO, member("operator", "pauser", ZERO, "--json")),
        ("rotate", address, member.rotate("node-2", "node-3", "--json")),
        ("successor", ZERO[:-1] + "1", member("operator", "successor", ZERO[:-1] + "1", "--json")),
    ]
    for action, said, done in steps:
        assert (done.code, done.err) == (0, ""), action
        (entry,) = done.json
        assert (entry["action"], entry["address"]) == (action, said)
        assert entry["block"] > made.deployment.block
        assert 21_000 < entry["gas"] < 150_000
    done = member("node-1", "pause", "--json")
    refused(done, "NotPauser")
    message = f"the ledger refused: NotPauser(account={made.address(1)})"
    assert done.json == {"error": "NotPauser", "message": message, "exit_code": 2}
    done = member.rotate("node-3", "node-2", "--json")
    refused(done, "AlreadyEnrolled")
    assert done.json["error"] == "AlreadyEnrolled"


@pytest.mark.parametrize("verb", ["status", "enrol", "classify", "audit"])
def test_every_command_tells_a_wrong_chain_and_a_wrong_address(made: Federation, tmp_path: Path, verb: str) -> None:
    record = made.folder / "deployment.json"
    pinned = json.loads(record.read_text())

    def run() -> Done:
        blobs, output = ("--blobs", made.folder / "blobs"), tmp_path / "labels.csv"
        words: dict[str, list[object]] = {
            "status": ["status", *ledger_options(made)],
            "enrol": ["member", "enrol", made.address(3), *operator_options(made)],
            "classify": ["classify", *ledger_options(made), *blobs, "--input", "x.csv", "--output", output],
            "audit": ["audit", *ledger_options(made), *blobs],
        }
        return invoke(*words[verb])

    record.write_text(json.dumps(pinned | {"chain_id": 1}))
    refused(run(), made.url, "wrong chain id", "names chain 1")
    nobody = Account.create().address
    record.write_text(json.dumps(pinned | {"address": nobody}))
    refused(run(), f"{nobody}: no contract at this address")
    record.write_text("{")
    refused(run(), record)
    record.unlink()
    refused(run(), f"{record}: cannot read the deployment record: No such file or directory")
    assert not (tmp_path / "labels.csv").exists()


def test_status_of_another_contract_is_not_trusted(made: Federation, federation: MAKE) -> None:
    record = made.folder / "deployment.json"
    other = federation(2).deployment.address
    record.write_text(json.dumps(json.loads(record.read_text()) | {"address": other}))
    refused(invoke("status", *ledger_options(made)), "not trusted: L1 bytecode of", other, code=5)


def test_status_up_to_a_depth(made: Federation) -> None:
    made.client(1).open(1)
    number = LedgerReader(Rpc(made.url), made.deployment).block_number()
    for depth, rounds in ((None, 1), ("0", 1), ("1", 0)):
        words = [] if depth is None else ["--depth", depth]
        assert len(invoke("status", *ledger_options(made), *words, "--json").json["rounds"]) == rounds
    refused(invoke("status", *ledger_options(made), "--depth", str(number)), "the ledger begins in block", code=4)
    for wrong in ("-1", "latest", "1.5"):
        refused(invoke("status", *ledger_options(made), f"--depth={wrong}"), "--depth: neither a number of blocks nor")


def test_status_with_the_server_down(made: Federation) -> None:
    done = invoke("status", "--deployment", made.folder / "deployment.json", "--rpc", "http://127.0.0.1:1", "--json")
    refused(done, "http://127.0.0.1:1: not available: cannot connect", code=3)
    assert done.json["code"] == "L1"


# ---------------------------------------------------------------------- node


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("poll = 0.05", "pol = 0.05", "pol: unknown key"),
        ("poll = 0.05", "poll = 0", "poll: "),
        ("poll = 0.05", 'poll = "often"', "poll: "),
        ("poll = 0.05", "threads = 1.5", "threads: "),
        ("[", "", ""),
        ('rpc = "', '# rpc = "', "rpc: Field required"),
        ('rpc = "', 'rpc = []  # "', "rpc: Value should have at least 1 item"),
        ('rpc = "', 'rpc = ["http://127.0.0.1:1", 7]  # "', "rpc.1: Input should be a valid string"),
        ("depth = 0", "depth = 65", "depth: Input should be less than or equal to 64"),
        ("depth = 0", 'depth = "latest"', "depth: Input should be 'finalized'"),
        ('name = "', "name = ", "line 3"),
    ],
)
def test_node_bad_configuration(made: Federation, old: str, new: str, said: str) -> None:
    config = made.config(1)
    config.write_text(config.read_text().replace(old, new, 1) if old != "[" else "[node")
    refused(invoke("node", "run", "--config", config), config, said)
    assert not (made.folder / "state").exists()


@pytest.mark.parametrize("name", ["federation", "deployment", "keystore", "password_file", "data"])
def test_node_missing_files(made: Federation, name: str) -> None:
    config = made.config(1)
    lines = [
        f'{name} = "none.csv"' if line.startswith(f"{name} =") else line for line in config.read_text().split("\n")
    ]
    config.write_text("\n".join(lines))
    refused(invoke("node", "run", "--config", config), made.folder / "none.csv")
    refused(invoke("node", "run", "--config", made.folder / "typo.toml"), made.folder / "typo.toml", "no such file")
    assert not (made.folder / "state").exists()


def test_node_whose_updates_would_all_be_excluded_does_not_start(federation: MAKE) -> None:
    made = federation(2, rounds=1)
    path = made.folder / "federation.toml"
    lines = made.config(1)
    path.write_text(path.read_text() + "\n[limits]\nrecords = 3\n")
    record = made.folder / "deployment.json"
    document = json.loads(record.read_text()) | {"rules_digest": str(load_rules(path).digest)}
    record.write_text(json.dumps(document))
    refused(invoke("node", "run", "--config", lines), "records, and limits.records of the federation is 3")


def test_node_without_its_secret_or_store_does_not_begin_anew(made: Federation) -> None:
    session = made.session(1)
    session.journal.close()
    secret = made.folder / "state" / "node-1" / "secret"
    kept = secret.read_bytes()
    secret.unlink()
    refused(invoke("node", "run", "--config", made.config(1)), secret, "restore it from a backup")
    assert not secret.exists()
    secret.write_bytes(kept)
    secret.chmod(0o600)
    config = made.config(1)
    config.write_text(config.read_text().replace("/blobs", "/blobz").replace('"blobs"', '"blobz"'))
    refused(invoke("node", "run", "--config", config), "no such blob folder")


def test_node_other_rules_than_deployed(made: Federation) -> None:
    path = made.folder / "federation.toml"
    path.write_text(path.read_text().replace("rounds = 3", "rounds = 4"))
    refused(invoke("node", "run", "--config", made.config(1)), path, "every node needs the very file that was deployed")


Lines = list[list[str]]


def _without_column(lines: Lines) -> Lines:
    at = lines[0].index("mean area")
    return [line[:at] + line[at + 1 :] for line in lines]


def _cell(row: int, column: str, value: str) -> Callable[[Lines], Lines]:
    def change(lines: Lines) -> Lines:
        lines[row][lines[0].index(column)] = value
        return lines

    return change


BAD_TABLES: list[tuple[str, Callable[[Lines], Lines], str]] = [
    ("missing column", _without_column, "missing column 'mean area'"),
    ("text", _cell(3, "mean area", "large"), "row 3 (line 4), column 'mean area': expected a number, found 'large'"),
    ("NaN", _cell(2, "mean area", "NaN"), "row 2 (line 3), column 'mean area': expected a finite number, found nan"),
    (
        "infinity",
        _cell(2, "mean area", "inf"),
        "row 2 (line 3), column 'mean area': expected a finite number, found inf",
    ),
    ("empty cell", _cell(1, "mean area", ""), "row 1 (line 2), column 'mean area': expected a number, empty cell"),
    ("label", _cell(1, "diagnosis", "maybe"), "row 1 (line 2), column 'diagnosis': unknown label 'maybe'"),
    ("no label", _cell(1, "diagnosis", ""), "row 1 (line 2), column 'diagnosis': empty cell, expected a label"),
    ("twice", lambda lines: [*lines, lines[1]], "duplicate id"),
    ("short row", lambda lines: [*lines, ["1", "2"]], "has 2 cells, the header has 32"),
    ("header only", lambda lines: lines[:1], "no rows"),
    ("empty", lambda lines: [], "empty file"),
]


def change_table(path: Path, change: Callable[[Lines], Lines]) -> None:
    with path.open(newline="") as file:
        lines = change(list(csv.reader(file)))
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)


@pytest.mark.parametrize(("change", "said"), [row[1:] for row in BAD_TABLES], ids=[row[0] for row in BAD_TABLES])
def test_node_bad_records(made: Federation, change: Callable[[Lines], Lines], said: str) -> None:
    path = made.folder / "hospital-1.csv"
    change_table(path, change)
    refused(invoke("node", "run", "--config", made.config(1)), path, said)
    assert not (made.folder / "state").exists()
    assert made.history().rounds == []


# ------------------------------------------------------------------ classify


@pytest.fixture
def trained(federation: MAKE) -> Federation:
    """A federation with one finalized round: its model is whatever the participants voted for."""
    made = federation(2, rounds=1)
    _, _, test = hospital_records(2)
    preset("breast-cancer").write(made.folder / "held-out.csv", test, made.rules.data)
    session = made.session(1)
    session.load_model(made.deployment.genesis)
    metadata = _metadata(made)
    clients = [made.client(1), made.client(2)]
    clients[0].open(1)
    for client in clients:
        client.commit(1, seal(session.domain, 1, client.address, metadata))
    for client in clients:
        client.reveal(1, client.address, metadata)
    model = session.store.put(weights.encode_model({name: t * 2 for name, t in session.model.items()}))
    for client in clients:
        client.attest(1, model, b"\1\1")
    assert made.history().model == model
    return made


def _metadata(made: Federation) -> Metadata:
    some = Digest.of(b"some")
    return Metadata(made.deployment.genesis, some, 1, some, some, 1, some, 1, 1, 0, bytes(32))


def classify(made: Federation, *more: object, table: str = "held-out.csv", out: str = "labels.csv") -> Done:
    files = ["--blobs", made.folder / "blobs", "--input", made.folder / table, "--output", made.folder / out]
    return invoke("classify", *ledger_options(made), *files, *more)


def test_classify_writes_labels_and_probabilities(trained: Federation) -> None:
    done = classify(trained, "--labelled", "--json")
    assert done.code == 0, done.err
    with (trained.folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    right = sum(row["predicted"] == row["label"] for row in rows)
    assert done.json["accuracy"] == right / len(rows)
    assert done.json["model"] == str(trained.history().model)
    assert all(abs(float(r["probability malignant"]) + float(r["probability benign"]) - 1) < 1e-9 for r in rows)

    change_table(trained.folder / "held-out.csv", lambda lines: [line[:-1] for line in lines])
    assert classify(trained, out="unlabelled.csv").code == 0
    with (trained.folder / "unlabelled.csv").open() as file:
        assert [row["predicted"] for row in csv.DictReader(file)] == [row["predicted"] for row in rows]
    refused(classify(trained, "--labelled", out="more.csv"), "held-out.csv", "missing column 'diagnosis'")


@pytest.mark.parametrize(("change", "said"), [row[1:] for row in BAD_TABLES], ids=[row[0] for row in BAD_TABLES])
def test_classify_bad_records(trained: Federation, change: Callable[[Lines], Lines], said: str) -> None:
    path = trained.folder / "held-out.csv"
    change_table(path, change)
    refused(classify(trained, "--labelled"), path, said)
    assert not (trained.folder / "labels.csv").exists()
    assert not list(trained.folder.glob(".*"))


def test_classify_unusable_files(trained: Federation) -> None:
    refused(classify(trained, table="none.csv"), trained.folder / "none.csv", "no such file")
    refused(classify(trained, table="federation.toml"), "federation.toml", "unknown kind of file '.toml'")
    (trained.folder / "folder").mkdir()
    refused(classify(trained, out="folder"), trained.folder / "folder")
    before = (trained.folder / "held-out.csv").read_bytes()
    for read in ("held-out.csv", "deployment.json", "blobs/sha256/labels.csv"):
        refused(classify(trained, out=read), trained.folder / read, "would be written over what is read")
    assert (trained.folder / "held-out.csv").read_bytes() == before
    images, labels = "u-images-idx3-ubyte", "u-labels-idx1-ubyte.gz"  # the labels are read, too
    for name in (images, labels):
        (trained.folder / name).write_bytes(before)
    refused(classify(trained, table=images, out=labels), trained.folder / labels, "would be written over what is read")
    os.mkfifo(trained.folder / "pipe")
    refused(classify(trained, out="pipe"), trained.folder / "pipe", "something else than a plain file")
    refused(classify(trained, out="held-out.csv/labels.csv"), "held-out.csv")
    assert not list(trained.folder.glob(".*"))


def test_classify_without_blobs(trained: Federation) -> None:
    model = trained.history().model
    assert model is not None
    (trained.folder / "blobs" / "sha256" / model.hex()[:2] / model.hex()).write_bytes(b"another model")
    refused(classify(trained), "U1", str(model), code=1)
    shutil.rmtree(trained.folder / "blobs" / "sha256" / model.hex()[:2])
    refused(classify(trained), f"model {model.short}", code=3)
    shutil.rmtree(trained.folder / "blobs")
    refused(classify(trained), "no such blob folder")
    assert not (trained.folder / "labels.csv").exists()


def test_classify_before_the_first_round_is_pending(made: Federation) -> None:
    refused(classify(made), "no round is finalized yet", code=4)


# -------------------------------------------------------------------- devnet


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "net"
    background.down(tmp_path / "net")


def test_devnet_up_status_fund_down(place: Path, tmp_path: Path) -> None:
    where, state = ("--dir", place), tmp_path / "chain.json"
    assert invoke("devnet", "status", *where).code == 3
    up = command("devnet", "up", *where, "--port", 0, "--state", state, "--json")
    assert up.code == 0, up.err
    assert up.err == ""
    assert up.json["chain_id"] == 31337
    assert start_time(up.json["pid"])  # it outlives the command
    refused(invoke("devnet", "up", *where, "--port", 0), place, f"running already at {up.json['url']}")
    address = Account.create().address
    funded = invoke("devnet", "fund", address, *where, "--ether", 3)
    assert (funded.code, funded.out) == (0, f"{address}: 3 ether\n")
    refused(invoke("devnet", "fund", "0x12", *where), "0x12: not an Ethereum address")
    assert invoke("devnet", "status", *where, "--json").json == {"running": True, "url": up.json["url"], "height": 0}
    assert f"running on {up.json['url']}, block 0" in invoke("devnet", "status", *where).out
    down = command("devnet", "down", *where)
    assert (down.code, down.out) == (0, "stopped\n")
    assert not start_time(up.json["pid"])
    assert state.is_file()
    assert invoke("devnet", "down", *where).code == 0
    assert invoke("devnet", "status", *where, "--json").json["running"] is False
    refused(invoke("devnet", "fund", address, *where), place, "no devnet is running here")


def test_devnet_up_says_how_to_stop_it(place: Path) -> None:
    up = invoke("devnet", "up", "--dir", place, "--port", 0)
    assert up.code == 0, up.err
    assert up.out.endswith(f"stop it with `roundledger devnet down --dir {place}`\n")
    assert up.out.count("\n") == 1


def test_devnet_up_port_in_use(place: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        refused(invoke("devnet", "up", "--dir", place, "--port", port), f"port {port}: Address already in use")
    refused(invoke("devnet", "up", "--dir", place, "--port", 70000), "port 70000: not a port number")
    assert not (place / "devnet.json").exists()


def test_devnet_up_damaged_state(place: Path, tmp_path: Path) -> None:
    state = tmp_path / "chain.json"
    state.write_text("{}")
    refused(invoke("devnet", "up", "--dir", place, "--port", 0, "--state", state), state, "not a saved devnet")
    assert not (place / "devnet.json").exists()
    assert state.read_text() == "{}"


def test_devnet_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for words in (["up", "--port", 0], ["status"], ["down"]):
        refused(invoke("devnet", *words, "--dir", tmp_path / "file"), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


# ---------------------------------------------------------------------- keys


def test_key_new_and_show(tmp_path: Path) -> None:
    password, keystore = tmp_path / "password", tmp_path / "keys" / "me.json"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o600)
    made = command("key", "new", keystore, "--password-file", password)
    assert made.code == 0, made.err
    assert keystore.stat().st_mode & 0o777 == 0o600
    shown = invoke("key", "show", keystore)
    assert (shown.code, shown.out) == (0, made.out)
    before = keystore.read_bytes()
    refused(invoke("key", "new", keystore, "--password-file", password), keystore, "already exists")
    assert keystore.read_bytes() == before
    refused(invoke("key", "show", tmp_path / "none.json"), tmp_path / "none.json", "no such key file")
    password.chmod(0o640)
    refused(invoke("key", "new", tmp_path / "other.json", "--password-file", password), password, "open to other users")
    assert not (tmp_path / "other.json").exists()
    refused(invoke("key", "show", password), password, "not a key file")


# --------------------------------------------------------------------- usage


@pytest.mark.parametrize(
    "words",
    [
        ["audit"],
        ["audit", "--deployment", "d.json", "--rpc", "http://x", "--blobs", "b", "--threads", "0"],
        ["deploy", "--colour", "red"],
        ["wash"],
        ["devnet", "up", "--kind", "hardhat"],
        ["demo", "--rounds", "many"],
        ["demo", "--participants", "1"],
    ],
)
def test_usage_errors(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke(*words)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert done.out == ""
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - names are all that counts


def test_demo_unknown_data_set(tmp_path: Path) -> None:
    refused(invoke("demo", "--dataset", "iris", "--dir", tmp_path / "demo"), "--dataset: unknown data set 'iris'")
    assert not (tmp_path / "demo").exists()


def test_help_and_no_colour_when_piped() -> None:
    done = command("--help")
    assert done.code == 0
    assert "\x1b" not in done.out
    for name in ("devnet", "key", "deploy", "member", "node", "status", "audit", "classify", "demo"):
        assert name in done.out


def test_audit_tells_nothing_of_hosted_keys(made: Federation) -> None:
    """API keys stand in the path of an RPC URL: they are in no message."""
    url = "http://user:hunter2@127.0.0.1:1/v3/SECRETKEY"
    for words in (["status"], ["audit", "--blobs", made.folder / "blobs"]):
        done = invoke(*words, "--deployment", made.folder / "deployment.json", "--rpc", url)
        assert done.code == 3
        assert "SECRETKEY" not in done.said
        assert "hunter2" not in done.said
    keys = operator_options(made)[4:]
    record = made.folder / "again.json"
    done = invoke("deploy", "--federation", made.folder / "federation.toml", "--rpc", url, *keys,
                  "--blobs", made.folder / "blobs", "--out", record)  # fmt: skip
    refused(done, "http://127.0.0.1:1", code=3)
    assert "SECRETKEY" not in done.err
    assert not record.exists()
