"""Canonical records, the record secret and the leaves, against bytes written out by hand."""

import hashlib
import hmac
import struct
from pathlib import Path

import numpy as np
import pytest

from chain.protocol import merkle
from chain.protocol.digest import Digest
from chain.protocol.errors import ConfigError
from fl_node.data import Records
from fl_node.dataroot import RecordSecret, canonical_records, data_root, leaves

SECRET = RecordSecret(bytes(range(32)))
RECORDS = Records(np.array([[1.0, -0.0], [2.5, 1e-300]]), np.array([1, -1]), ("a", "bé"), "here")


def test_canonical_record_is_the_documented_bytes() -> None:
    first, second = canonical_records(RECORDS)
    assert first == b"roundledger-record/1" + struct.pack(">IddI", 2, 1.0, 0.0, 1)
    assert second == b"roundledger-record/1" + struct.pack(">IddI", 2, 2.5, 1e-300, 0xFFFFFFFF)


def test_canonical_records_do_not_depend_on_memory_layout_or_block() -> None:
    features = np.asfortranarray(np.random.default_rng(0).normal(size=(2100, 3)))
    records = Records(features, np.arange(2100), None, "here")
    expected = [b"roundledger-record/1" + struct.pack(">IdddI", 3, *row, i) for i, row in enumerate(features)]
    assert list(canonical_records(records)) == expected


def test_leaves_are_keys_and_salted_records_sorted() -> None:
    def mac(word: bytes, record_id: bytes) -> bytes:
        return hmac.new(SECRET.value, word + record_id, hashlib.sha256).digest()

    ids = [b"a", "bé".encode()]
    pairs = zip(ids, canonical_records(RECORDS), strict=True)
    expected = [mac(b"key", one) + hashlib.sha256(mac(b"nonce", one) + record).digest() for one, record in pairs]
    assert leaves(RECORDS, SECRET) == sorted(expected)
    found = data_root(RECORDS, SECRET)
    assert (found.root, found.count, found.secret_commitment) == (merkle.root(sorted(expected)), 2, SECRET.commitment)


def test_no_records_have_the_root_of_the_empty_tree() -> None:
    nothing = RECORDS.take(np.array([], dtype=np.int64))
    assert data_root(nothing, SECRET).root == Digest.of(b"")
    assert data_root(nothing, SECRET).count == 0


def test_equal_records_without_ids_get_keys_of_their_own() -> None:
    records = Records(np.ones((3, 2)), np.zeros(3, np.int64), None, "here")
    record = next(canonical_records(records))
    keys = {leaf[:32] for leaf in leaves(records, SECRET)}
    assert keys == {SECRET.key(record + struct.pack(">I", count)) for count in range(3)}


def test_another_secret_changes_every_leaf_and_the_commitment() -> None:
    other = RecordSecret(bytes(32))
    assert not {leaf[:32] for leaf in leaves(RECORDS, SECRET)} & {leaf[:32] for leaf in leaves(RECORDS, other)}
    assert other.commitment != SECRET.commitment
    assert SECRET.commitment == Digest.of(b"roundledger-secret/1" + SECRET.value)


def test_secret_is_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "node" / "record.secret"
    made = RecordSecret.load(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert RecordSecret.load(path) == made
    assert RecordSecret.load(tmp_path / "other.secret") != made
    for text in (repr(made), str(made), f"{made!r:>1}"):
        assert made.value.hex() not in text
        assert repr(made.value) not in text


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (b"roundledger-secret/1 " + b"00" * 32, 0o640, "others may read the record secret (mode 0640) (chmod 600 "),
        (b"", 0o600, "not a record secret, expected `roundledger-secret/1 <64 hex digits>`"),
        (b"roundledger-secret/2 " + b"00" * 32, 0o600, "not a record secret"),
        (b"roundledger-secret/1 " + b"00" * 31, 0o600, "the record secret is damaged, expected 64 hex digits"),
        (b"roundledger-secret/1 " + b"\xff" * 64, 0o600, "the record secret is damaged"),
    ],
)
def test_secret_that_cannot_be_used(tmp_path: Path, content: bytes, mode: int, message: str) -> None:
    path = tmp_path / "s"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        RecordSecret.load(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "0000" not in str(caught.value)


def test_secret_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        RecordSecret(bytes(31))
