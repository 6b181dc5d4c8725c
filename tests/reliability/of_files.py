"""The decoders of files: configuration, keys, a node's journal and its records."""

import gzip
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from chain import keys
from chain.deploy import load_deployment
from chain.files import load_rules
from chain.protocol.digest import Digest
from fl_node import making
from fl_node.config import NodeConfig
from fl_node.data import load_records
from fl_node.database import row
from fl_node.dataroot import RecordSecret
from fl_node.journal import DATABASE, Journal, Pending
from fl_node.ledger import Checkpoint
from fl_node.presets import federation_toml, node_toml, preset
from tests.reliability import bombs
from tests.reliability.decoder import FILE, Decode, Decoder, Make, Seeds, always, of_file, written
from tests.reliability.of_ledger import DEPLOYMENT
from tests.reliability.of_updates import ADDRESS, BASE, DENSE, LAYOUT, MODEL, ROUND, blobs, make_update

Change = Callable[[Path, bytes], object]
Read = Callable[[Journal], object]
Bombs = Callable[[], Sequence[bytes]]
PASSWORD = "a password for tests"
IMAGES = "-images-idx3-ubyte"

# ------------------------------------------------------------- the journal


def _journal(name: str, change: Change, read: Read, seeds: Seeds, bad: Bombs = bombs.json_texts) -> Decoder:
    """One part of a journal in which everything else is as it should be: `change` puts the bytes in, `read` is what the
    node does with it after a restart.
    """

    def make(folder: Path) -> Decode:
        good = _prepared(folder / "good")

        def decode(data: bytes) -> None:
            place = folder / "journal"
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(good, place)
            change(place, data)
            journal = Journal(place)
            try:
                read(journal)
            finally:
                journal.close()

        return decode

    return Decoder(f"journal {name}", make, seeds, FILE, bad)


def _prepared(folder: Path) -> Path:
    """A state folder in which every kind of thing is kept."""
    journal = Journal(folder)
    journal.bind(1, ADDRESS, ADDRESS)
    journal.save_checkpoint(Checkpoint(3, bytes(28), 7))
    for accepted in (True, False):
        blob = blobs(DENSE)[0]
        metadata = making.describe(make_update(DENSE), blob, LAYOUT, BASE, BASE, 1, bytes(32))
        journal.prepare(Pending(ROUND, metadata, blob), LAYOUT.matrices(MODEL))
        if accepted:
            journal.settle(ROUND, accepted=True)
    journal.watch(ROUND)
    journal.close()
    return folder


def _set_fact(folder: Path, name: str, value: bytes) -> None:
    with closing(sqlite3.connect(folder / DATABASE)) as database, database:
        *_, checksum = row(name, value.decode(errors="replace"))
        change = "UPDATE fact SET value = CAST(? AS TEXT), checksum = ? WHERE name = ?"
        database.execute(change, (value, checksum, name))


def _fact(name: str, read: Read) -> Decoder:
    def seeds(folder: Path) -> Sequence[bytes]:
        with closing(sqlite3.connect(_prepared(folder / name) / DATABASE)) as database:
            return [str(database.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()[0]).encode()]

    return _journal(name, lambda folder, data: _set_fact(folder, name, data), read, seeds)


def _journals() -> list[Decoder]:
    def residual(folder: Path, data: bytes) -> None:
        digest = Digest.of(data).hex()
        (folder / f"residual-{digest}.bin").write_bytes(data)
        _set_fact(folder, "residual", f'["{digest}", 1]'.encode())

    def residuals(folder: Path) -> Sequence[bytes]:
        return [next(_prepared(folder / "residuals").glob("residual-*.bin")).read_bytes()]

    def databases(folder: Path) -> Sequence[bytes]:
        return [(_prepared(folder / "databases") / DATABASE).read_bytes()]

    return [
        _fact("checkpoint", Journal.checkpoint),
        _fact("ledger", lambda journal: journal.bind(1, ADDRESS, ADDRESS)),
        _fact("watched", Journal.unfinished_round),
        _fact("pending", lambda journal: journal.pending(ROUND)),
        _journal(
            "residual", residual, lambda journal: journal.residual.before(LAYOUT, ROUND), residuals, bombs.tensor_files
        ),
        _journal("database", lambda folder, data: (folder / DATABASE).write_bytes(data), Journal.checkpoint, databases),
    ]


# ---------------------------------------------------------------- the records


def _npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, x=np.ones((2, 2)), y=np.array([0, 1]), id=np.array(["1", "2"]))


def _images(path: Path) -> None:
    path.write_bytes(bytes((0, 0, 8, 3)) + b"".join(side.to_bytes(4, "big") for side in (3, 1, 2)) + bytes(range(6)))


def _parquet(path: Path) -> None:
    pq.write_table(pa.table({"x": [1.0, 2.0], "y": [3, 4], "label": ["a", "b"], "id": ["1", "2"]}), path)


def _records(ending: str) -> Make:
    images = IMAGES in ending
    rules = DENSE.data.model_copy(update={"id": None}) if images else DENSE.data
    return of_file(f"data{ending}", lambda path: load_records(path, rules, labelled=not images))


def _record_files() -> list[Decoder]:
    table = b'x,y,label,id\n1,2.5,a,1\n3,4e2,b,"2"\n'
    rows = [b'"' * 100_001, b"x," * 100_000]
    return [
        Decoder("data.csv", _records(".csv"), always(table), FILE, lambda: rows),
        Decoder("data.npz", _records(".npz"), written(_npz), FILE, bombs.archives),
        Decoder("data.parquet", _records(".parquet"), written(_parquet), FILE),
        Decoder("data idx", _records(IMAGES), written(_images), FILE, bombs.images),
        Decoder("data idx.gz", _records(f"{IMAGES}.gz"), _gzipped_images, FILE, bombs.gzipped),
    ]


def _gzipped_images(folder: Path) -> Sequence[bytes]:

    return [gzip.compress(plain) for plain in written(_images)(folder)]


# ------------------------------------------------------- configuration and keys


def _tables(folder: Path) -> Sequence[bytes]:
    return [federation_toml(preset(name), DENSE.data, 3).encode() for name in ("breast-cancer", "digits")]


def _key(kdf: keys.Kdf, work: int) -> Seeds:
    return written(lambda path: keys.create(path, PASSWORD, kdf, work))


def _keystore(kdf: keys.Kdf, work: int) -> Decoder:
    read = of_file("key.json", lambda path: keys.unlock(path, PASSWORD))
    memory = keys.MAX_SCRYPT_MEMORY + (256 << 20)

    def costly() -> list[bytes]:
        return [*bombs.json_texts(), *bombs.key_files()]

    return Decoder(f"keystore {kdf}", read, _key(kdf, work), FILE, costly, memory)


def decoders() -> list[Decoder]:
    node, secret = node_toml("n", "d.csv", rpc="http://h", seat=1).encode(), written(RecordSecret.load)
    record, password = DEPLOYMENT.to_json(), PASSWORD.encode() + b"\n"
    lines = [b"\n" * (1 << 20), b"x" * (1 << 20)]
    return [
        Decoder("federation.toml", of_file("federation.toml", load_rules), _tables, FILE, bombs.toml_texts),
        Decoder("node.toml", of_file("node.toml", NodeConfig.load), always(node), FILE, bombs.toml_texts),
        Decoder("deployment", of_file("deployment.json", load_deployment), always(record), FILE, bombs.json_texts),
        Decoder("keystore address", of_file("key.json", keys.address_of), _key("pbkdf2", 1), FILE, bombs.json_texts),
        _keystore("pbkdf2", 1),
        _keystore("scrypt", 2),
        Decoder("password", of_file("password", keys.read_password), always(password), FILE, lambda: lines),
        Decoder("record secret", of_file("secret", RecordSecret.load), secret, FILE, lambda: lines),
        *_journals(),
        *_record_files(),
    ]
