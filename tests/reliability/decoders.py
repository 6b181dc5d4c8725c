"""Every decoder of bytes from outside, with valid encodings to damage and the errors that it documents.

`DECODERS` is the table that the fuzzer and the property tests share. Each makes its decoder in a folder of its own, for
those that read files, and says which of the errors are documented: whatever else comes out is an escape.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from chain import errors, keys
from chain.deploy import load_deployment
from chain.files import load_rules
from chain.protocol import abi, verdicts
from chain.protocol import events as ev
from chain.protocol.deployment import Deployment
from chain.protocol.digest import Digest
from chain.protocol.errors import ConfigError, Unavailable, VerificationError
from chain.protocol.history import History
from chain.protocol.rules import Rules
from chain.protocol.seal import Metadata
from chain.reader import LedgerReader
from chain.rpc import Rpc, RpcError
from fl_node import packing, update, weights
from fl_node.config import NodeConfig
from fl_node.data import load_records
from fl_node.dataroot import RecordSecret
from fl_node.fetch import fetch_rules
from fl_node.gradient import Layout
from fl_node.journal import Journal, Pending
from fl_node.ledger import Checkpoint
from fl_node.presets import federation_toml, node_toml, preset
from fl_node.store import BlobStore
from fl_node.verify import verify_update

Decode = Callable[[bytes], object]
Errors = tuple[type[Exception], ...]
ADDRESS = "0x0A0A0a0a0a0a0a0A0a0a0A0a0A0A0A0a0a0a0a0a"
BASE = Digest.of(b"base model")
ROUND = 3
MODEL = {"a.weight": np.zeros((5, 40), np.float32), "a.bias": np.zeros(5, np.float32), "b": np.zeros((), np.float32)}
LAYOUT = Layout.of(MODEL)
LARGE = Layout.of({"a.weight": np.zeros((64, 200), np.float32)})  # from 4096 symbols on packing has sections
LIMIT = 1 << 20


@dataclass(frozen=True)
class Decoder:
    """`make(folder)` gives the decoder; `seeds(folder)` encodings, the first of them valid; `documented` the errors it
    may raise; `memory` how many bytes it may take.
    """

    name: str
    make: Callable[[Path], Decode]
    seeds: Callable[[Path], Sequence[bytes]]
    documented: Errors
    memory: int = 256 << 20


def _rules(**tables: Any) -> Rules:
    document = {
        "format": "roundledger-federation/1",
        "name": "fuzz",
        "model": {"factory": "mlp"},
        "data": {"classes": ["a", "b"], "features": ["x", "y"], "id": "id"},
        "training": {"rounds": 3},
        "limits": {"update_bytes": LIMIT, "model_bytes": LIMIT},
    }
    return Rules.parse(document | tables, "fuzz")


DENSE = _rules(compression={"bits": 8})
COMMON = _rules(compression={"bits": 4, "block": 7}, selection={"selection": "common"})
SPARSE = _rules(compression={"bits": 2, "entry_rate": Decimal("0.1")})
WAYS = (DENSE, COMMON, SPARSE)


def _update(rules: Rules, layout: Layout = LAYOUT, seed: int = 1) -> update.Update:
    rng = np.random.default_rng(seed)
    gradient = [rng.normal(size=(each.channels, each.width)).astype(np.float32) for each in layout.layers]
    return update.make_update(gradient, layout, rules, ADDRESS, ROUND, BASE)


def _blobs(rules: Rules, layout: Layout = LAYOUT) -> list[bytes]:
    return [update.encode(_update(rules, layout, seed), rules.compression, layout) for seed in (1, 2)]


def _update_decoders() -> list[Decoder]:
    found = []
    for name, rules in zip(("dense", "common", "sparse"), WAYS, strict=True):
        found.append(
            Decoder(
                f"update {name}",
                lambda _, rules=rules: lambda data: _verified(data, rules),  # type: ignore[misc]
                lambda _, rules=rules: _blobs(rules),  # type: ignore[misc]
                (VerificationError,),
            )
        )
        for size, layout in (("few", LAYOUT), ("sections", LARGE)):
            found.append(
                Decoder(
                    f"packed {name} {size}",
                    lambda _, rules=rules, layout=layout: (
                        lambda data: packing.unpack(  # type: ignore[misc]
                            data, layout, rules, ADDRESS, ROUND, BASE
                        )
                    ),
                    lambda _, rules=rules, layout=layout: [  # type: ignore[misc]
                        packing.pack(blob, layout, rules) for blob in _blobs(rules, layout)
                    ],
                    (VerificationError,),
                )
            )
    return found


def _verified(data: bytes, rules: Rules) -> object:
    """Every check of an update whose metadata is made to fit as far as the bytes can be read at all."""
    found = update.decode(data, LAYOUT, rules, "fuzz")
    assert update.encode(found, rules.compression, LAYOUT) == data  # one spelling for each content
    metadata = update.describe(found, data, LAYOUT, Digest.of(b"data"), Digest.of(b"secret"), 1, bytes(32))
    return verify_update(data, metadata, ADDRESS, ROUND, LAYOUT, rules)


def _model(data: bytes) -> object:
    return weights.encode_model(weights.decode_model(data, Digest.of(data), LIMIT)) == data


# ------------------------------------------------------------- the ledger


def _vectors() -> list[ev.Log]:
    """The logs of a real contract, the oldest first."""
    found = json.loads((Path(__file__).parents[1] / "vectors" / "head.json").read_text())
    logs = [log for transaction in found["transactions"] for log in transaction["logs"]]
    return [
        ev.Log(tuple(bytes.fromhex(topic[2:]) for topic in log["topics"]), bytes.fromhex(log["data"][2:]), at)
        for at, log in enumerate(logs, start=1)
    ]


LOGS = _vectors()
DEPLOYMENT = Deployment(
    chain_id=31337,
    genesis_block="0x" + "11" * 32,
    address=ADDRESS,
    block=1,
    bytecode_hash="0x" + "22" * 32,
    rules_digest=str(BASE),
    genesis_model=str(BASE),
)
REVERTS = [selector + bytes(31) + b"\1" + bytes(32) for selector in errors.ERRORS]


def _log_bytes(log: ev.Log) -> bytes:
    """A log as bytes to be damaged: the number of topics, they, the data."""
    return bytes([len(log.topics)]) + b"".join(log.topics) + log.data


def _log(data: bytes) -> ev.Log:
    count = data[0] % 5 if data else 0
    topics = tuple(data[1 + 32 * at : 33 + 32 * at] for at in range(count))
    return ev.Log(topics, data[1 + 32 * count :], 7)


def _replayed(data: bytes) -> object:
    """A valid history that goes on with another log."""
    history, at = History(), data[0] % len(LOGS) if data else 0
    for log in (*LOGS[:at], _log(data[1:])):
        history.apply(log)
    return history


class Canned(Rpc):
    """A server that gives the same bytes to every question."""

    def __init__(self, reply: bytes) -> None:
        super().__init__("http://localhost")
        self._reply = reply

    def _post(self, body: bytes) -> tuple[int, bytes]:
        return 200, self._reply


def _reply(result: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()


def _asked(ask: Callable[[LedgerReader], object]) -> Callable[[Path], Decode]:
    return lambda _: lambda data: ask(LedgerReader(Canned(data), DEPLOYMENT))


RAW_LOGS = [
    {
        "topics": [f"0x{topic.hex()}" for topic in log.topics],
        "data": f"0x{log.data.hex()}",
        "blockNumber": hex(log.block),
    }
    for log in LOGS
]
ERROR = {"jsonrpc": "2.0", "id": 1, "error": {"code": 3, "message": "reverted", "data": "0x" + "11" * 36}}


# ------------------------------------------------------------- files


def _file(name: str, read: Callable[[Path], object]) -> Callable[[Path], Decode]:
    """A decoder that reads what it is given from a file."""

    def make(folder: Path) -> Decode:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)

        def decode(data: bytes) -> object:
            path.write_bytes(data)
            path.chmod(0o600)
            return read(path)

        return decode

    return make


def _written(write: Callable[[Path], object]) -> Callable[[Path], Sequence[bytes]]:
    """The seed that a writer of ours leaves in a file."""

    def seeds(folder: Path) -> Sequence[bytes]:
        path = folder / "seed"
        path.unlink(missing_ok=True)
        write(path)
        return [path.read_bytes()]

    return seeds


def _journal(name: str, read: Callable[[Journal], object], write: Callable[[Journal], object]) -> Decoder:
    def written(folder: Path) -> Sequence[bytes]:
        journal = Journal(folder / "seeds")
        write(journal)
        journal.flush()
        return [(folder / "seeds" / name).read_bytes()]

    def make(folder: Path) -> Decode:
        journal = Journal(folder / "journal")
        _prepare(journal)
        journal.flush()
        return _file(f"journal/{name}", lambda _: read(Journal(folder / "journal")))(folder)

    return Decoder(f"journal {name}", make, written, (ConfigError,))


def _prepare(journal: Journal) -> None:
    blob = _blobs(DENSE)[0]
    metadata = update.describe(_update(DENSE), blob, LAYOUT, BASE, BASE, 1, bytes(32))
    journal.prepare(Pending(ROUND, metadata, blob), LAYOUT.matrices(MODEL), LAYOUT)


def _settled(journal: Journal) -> None:
    _prepare(journal)
    journal.settle(ROUND, accepted=True)


def _npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, x=np.ones((2, 2)), y=np.array([0, 1]), id=np.array(["1", "2"]))


def _images(path: Path) -> None:
    path.write_bytes(bytes((0, 0, 8, 3)) + b"".join(n.to_bytes(4, "big") for n in (3, 1, 2)) + bytes(range(6)))


def _parquet(path: Path) -> None:
    pq.write_table(pa.table({"x": [1.0, 2.0], "y": [3, 4], "label": ["a", "b"], "id": ["1", "2"]}), path)


def _records(suffix: str) -> Callable[[Path], Decode]:
    name = f"data{suffix}"
    rules = DENSE.data.model_copy(update={"id": None}) if "idx" in suffix else DENSE.data
    return _file(name, lambda path: load_records(path, rules, labelled="idx" not in suffix))


def _toml(folder: Path) -> Sequence[bytes]:
    data = DENSE.data
    return [federation_toml(preset(name), data, 3).encode() for name in ("breast-cancer", "digits")]


def _stored_rules(folder: Path) -> Decode:
    store = BlobStore(folder / "blobs")
    return lambda data: fetch_rules(store, store.put(data))


KEY = "a password for tests"
METADATA = Metadata(BASE, BASE, 1, BASE, BASE, 1, BASE, 7, 2, 1, bytes(32))
VERIFIED = (VerificationError,)
ANSWER = (Unavailable, RpcError, VerificationError, ConfigError)
FILE = (ConfigError,)


def _always(*seeds: bytes) -> Callable[[Path], Sequence[bytes]]:
    return lambda _: seeds


def _keystore(kdf: keys.Kdf, work: int) -> Decoder:
    def make(path: Path) -> None:
        keys.create(path, KEY, kdf, work)

    memory = keys.MAX_SCRYPT_MEMORY + (256 << 20)
    read = _file("key.json", lambda path: keys.unlock(path, KEY))
    return Decoder(f"keystore {kdf}", read, _written(make), FILE, memory)


def _of_bytes(decode: Decode) -> Callable[[Path], Decode]:
    return lambda _: decode


def _journal_decoders() -> list[Decoder]:
    seen = Checkpoint(3, bytes(32))
    return [
        _journal("checkpoint.json", Journal.checkpoint, lambda journal: journal.save_checkpoint(seen)),
        _journal("ledger.json", lambda journal: journal.bind(1, ADDRESS), lambda journal: journal.bind(1, ADDRESS)),
        _journal("watched", Journal.unfinished_round, lambda journal: journal.watch(ROUND)),
        _journal("pending/seal.json", lambda journal: journal.pending(ROUND), _prepare),
        _journal("residual.bin", lambda journal: journal.residual(LAYOUT), _settled),
    ]


def _rpc_decoders() -> list[Decoder]:
    logs, refusal = _reply(RAW_LOGS[:3]), json.dumps(ERROR).encode()
    block = _reply({"number": "0x1", "timestamp": "0x5"})
    return [
        Decoder("rpc logs", _asked(lambda reader: list(reader.logs(0, 9))), _always(logs, refusal), ANSWER),
        Decoder("rpc head", _asked(lambda reader: reader.head(1)), _always(_reply("0x" + "11" * 32)), ANSWER),
        Decoder("rpc block", _asked(lambda reader: reader.block(1)), _always(block), ANSWER),
        Decoder("rpc number", _asked(LedgerReader.block_number), _always(_reply("0x10")), ANSWER),
    ]


def _ledger_decoders() -> list[Decoder]:
    logs = [_log_bytes(log) for log in LOGS]
    numbered = [bytes([at]) + log for at, log in enumerate(logs)]
    return [
        Decoder("verdicts", _of_bytes(verdicts.decode), _always(b"\1\0\2", b""), ()),
        Decoder("log", _of_bytes(lambda data: ev.decode(_log(data))), _always(*logs), VERIFIED),
        Decoder("history", _of_bytes(_replayed), _always(*numbered), VERIFIED),
        Decoder("revert", _of_bytes(errors.from_revert), _always(*REVERTS), ()),
        Decoder(
            "metadata",
            _of_bytes(lambda data: abi.decode(Metadata, data)),
            _always(abi.encode(METADATA)),
            (abi.AbiError,),  # whoever calls it turns this into one of the documented ones
        ),
    ]


def _file_decoders() -> list[Decoder]:
    node = node_toml("n", "d.csv", rpc="http://h", seat=1).encode()
    record, secret = DEPLOYMENT.to_json(), _written(RecordSecret.load)
    address = _written(lambda path: keys.create(path, KEY, "pbkdf2", 1))
    table = b'x,y,label,id\n1,2.5,a,1\n3,4e2,b,"2"\n'
    return [
        Decoder("federation.toml", _file("federation.toml", load_rules), _toml, FILE),
        Decoder("node.toml", _file("node.toml", NodeConfig.load), _always(node), FILE),
        Decoder("deployment", _file("deployment.json", load_deployment), _always(record), FILE),
        Decoder("keystore address", _file("key.json", keys.address_of), address, FILE),
        Decoder("password", _file("password", keys.read_password), _always(KEY.encode() + b"\n"), FILE),
        Decoder("record secret", _file("secret", RecordSecret.load), secret, FILE),
        Decoder("data.csv", _records(".csv"), _always(table), FILE),
        Decoder("data.npz", _records(".npz"), _written(_npz), FILE),
        Decoder("data.parquet", _records(".parquet"), _written(_parquet), FILE),
        Decoder("data idx", _records("-images-idx3-ubyte"), _written(_images), FILE),
    ]


DECODERS: tuple[Decoder, ...] = (
    *_update_decoders(),
    Decoder("model", _of_bytes(_model), _always(weights.encode_model(MODEL)), VERIFIED),
    Decoder("rules blob", _stored_rules, _always(*(rules.canonical() for rules in WAYS)), VERIFIED),
    *_ledger_decoders(),
    *_rpc_decoders(),
    *_file_decoders(),
    *_journal_decoders(),
    _keystore("pbkdf2", 1),
    _keystore("scrypt", 2),
)
