"""The data root: which records a node trained on, committed without showing one of them.

A leaf is `key || SHA-256(nonce || canonical record)`; the leaves are sorted by key, so the tree proves absence as well
as presence. Key and nonce come from HMAC-SHA-256 over the record's id with a secret that never leaves the node: whoever
sees a proof can neither guess a low-entropy record nor find out which ids the neighbours have.
"""

import hmac
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Self

import numpy as np

from chain.files import write_atomic
from chain.protocol import merkle
from chain.protocol.digest import Digest
from chain.protocol.errors import ConfigError
from fl_node.data import Records

RECORD = b"roundledger-record/1"
SECRET = b"roundledger-secret/1"
CHUNK = 1024  # records turned into bytes at a time


@dataclass(frozen=True)
class RecordSecret:
    """32 random bytes that salt every leaf of one node. Losing them means that no record can be proven any more."""

    value: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.value) != 32:
            raise ValueError(f"a record secret has 32 bytes, not {len(self.value)}")

    @classmethod
    def load(cls, path: Path, *, create: bool = True) -> Self:
        """Reads the secret file, or creates it (mode 0600) on first use; `create`: it may be that.

        Raises ConfigError for a file that others may read, or that is no secret file of this version.
        """
        if not path.exists() and create:
            write_atomic(path, SECRET + b" " + os.urandom(32).hex().encode() + b"\n", mode=0o600)
        try:
            mode, words = path.stat().st_mode & 0o777, path.read_bytes().split()
        except OSError as error:
            hint = "restore it from a backup: with another one, no earlier data root could be shown"
            raise ConfigError(path, f"cannot be read: {error.strerror}", hint) from None
        if mode & 0o077:
            raise ConfigError(path, f"others may read the record secret (mode {mode:04o})", f"chmod 600 {path}")
        if len(words) != 2 or words[0] != SECRET:
            raise ConfigError(path, f"not a record secret, expected `{SECRET.decode()} <64 hex digits>`")
        try:
            return cls(bytes.fromhex(words[1].decode("ascii")))
        except ValueError:
            raise ConfigError(path, "the record secret is damaged, expected 64 hex digits") from None

    @property
    def commitment(self) -> Digest:
        """Goes on the ledger with the data root, so that a node cannot change its salt afterwards."""
        return Digest.of(SECRET + self.value)

    def key(self, record_id: bytes) -> bytes:
        """Where the record with this id stands among the leaves. 32 bytes."""
        return hmac.digest(self.value, b"key" + record_id, "sha256")

    def nonce(self, record_id: bytes) -> bytes:
        """What hides the record with this id in its leaf. 32 bytes."""
        return hmac.digest(self.value, b"nonce" + record_id, "sha256")


@dataclass(frozen=True)
class DataRoot:
    """What a node commits to about its data."""

    root: Digest
    count: int
    secret_commitment: Digest


def canonical_records(records: Records) -> Iterator[bytes]:
    """Each record's bytes: tag, u32be number of features, features as float64 big-endian, u32be class index.

    Without a label the index is all ones. The same whatever kind of file the record came from; -0.0 counts as 0.0.
    """
    prefix = RECORD + struct.pack(">I", records.features.shape[1])
    for start in range(0, len(records), CHUNK):
        features = (records.features[start : start + CHUNK] + 0.0).astype(">f8")  # -0.0 + 0.0 is 0.0
        labels = records.labels[start : start + CHUNK].astype(np.uint32).tolist()  # -1 wraps to all ones
        for row, label in zip(features, labels, strict=True):
            yield prefix + row.tobytes() + label.to_bytes(4, "big")


def leaf(record_id: bytes, record: bytes, secret: RecordSecret) -> bytes:
    """One leaf, 64 bytes: key, then SHA-256 of nonce and canonical record. Merkle's own 0x00 prefix comes on top."""
    return secret.key(record_id) + sha256(secret.nonce(record_id) + record).digest()


def leaves(records: Records, secret: RecordSecret) -> list[bytes]:
    """All leaves, sorted by key.

    Without ids a record is its own id, followed by the u32be count of equal records before it: which of two equal
    records comes first makes no difference to the bytes, so the order of the file does not matter.
    """
    if records.ids is not None:
        pairs = zip(records.ids, canonical_records(records), strict=True)
        return sorted(leaf(record_id.encode(), record, secret) for record_id, record in pairs)
    found: list[bytes] = []
    occurrences: dict[bytes, int] = {}  # by first key, which stands for the record
    for record in canonical_records(records):
        first = leaf(record + bytes(4), record, secret)
        before = occurrences.get(first[:32], 0)
        occurrences[first[:32]] = before + 1
        found.append(leaf(record + struct.pack(">I", before), record, secret) if before else first)
    return sorted(found)


def data_root(records: Records, secret: RecordSecret) -> DataRoot:
    """The Merkle root (RFC 6962) over the node's records, their count, and the commitment to the secret."""
    return DataRoot(merkle.root(leaves(records, secret)), len(records), secret.commitment)
