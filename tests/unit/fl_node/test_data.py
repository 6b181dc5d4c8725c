"""Reading records: the same table in every kind of file gives the same records, and every complaint says where."""

import gzip
import io
import struct
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chain.protocol.errors import ConfigError
from chain.protocol.rules import DataRules
from fl_node import arrays, csvfile
from fl_node.data import Records, load_records

RULES = DataRules(classes=("no", "yes"), id="id", features=("age", "dose"))
IMAGES = DataRules(classes=("a", "b", "c"), shape=(2, 2))
GOOD = "id,extra,age,dose,label\np1,?,40,0.1,no\np2,,41.5,-2e-3,yes\n"
TABLE = {"id": ["p1", "p2"], "age": [40.0, 41.5], "dose": [0.1, -0.002], "label": ["no", "yes"]}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def parquet(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table({**TABLE, **columns}), path)
    return path


def npz(path: Path, **arrays: object) -> Path:
    np.savez(path, **{name: np.asarray(array) for name, array in arrays.items() if array is not None})
    return path


def idx(data: np.ndarray) -> bytes:
    return bytes((0, 0, 8, data.ndim)) + struct.pack(f">{data.ndim}I", *data.shape) + data.astype(np.uint8).tobytes()


def problem(source: str | Path, rules: DataRules = RULES, labelled: bool = True) -> str:
    """What `load_records` says, after the name of the file, with which every message begins."""
    with pytest.raises(ConfigError) as caught:
        load_records(source, rules, labelled=labelled)
    assert str(caught.value).startswith(f"{source}: ")
    return str(caught.value).removeprefix(f"{source}: ")


def same(found: Records, features: object, labels: object, ids: tuple[str, ...] | None) -> bool:
    assert found.features.dtype == np.float64
    assert found.labels.dtype == np.int64
    return np.array_equal(found.features, features) and found.labels.tolist() == labels and found.ids == ids


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        GOOD.replace("p2", '"p2"').replace("41.5", " +41.50 "),
        GOOD.replace("p2", "\n\np2").rstrip("\n"),
        GOOD.replace("?", '"two\nlines"'),
        "label,dose,age,id\nno,.1,4e1,p1\nyes,-0.002,41.5,p2\n",
    ],
)
def test_csv_dialects_give_the_same_records(tmp_path: Path, text: str) -> None:
    records = load_records(write(tmp_path / "a.csv", text), RULES)
    assert same(records, [[40, 0.1], [41.5, -0.002]], [0, 1], ("p1", "p2"))
    assert records.source == str(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"extra": [None, None], "id": pa.array(["p1", "p2"]).dictionary_encode()},
        {"dose": [Decimal("0.100"), Decimal("-0.002")]},
        {"label": pa.array(["no", "yes"], pa.large_string())},
    ],
)
def test_parquet_types_give_the_same_records(tmp_path: Path, columns: dict[str, object]) -> None:
    records = load_records(parquet(tmp_path / "a.parquet", **columns), RULES)
    assert same(records, [[40, 0.1], [41.5, -0.002]], [0, 1], ("p1", "p2"))


def test_csv_rows_may_cross_lines_and_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csvfile, "BLOCK", 64)
    text = "id,age,dose,label\n" + "".join(f'"p\n{at}",{at},0,no\n' for at in range(100))
    records = load_records(write(tmp_path / "a.csv", text), RULES)
    assert records.ids == tuple(f"p\n{at}" for at in range(100))
    assert records.features[:, 0].tolist() == list(range(100))


def test_decimals_are_rounded_once(tmp_path: Path) -> None:
    exact = Decimal("3368431746.150781")  # Arrow's own cast to float64 is one bit off
    path = parquet(tmp_path / "a.parquet", dose=[exact, exact])
    assert load_records(path, RULES).features[:, 1].tolist() == [3368431746.150781] * 2


def test_numbers_are_class_names_and_ids_by_their_text(tmp_path: Path) -> None:
    rules = DataRules(classes=("0", "1"), id="id", features=("age",))
    text = write(tmp_path / "a.csv", "id,age,label\n7,1,1\n8,2,0\n")
    whole = parquet(tmp_path / "a.parquet", age=[1, 2], id=[7, 8], label=[1, 0])
    gaps = parquet(tmp_path / "b.parquet", age=[True, False], id=[7.0, 8.0], label=pa.array([1, 0], pa.uint8()))
    packed = npz(tmp_path / "a.npz", x=[[1], [2]], y=[1, 0], id=[7, 8])
    for path in (text, whole, gaps, packed):
        records = load_records(path, rules)
        assert records.labels.tolist() == [1, 0]
        assert records.ids == ("7", "8")


@pytest.mark.parametrize("y", [[0, 1], ["no", "yes"]])
def test_npz_labels_are_indices_or_names(tmp_path: Path, y: list[object]) -> None:
    path = npz(tmp_path / "a.npz", x=[[40, 0.1], [41.5, -0.002]], y=y, id=["p1", "p2"])
    assert same(load_records(path, RULES), [[40, 0.1], [41.5, -0.002]], [0, 1], ("p1", "p2"))


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 2), (3, 1, 2, 2)])
def test_npz_images_may_be_flat_and_may_leave_out_sides_of_one(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = np.arange(12, dtype=np.uint8)
    records = load_records(npz(tmp_path / "a.npz", x=x.reshape(shape), y=[0, 1, 2]), IMAGES)
    assert same(records, x.reshape(3, 4), [0, 1, 2], None)


@pytest.mark.parametrize("pack", [("", ""), (".gz", ".gz"), ("", ".gz")])
def test_idx_finds_its_labels_beside_it(tmp_path: Path, pack: tuple[str, str]) -> None:
    images, labels = np.arange(12).reshape(3, 2, 2), np.array([2, 0, 1])
    for name, data, suffix in (("images-idx3", images, pack[0]), ("labels-idx1", labels, pack[1])):
        content = idx(data)
        write(tmp_path / f"t-{name}-ubyte{suffix}", gzip.compress(content) if suffix else content)
    records = load_records(tmp_path / f"t-images-idx3-ubyte{pack[0]}", IMAGES)
    assert same(records, images.reshape(3, 4), [2, 0, 1], None)


def test_without_labels_records_are_unlabelled_but_a_wrong_label_is_still_wrong(tmp_path: Path) -> None:
    none = write(tmp_path / "a.csv", "id,age,dose\np1,1,2\n")
    some = write(tmp_path / "b.csv", "id,age,dose,label\np1,1,2,\np2,1,2,yes\n")
    wrong = write(tmp_path / "c.csv", "id,age,dose,label\np1,1,2,maybe\n")
    assert load_records(none, RULES, labelled=False).labels.tolist() == [-1]
    assert load_records(some, RULES, labelled=False).labels.tolist() == [-1, 1]
    assert not load_records(some, RULES, labelled=False).labelled
    assert problem(wrong, labelled=False).startswith("row 1 (line 2), column 'label': unknown label 'maybe'")
    gaps = parquet(tmp_path / "a.parquet", label=[None, "yes"])
    assert load_records(gaps, RULES, labelled=False).labels.tolist() == [-1, 1]
    assert load_records(npz(tmp_path / "a.npz", x=np.ones((1, 4))), IMAGES, labelled=False).labels.tolist() == [-1]
    assert load_records(write(tmp_path / "u-images-idx3-ubyte", idx(np.ones((1, 2, 2)))), IMAGES, labelled=False)


CSV_PROBLEMS = {
    "missing column": ("id,age,label\n", "missing column 'dose' (the file has 'id', 'age', 'label')"),
    "text": (GOOD.replace("41.5", "old"), "row 2 (line 3), column 'age': expected a number, found 'old'"),
    "underscore": (GOOD.replace("41.5", "4_1"), "row 2 (line 3), column 'age': expected a number, found '4_1'"),
    "other digits": (GOOD.replace("41.5", "٤"), "row 2 (line 3), column 'age': expected a number, found '٤'"),
    "empty cell": (GOOD.replace("0.1", ""), "row 1 (line 2), column 'dose': expected a number, empty cell"),
    "blank cell": (GOOD.replace("0.1", " "), "row 1 (line 2), column 'dose': expected a number, empty cell"),
    "NaN": (GOOD.replace("0.1", "NaN"), "row 1 (line 2), column 'dose': expected a finite number, found nan"),
    "infinity": (GOOD.replace("0.1", "-inf"), "row 1 (line 2), column 'dose': expected a finite number, found -inf"),
    "overflow": (GOOD.replace("0.1", "1e999"), "row 1 (line 2), column 'dose': expected a finite number, found inf"),
    "text after NaN": (
        GOOD.replace("0.1", "nan").replace("41.5", "old"),
        "row 2 (line 3), column 'age': expected a number, found 'old'",
    ),
    "after blank lines": (
        GOOD.replace("?", '"a\nb"').replace("p2", "\np2").replace("41.5", "x"),
        "row 2 (line 5), column 'age': expected a number, found 'x'",
    ),
    "empty file": ("", "empty file"),
    "blank file": ("\n\n", "not a CSV file (expected UTF-8 text with a header line)"),
    "no rows": ("id,age,dose,label\n", "no rows"),
    "no rows, no newline": ("id,age,dose,label", "no rows (the file ends after its header)"),
    "unknown label": (
        GOOD.replace("yes", "Yes"),
        "row 2 (line 3), column 'label': unknown label 'Yes' (classes: 0 = no, 1 = yes)",
    ),
    "no label": (GOOD.replace("yes", ""), "row 2 (line 3), column 'label': empty cell, expected a label"),
    "no id": (GOOD.replace("p2", ""), "row 2 (line 3), column 'id': empty cell, expected an id"),
    "duplicate id": (
        GOOD.replace("p2", "p1"),
        "row 1 (line 2) and row 2 (line 3), column 'id': duplicate id 'p1'",
    ),
    "short row": (GOOD + "p3,,1\n", "row 3 (line 4) has 3 cells, the header has 5"),
    "long row": (GOOD.replace("no", "no,no"), "row 1 (line 2) has 6 cells, the header has 5"),
    "duplicate column": ("id,age,dose,age,label\np,1,1,1,no\n", "duplicate column 'age' (columns 2 and 4)"),
    "open quote": (
        GOOD.replace("p2", '"p2'),
        "a stray double quote in the row that starts on line 3: unexpected end of data (quotes stand around a whole "
        'cell, and twice within one: "5"" wide")',
    ),
    "stray quotes": (
        GOOD.replace("p1", '"5 wide').replace("p2", '6" wide'),
        "a stray double quote in the row that starts on line 2: ',' expected after '\"' (quotes stand around a whole "
        'cell, and twice within one: "5"" wide")',
    ),
    "binary": (b"\x89PNG\r\n\x1a\n\0\0\0", "not a CSV file (expected UTF-8 text with a header line)"),
    "UTF-16": (GOOD.encode("utf-16"), "not a CSV file (expected UTF-8 text with a header line)"),
    "Latin-1 label": (GOOD.replace("yes", "jä").encode("latin-1"), "row 2 (line 3), column 'label': not UTF-8 text"),
    "semicolons": (
        GOOD.replace(",", ";"),
        "missing column 'age', 'dose', 'label', 'id' (the file has 'id;extra;age;dose;label')",
    ),
    "control characters": (
        GOOD.replace("41.5", "\x1b[31m"),
        "row 2 (line 3), column 'age': expected a number, found '\\x1b[31m'",
    ),
}


@pytest.mark.parametrize(("content", "message"), CSV_PROBLEMS.values(), ids=CSV_PROBLEMS)
def test_csv_problem_names_row_line_and_column(tmp_path: Path, content: str | bytes, message: str) -> None:
    assert problem(write(tmp_path / "a.csv", content)) == message


def test_bad_bytes_and_repeated_names_in_columns_not_asked_for_are_ignored(tmp_path: Path) -> None:
    text = GOOD.replace("extra", "extra,extra").replace("?", "?,\xe9").replace("p2,", "p2,,")
    assert load_records(write(tmp_path / "a.csv", text.encode("latin-1")), RULES).ids == ("p1", "p2")


PARQUET_PROBLEMS = {
    "missing column": ({"age": None}, "missing column 'age' (the file has 'id', 'dose', 'label')"),
    "text": (
        {"age": ["forty", "2"]},
        "row 1, column 'age': expected a number, found 'forty' (the column holds string)",
    ),
    "null": ({"age": [1.0, None]}, "row 2, column 'age': expected a number, empty cell"),
    "NaN": ({"dose": [1.0, float("nan")]}, "row 2, column 'dose': expected a finite number, found nan"),
    "no rows": ({name: pa.array([], pa.array(v).type) for name, v in TABLE.items()}, "no rows"),
    "unknown label": (
        {"label": ["no", "maybe"]},
        "row 2, column 'label': unknown label 'maybe' (classes: 0 = no, 1 = yes)",
    ),
    "no label": ({"label": ["no", None]}, "row 2, column 'label': empty cell, expected a label"),
    "no id": ({"id": ["p1", None]}, "row 2, column 'id': empty cell, expected an id"),
    "duplicate id": ({"id": [7, 7]}, "row 1 and row 2, column 'id': duplicate id '7'"),
    "lists": (
        {"age": [[1.0], [2.0]]},
        "row 1, column 'age': expected a number, found [1.0] (the column holds list<element: double>)",
    ),
}


@pytest.mark.parametrize(("columns", "message"), PARQUET_PROBLEMS.values(), ids=PARQUET_PROBLEMS)
def test_parquet_problem_names_row_and_column(tmp_path: Path, columns: dict[str, object], message: str) -> None:
    table = {name: value for name, value in {**TABLE, **columns}.items() if value is not None}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    assert problem(tmp_path / "a.parquet") == message


def test_parquet_with_a_repeated_column_or_no_parquet_at_all(tmp_path: Path) -> None:
    twice = pa.table([[1.0], [2.0], ["p"], ["no"], [3.0]], names=["age", "dose", "id", "label", "age"])
    pq.write_table(twice, tmp_path / "a.parquet")
    assert problem(tmp_path / "a.parquet") == "duplicate column 'age' (columns 1 and 5)"
    assert problem(write(tmp_path / "b.parquet", GOOD)).startswith("cannot be read as Parquet: ")
    whole = parquet(tmp_path / "c.parquet").read_bytes()
    assert problem(write(tmp_path / "d.parquet", whole[:-20])).startswith("cannot be read as Parquet: ")


X, Y = np.zeros((2, 4)), np.array([0, 1])
NPZ_PROBLEMS = {
    "no x": ({"y": Y}, "missing array x (it has y)"),
    "no y": ({"x": X}, "missing array y (it has x)"),
    "shape": ({"x": np.zeros((2, 5)), "y": Y}, "records have shape [2, 5], expected [2, 2, 2] or [2, 4]"),
    "transposed": ({"x": np.zeros((4, 2)), "y": Y}, "array y has shape [2], expected [4]"),
    "scalar": ({"x": np.float64(1), "y": Y}, "array y has shape [2], expected []"),
    "text": ({"x": X.astype(str), "y": Y}, "array x holds <U32, expected numbers"),
    "NaN": ({"x": [[0, 0, np.nan, 0]], "y": [0]}, "row 1, column 'x[2]': expected a finite number, found nan"),
    "float labels": ({"x": X, "y": Y + 0.5}, "array y holds float64, expected class indices or names"),
    "unknown label": ({"x": X, "y": [0, 3]}, "row 2, column 'y': unknown label 3 (classes: 0 = a, 1 = b, 2 = c)"),
    "negative label": ({"x": X, "y": [0, -2]}, "row 2, column 'y': unknown label -2 (classes: 0 = a, 1 = b, 2 = c)"),
    "no label": ({"x": X, "y": [0, -1]}, "row 2, column 'y': empty cell, expected a label"),
    "no rows": ({"x": X[:0], "y": Y[:0]}, "no rows"),
}


@pytest.mark.parametrize(("content", "message"), NPZ_PROBLEMS.values(), ids=NPZ_PROBLEMS)
def test_npz_problem_names_array_and_row(tmp_path: Path, content: dict[str, object], message: str) -> None:
    assert problem(npz(tmp_path / "a.npz", **content), IMAGES) == message


def test_npz_ids_must_be_there_and_differ(tmp_path: Path) -> None:
    rules = IMAGES.model_copy(update={"id": "key"})
    assert problem(npz(tmp_path / "a.npz", x=X, y=Y), rules) == "missing array id (it has x, y)"
    twice = npz(tmp_path / "b.npz", x=X, y=Y, id=["p", "p"])
    assert problem(twice, rules) == "row 1 and row 2, column 'key': duplicate id 'p'"


def test_npz_that_is_none_is_truncated_or_holds_pickles(tmp_path: Path) -> None:
    whole = npz(tmp_path / "a.npz", x=X, y=Y).read_bytes()
    single = io.BytesIO()
    np.save(single, X)
    pickles = npz(tmp_path / "p.npz", x=np.array([[{}]], dtype=object), y=[0]).read_bytes()
    for content in (b"hello", whole[:100], whole[:-30], single.getvalue(), pickles):
        assert problem(write(tmp_path / "b.npz", content), IMAGES).startswith("cannot be read as NPZ: ")


def test_idx_problems_name_the_file_at_fault(tmp_path: Path) -> None:
    images, labels = tmp_path / "t-images-idx3-ubyte", tmp_path / "t-labels-idx1-ubyte"
    good = idx(np.zeros((2, 2, 2)))
    with pytest.raises(ConfigError, match=r"t-labels-idx1-ubyte: no such file \(the labels of t-images-idx3-ubyte\)"):
        load_records(write(images, good), IMAGES)
    write(labels, idx(np.array([0])))
    with pytest.raises(ConfigError, match="t-labels-idx1-ubyte: holds 1 labels for 2 images"):
        load_records(images, IMAGES)
    write(labels, idx(np.array([0, 9])))
    expected = "row 2, column 'label': unknown label 9 (classes: 0 = a, 1 = b, 2 = c)"
    assert problem(images, IMAGES) == expected
    assert problem(write(images, good[:-1]), IMAGES) == "truncated: its header promises 24 bytes, there are 23"
    assert problem(write(images, good + b"."), IMAGES) == "too long: its header promises 24 bytes, there are 25"
    for wrong in (good[:7], idx(np.array([1, 2]))):
        assert problem(write(images, wrong), IMAGES) == "not an IDX file of unsigned bytes in 3 dimensions"
    assert problem(write(images, idx(np.zeros((2, 3, 2)))), IMAGES).startswith("records have shape [2, 3, 2]")
    packed = tmp_path / "t-images-idx3-ubyte.gz"
    for content in (gzip.compress(good)[:-9], good):
        assert problem(write(packed, content), IMAGES).startswith("cannot be unpacked: ")
    with_id = IMAGES.model_copy(update={"id": "k"})
    assert problem(images, with_id) == "IDX files hold no ids, the rules ask for column 'k'"


def test_sources_that_cannot_be(tmp_path: Path) -> None:
    assert problem(tmp_path / "none.csv") == "no such file"
    assert problem(write(tmp_path / "a.xlsx", "x")).startswith("unknown kind of file '.xlsx' (expected .csv, .parquet")
    (tmp_path / "folder.csv").mkdir()
    assert problem(tmp_path / "folder.csv") == "cannot be read: Is a directory"
    assert problem(write(tmp_path / "a.csv", GOOD), IMAGES).startswith("the rules name no feature columns (a table")
    assert problem("builtin:iris") == f"no such built-in set (there are {arrays.BUILTIN})"


def test_builtin_tables_go_by_name() -> None:
    cancer = DataRules(classes=("benign", "malignant"), features=("mean texture", "mean radius"))
    records = load_records("builtin:breast-cancer", cancer)
    assert records.features[0].tolist() == [10.38, 17.99]
    assert np.bincount(records.labels).tolist() == [357, 212]
    wrong = cancer.model_copy(update={"features": ("age",)})
    assert problem("builtin:breast-cancer", wrong).startswith("missing column 'age' (the file has 'mean radius',")
    digits = DataRules(classes=tuple("0123456789"), shape=(1, 8, 8), scale=16.0, id="record")
    records = load_records("builtin:digits", digits)
    assert records.ids is not None
    assert (len(records), records.ids[0], len(set(records.ids))) == (1797, "digits-1", 1797)
    few = digits.model_copy(update={"classes": ("0", "1")})
    assert "row 3, column 'label': unknown label '2' (classes: 0 = 0, 1 = 1)" in problem("builtin:digits", few)


def test_fashion_mnist_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rules = DataRules(classes=tuple("0123456789"), shape=(1, 28, 28))
    monkeypatch.setattr(arrays, "FASHION_MNIST", tmp_path)
    with pytest.raises(ConfigError, match=r"no such file \(apt-get install -y dataset-fashion-mnist\)"):
        load_records("builtin:fashion-mnist", rules)


@pytest.mark.skipif(not arrays.FASHION_MNIST.is_dir(), reason="apt-get install -y dataset-fashion-mnist")
def test_fashion_mnist_test_part() -> None:
    rules = DataRules(classes=tuple("0123456789"), shape=(1, 28, 28), id="record")
    records = load_records("builtin:fashion-mnist/test", rules)
    assert records.features.shape == (10_000, 784)
    assert np.bincount(records.labels).tolist() == [1000] * 10
    assert records.ids is not None
    assert records.ids[-1] == "fashion-mnist/test-10000"


def test_inputs_are_centred_in_float64_and_rounded_once() -> None:
    rules = DataRules(classes=("a", "b"), features=("p", "q"), center=(1e9, 0.5), scale=(3.0, 0.1))
    records = Records(np.array([[1e9 + 1, 0.75]]), np.array([0]), None, "here")
    expected = np.array([[np.float64(1) / 3, np.float64(0.25) / 0.1]]).astype(np.float32)
    assert records.inputs(rules).dtype == np.float32
    assert np.array_equal(records.inputs(rules), expected)
    assert records.inputs(rules.model_copy(update={"shape": (1, 2, 1)})).shape == (1, 1, 2, 1)
    huge = Records(np.array([[0.0, 1e38]]), np.array([0]), None, "here")
    with pytest.raises(ConfigError, match="here: row 1, column 'q': too large for float32"):
        huge.inputs(rules)


def test_records_keep_values_out_of_logs_and_take_keeps_rows_together() -> None:
    records = Records(np.array([[1234.5], [2.0]]), np.array([0, 1]), ("secret-id", "b"), "here")
    assert "1234" not in repr(records)
    assert "secret" not in repr(records)
    assert same(records.take(np.array([1, 0, 1])), [[2.0], [1234.5], [2.0]], [1, 0, 1], ("b", "secret-id", "b"))


def test_reading_records_loads_neither_torch_nor_scikit_learn() -> None:
    code = "import sys, fl_node.dataroot; sys.exit(bool({'torch', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
