"""Classification: probabilities, measures that scikit-learn agrees with, and tables that outside names cannot abuse."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn import metrics as sklearn_metrics
from torch import nn

from chain.protocol.errors import ConfigError
from chain.protocol.rules import Rules
from fl_node.classify import Classification, classify, measure, predict, print_classification, write_csv
from fl_node.data import Records

RANDOM = np.random.default_rng(5)


def rules(*classes: str) -> Rules:
    document = {
        "format": "roundledger-federation/1",
        "name": "test",
        "model": {"factory": "mlp"},
        "data": {"classes": classes, "features": [f"f{at}" for at in range(len(classes))], "scale": 2.0},
        "training": {"rounds": 1},
        "selection": {"upload_rate": 1},
    }
    return Rules.parse(document, "test")


class Halves(nn.Module):
    """Passes its input through when evaluated; when training it would return something else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 0 if self.training else x


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def records(n: int, classes: int, labels: object = None, ids: tuple[str, ...] | None = None) -> Records:
    given = np.full(n, -1) if labels is None else np.asarray(labels)
    return Records(RANDOM.normal(size=(n, classes)), given.astype(np.int64), ids, "here")


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_predict_is_softmax_in_float64_whatever_the_batch(batch: int) -> None:
    module, inputs = Halves(), RANDOM.normal(size=(30, 4), scale=20).astype(np.float32)
    found = predict(module, inputs, batch)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, softmax(inputs.astype(np.float64)), rtol=1e-12)
    assert module.training


def test_predict_names_the_row_without_a_finite_output() -> None:
    with pytest.raises(ConfigError, match="model: its output for row 2 is not finite"):
        predict(Halves(), np.array([[1, 2], [np.nan, 1], [np.nan, 1]], np.float32))


def test_classify_goes_through_the_rules_scale() -> None:
    some = records(50, 3, RANDOM.integers(0, 3, 50))
    found = classify(Halves(), some, rules("a", "b", "c"))
    np.testing.assert_allclose(found.probabilities, softmax(some.features / 2), rtol=1e-5)
    assert np.array_equal(found.labels, some.features.argmax(axis=1))
    assert found.metrics is not None
    assert found.metrics.accuracy == np.mean(found.labels == some.labels)


@pytest.mark.parametrize("classes", [2, 5])
def test_measures_are_those_of_scikit_learn(classes: int) -> None:
    truth, probabilities = RANDOM.integers(0, classes, 200), softmax(RANDOM.normal(size=(200, classes)))
    found = measure(truth, probabilities)
    scores = probabilities[:, 1] if classes == 2 else probabilities
    assert found.auc == pytest.approx(sklearn_metrics.roc_auc_score(truth, scores, multi_class="ovr"), abs=1e-12)
    predicted = probabilities.argmax(axis=1)
    assert np.array_equal(found.confusion, sklearn_metrics.confusion_matrix(truth, predicted))
    assert found.accuracy == sklearn_metrics.accuracy_score(truth, predicted)
    assert found.confusion.sum() == found.count == 200


def test_auc_of_classes_that_occur_and_none_where_only_one_does() -> None:
    probabilities = softmax(RANDOM.normal(size=(20, 4)))
    truth = np.array([0, 2] * 10)
    expected = np.mean([sklearn_metrics.roc_auc_score(truth == one, probabilities[:, one]) for one in (0, 2)])
    assert measure(truth, probabilities).auc == pytest.approx(expected)
    alone = measure(np.full(20, 2), probabilities)
    assert (alone.auc, alone.auc_missing) == (None, "only class 2 occurs")


def test_metrics_cover_labelled_records_only() -> None:
    half = records(10, 2, [0, -1] * 5)
    found = classify(Halves(), half, rules("a", "b"))
    assert found.metrics is not None
    assert found.metrics.count == 5
    assert classify(Halves(), records(4, 2), rules("a", "b")).metrics is None
    with pytest.raises(ConfigError, match="here: no records to classify"):
        classify(Halves(), records(0, 2), rules("a", "b"))


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline="")))


def test_csv_holds_every_record_exactly(tmp_path: Path) -> None:
    found = classify(Halves(), records(3, 2, [0, -1, 1], ("p,1", "p2", 'p"3')), rules("a", "b b"))
    write_csv(tmp_path / "out.csv", found)
    rows = read(tmp_path / "out.csv")
    assert list(rows[0]) == ["id", "predicted", "probability a", "probability b b", "label"]
    assert [row["id"] for row in rows] == ["p,1", "p2", 'p"3']
    assert [row["label"] for row in rows] == ["a", "", "b b"]
    assert [row["predicted"] for row in rows] == [("a", "b b")[label] for label in found.labels]
    assert [
        [float(row["probability a"]), float(row["probability b b"])] for row in rows
    ] == found.probabilities.tolist()


def test_csv_without_ids_and_labels(tmp_path: Path) -> None:
    write_csv(tmp_path / "out.csv", classify(Halves(), records(2, 2), rules("a", "b")))
    rows = read(tmp_path / "out.csv")
    assert list(rows[0]) == ["row", "predicted", "probability a", "probability b"]
    assert [row["row"] for row in rows] == ["1", "2"]


def test_no_text_cell_is_a_formula(tmp_path: Path) -> None:
    names = ("=1+1", "@SUM(A1)")
    ids = ("+49 30", "-5", "\tx", "\rx", "=cmd|' /C calc'!A0", "fine")
    write_csv(tmp_path / "out.csv", classify(Halves(), records(6, 2, [0, 1] * 3, ids), rules(*names)))
    for row in read(tmp_path / "out.csv"):
        for column, cell in row.items():
            assert column[0].isalpha()
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert [row["id"] for row in read(tmp_path / "out.csv")][-1] == "fine"


def printed(classification: Classification) -> str:
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    print_classification(classification, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_table_shows_measures_and_outside_names_as_they_are() -> None:
    some = records(40, 3, RANDOM.integers(0, 3, 40))
    found = classify(Halves(), some, rules("[red]alert[/red]", "esc\x1b[2J", "c"))
    text = printed(found)
    assert found.metrics is not None
    assert f"{found.metrics.accuracy:.4f}" in text
    assert f"{found.metrics.auc:.4f}" in text
    assert "Confusion matrix (rows: label, columns: predicted)" in text
    assert "[red]alert[/red]" in text
    assert "\x1b" not in text
    assert "esc\ufffd[2J" in text


def test_table_says_why_there_is_no_auc_and_omits_what_does_not_fit() -> None:
    assert "none: only class 1 occurs" in printed(classify(Halves(), records(3, 2, [1, 1, 1]), rules("a", "b")))
    assert "accuracy" not in printed(classify(Halves(), records(3, 2), rules("a", "b")))
    many = classify(Halves(), records(50, 30, RANDOM.integers(0, 30, 50)), rules(*(f"c{at}" for at in range(30))))
    assert "Confusion" not in printed(many)
