"""Splitting: a partition of the records, the same for the same seed, unequal as asked, and never unusable."""

from pathlib import Path

import numpy as np
import pytest

from chain.protocol.errors import ConfigError
from chain.protocol.rules import DataRules
from fl_node.data import Records, load_records
from fl_node.dataroot import RecordSecret, data_root
from fl_node.split import split, write_csv, write_npz


def records(per_class: list[int]) -> Records:
    """Records whose only feature is their number, so that each can be recognised."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(per_class)), per_class))
    return Records(np.arange(len(labels), dtype=np.float64)[:, None], labels, None, "here")


def numbers(part: Records) -> list[int]:
    return [int(number) for number in part.features[:, 0]]


@pytest.mark.parametrize("alpha", [0.01, 0.5, 100])
@pytest.mark.parametrize("parts", [1, 2, 20])
def test_every_record_is_in_exactly_one_part_and_every_part_can_be_trained_on(parts: int, alpha: float) -> None:
    whole = records([50, 300, 100, 51])
    for seed in range(5):
        found, test = split(whole, parts, alpha, seed, 0.2)
        assert sorted(number for part in [*found, test] for number in numbers(part)) == list(range(501))
        assert len(found) == parts
        for part in [*found, test]:
            assert numbers(part) == sorted(numbers(part))
            assert np.array_equal(part.labels, whole.labels[numbers(part)])
        for part in found:
            assert len(part) >= 10
            assert len(set(part.labels)) >= 2
        assert np.bincount(test.labels).tolist() == [10, 60, 20, 10]


def test_same_seed_same_split() -> None:
    whole = records([100, 100])
    first, again, other = (split(whole, 4, 0.5, seed, 0.25) for seed in (3, 3, 4))
    assert [numbers(part) for part in first[0]] == [numbers(part) for part in again[0]]
    assert numbers(first[1]) == numbers(again[1])
    assert [numbers(part) for part in first[0]] != [numbers(part) for part in other[0]]


def test_split_is_pinned() -> None:
    """Demos and benchmarks quote numbers: a change of the split must be seen."""
    found, test = split(records([6, 6]), 2, 1.0, 1, 0.2, minimum=2)
    assert [numbers(part) for part in found] == [[1, 4, 8], [0, 2, 3, 6, 9, 10, 11]]
    assert numbers(test) == [5, 7]


def test_alpha_sets_how_unequal_the_labels_are() -> None:
    whole = records([1000] * 10)

    def largest_share(alpha: float) -> float:
        found, _ = split(whole, 5, alpha, 7, 0)
        return float(np.mean([np.bincount(part.labels, minlength=10).max() / len(part) for part in found]))

    assert largest_share(1000) < 0.15 < largest_share(0.5) < largest_share(0.05)


def test_no_test_share_and_classes_of_one_record() -> None:
    found, test = split(records([20, 1]), 1, 1.0, 0, 0)
    assert (len(found[0]), len(test)) == (21, 0)
    _, test = split(records([20, 1]), 1, 1.0, 0, 0.01)
    assert np.bincount(test.labels).tolist() == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": 0}, "split: parts is 0, expected at least 1"),
        ({"alpha": 0.0}, "split: alpha is 0.0, expected a number above 0"),
        ({"alpha": float("nan")}, "split: alpha is nan, expected a number above 0"),
        ({"test_share": 1.0}, "split: test_share is 1.0, expected at least 0 and below 1"),
        ({"minimum": 1}, "split: minimum is 1, expected at least 2"),
        ({"parts": 9}, "here: 80 records after the test share are too few for 9 parts of at least 10"),
        ({"records": records([100])}, "here: too few records to give 2 parts two classes each"),
        ({"records": records([0, 0])}, "here: splitting needs records, and a label for each of them"),
        (
            {"records": Records(np.ones((2, 1)), np.array([0, -1]), None, "f")},
            "f: splitting needs records, and a label",
        ),
    ],
)
def test_what_cannot_be_split(change: dict[str, object], message: str) -> None:
    arguments = {"records": records([50, 50]), "parts": 2, "alpha": 1.0, "seed": 1, "test_share": 0.2, **change}
    with pytest.raises(ConfigError) as caught:
        split(**arguments)  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)


def test_digits_survive_a_file(tmp_path: Path) -> None:
    pixels = tuple(f"p{at}" for at in range(64))
    rules = DataRules(classes=tuple("0123456789"), shape=(1, 8, 8), features=pixels, id="id")
    image_rules = rules.model_copy(update={"features": ()})
    (part, _), _ = split(load_records("builtin:digits", image_rules), 2, 0.5, 1, 0.2)
    write_csv(tmp_path / "a.csv", part, rules)
    write_npz(tmp_path / "a.npz", part, image_rules)
    secret = RecordSecret(bytes(32))
    for found in (load_records(tmp_path / "a.csv", rules), load_records(tmp_path / "a.npz", image_rules)):
        assert data_root(found, secret) == data_root(part, secret)
        assert np.array_equal(found.inputs(image_rules), part.inputs(image_rules))
    with np.load(tmp_path / "a.npz") as arrays:
        assert (arrays["x"].dtype, arrays["x"].shape) == (np.uint8, (len(part), 1, 8, 8))


def test_unlabelled_records_survive_a_file(tmp_path: Path) -> None:
    rules = DataRules(classes=("a", "b"), features=("f",))
    whole = Records(np.array([[0.1], [-1e300]]), np.array([1, -1]), None, "here")
    write_csv(tmp_path / "a.csv", whole, rules)
    write_npz(tmp_path / "a.npz", whole, rules)
    for name in ("a.csv", "a.npz"):
        found = load_records(tmp_path / name, rules, labelled=False)
        assert np.array_equal(found.features, whole.features)
        assert found.labels.tolist() == [1, -1]


def test_files_need_what_the_rules_name(tmp_path: Path) -> None:
    whole = records([2, 2])
    with pytest.raises(ConfigError, match=r"a.csv: the rules name no feature columns \(write NPZ instead\)"):
        write_csv(tmp_path / "a.csv", whole, DataRules(classes=("a", "b"), shape=(1,)))
    named = DataRules(classes=("a", "b"), features=("f",), id="key")
    for write in (write_csv, write_npz):
        with pytest.raises(ConfigError, match="here: the records have no ids for column 'key'"):
            write(tmp_path / "a", whole, named)
