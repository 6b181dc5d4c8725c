"""The data root commits to what the records say, and to nothing else: not to their order, nor to the kind of file."""

import hashlib
import hmac
import struct
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.protocol.rules import DataRules
from fl_node import split
from fl_node.data import Records, load_records
from fl_node.dataroot import RecordSecret, data_root

RULES = DataRules(classes=("no", "yes, or so", "=maybe"), features=("a", "b"))
WITH_ID = RULES.model_copy(update={"id": "id"})
SECRET = RecordSecret(hashlib.sha256(b"a secret for tests").digest())

number = st.floats(allow_nan=False, allow_infinity=False)
row = st.tuples(number, number, st.integers(0, 2))
few_values = st.tuples(st.sampled_from([0.0, -0.0, 1.0]), st.just(1.0), st.integers(0, 1))  # makes equal records likely
rows = st.lists(row, min_size=1, max_size=8) | st.lists(few_values, min_size=1, max_size=8)
# printable, and no NUL: numpy's fixed-width text cannot end in one
names = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=12)


def records_of(table: list[tuple[float, float, int]], ids: tuple[str, ...] | None = None) -> Records:
    features = np.array([[a, b] for a, b, _ in table], dtype=np.float64)
    return Records(features, np.array([label for *_, label in table], dtype=np.int64), ids, "here")


def naive_root(records: Records, secret: bytes) -> bytes:
    """The definition, spelled out one record at a time, with RFC 6962's own recursion."""

    def mac(word: bytes, data: bytes) -> bytes:
        return hmac.new(secret, word + data, hashlib.sha256).digest()

    def tree(nodes: list[bytes]) -> bytes:
        if len(nodes) == 1:
            return hashlib.sha256(b"\x00" + nodes[0]).digest()
        half = 1
        while half * 2 < len(nodes):
            half *= 2
        return hashlib.sha256(b"\x01" + tree(nodes[:half]) + tree(nodes[half:])).digest()

    leaves, seen = [], []
    for at in range(len(records)):
        values = [float(value) or 0.0 for value in records.features[at]]
        label = int(records.labels[at]) % 2**32
        record = b"roundledger-record/1" + struct.pack(f">I{len(values)}dI", len(values), *values, label)
        name = records.ids[at].encode() if records.ids else record + struct.pack(">I", seen.count(record))
        seen.append(record)
        leaves.append(mac(b"key", name) + hashlib.sha256(mac(b"nonce", name) + record).digest())
    return tree(sorted(leaves))


@given(rows, st.binary(min_size=32, max_size=32))
def test_root_is_that_of_the_naive_implementation(table: list[tuple[float, float, int]], secret: bytes) -> None:
    plain, named = records_of(table), records_of(table, tuple(f"n{at}" for at in range(len(table))))
    for records in (plain, named):
        found = data_root(records, RecordSecret(secret))
        assert found.root == naive_root(records, secret)
        assert found.count == len(table)


@given(rows, st.randoms(use_true_random=False), st.booleans())
def test_root_does_not_depend_on_the_order_of_rows(
    table: list[tuple[float, float, int]], random: object, named: bool
) -> None:
    records = records_of(table, tuple(f"n{at}" for at in range(len(table))) if named else None)
    order = list(range(len(table)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert data_root(records.take(np.array(order)), SECRET) == data_root(records, SECRET)


@given(rows, st.data())
def test_root_changes_with_any_value_label_or_id(table: list[tuple[float, float, int]], data: st.DataObject) -> None:
    ids = tuple(f"n{at}" for at in range(len(table)))
    at, column = data.draw(st.integers(0, len(table) - 1)), data.draw(st.integers(0, 3))
    for before in (ids, None):
        records, after = records_of(table, before), before
        features, labels = records.features.copy(), records.labels.copy()
        if column < 2:
            features[at, column] = np.nextafter(features[at, column], 0.0) if features[at, column] else 5e-324
        elif column == 2:
            labels[at] = (labels[at] + 2) % 4 - 1
        elif before:
            after = (*ids[:at], "another", *ids[at + 1 :])
        else:
            continue
        assert data_root(Records(features, labels, after, "here"), SECRET).root != data_root(records, SECRET).root


@given(rows)
def test_root_changes_when_a_record_is_left_out_or_doubled(table: list[tuple[float, float, int]]) -> None:
    whole = data_root(records_of(table), SECRET).root
    assert data_root(records_of([*table, table[0]]), SECRET).root != whole
    if len(table) > 1:
        assert data_root(records_of(table[1:]), SECRET).root != whole


@settings(max_examples=50)
@given(rows, st.lists(names, min_size=8, max_size=8, unique=True), st.booleans())
def test_csv_parquet_and_npz_have_the_same_root(
    table: list[tuple[float, float, int]], ids: list[str], named: bool
) -> None:
    rules = WITH_ID if named else RULES
    records = records_of(table, tuple(ids[: len(table)]) if named else None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        split.write_csv(folder / "a.csv", records, rules)
        split.write_npz(folder / "a.npz", records, rules)
        columns = {"a": records.features[:, 0], "b": records.features[:, 1]}
        labels = [rules.classes[label] for label in records.labels]
        pq.write_table(pa.table({"id": ids[: len(table)], "label": labels, **columns}), folder / "a.parquet")
        found = [load_records(folder / kind, rules) for kind in ("a.csv", "a.npz", "a.parquet")]
    for one in found:
        assert one.ids == records.ids
        assert data_root(one, SECRET) == data_root(records, SECRET)
