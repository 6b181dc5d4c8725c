"""Classifying records with the model, and measuring how well it does where the labels are known."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console, Group
from rich.table import Column, Table
from rich.text import Text
from torch import nn

from chain.files import write_atomic
from chain.protocol.errors import ConfigError
from chain.protocol.rules import Rules
from fl_node.data import Records

BATCH = 1024  # records in one forward pass
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes a cell that begins so for a formula
WIDEST = 20  # classes beyond which a confusion matrix does not fit a terminal


@dataclass(frozen=True)
class Metrics:
    """How well n labelled records were classified. `confusion[i, j]`: records of class i that were called class j.

    `auc` is the area under the ROC curve: of class 1 for two classes, else the mean, over the classes that occur, of
    one class against the rest. It is None where only one class occurs; `auc_missing` then says so.
    """

    count: int
    accuracy: float
    auc: float | None
    auc_missing: str
    confusion: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Classification:
    """For n records: predicted class indices `labels` int64 `[n]`, `probabilities` float64 `[n, classes]`.

    `truth` int64 `[n]` holds the given labels, -1 for none; `metrics` covers the records that have one, and is None
    where none has.
    """

    classes: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    ids: tuple[str, ...] | None
    truth: npt.NDArray[np.int64]
    metrics: Metrics | None


def predict(module: nn.Module, inputs: npt.NDArray[np.float32], batch: int = BATCH) -> npt.NDArray[np.float64]:
    """Class probabilities `[n, classes]` of `inputs` `[n, *input_shape]`: softmax, computed in float64.

    Raises ConfigError when the model returns a value that is not finite.
    """
    training = module.training
    try:
        with torch.inference_mode():
            parts = [module.eval()(torch.tensor(inputs[at : at + batch])) for at in range(0, len(inputs), batch)]
            logits = torch.cat(parts).double()
            probabilities: npt.NDArray[np.float64] = torch.softmax(logits, dim=1).numpy()
    finally:
        module.train(training)
    if not np.isfinite(probabilities).all():
        row = int(np.argmin(np.isfinite(probabilities).all(axis=1)))
        raise ConfigError("model", f"its output for row {row + 1} is not finite")
    return probabilities


def classify(module: nn.Module, records: Records, rules: Rules) -> Classification:
    """Classifies every record; of equally probable classes the first wins. Raises ConfigError without records."""
    if not len(records):
        raise ConfigError(records.source, "no records to classify")
    probabilities = predict(module, records.inputs(rules.data))
    labels = probabilities.argmax(axis=1).astype(np.int64)
    known = records.labels >= 0
    metrics = measure(records.labels[known], probabilities[known]) if known.any() else None
    return Classification(rules.data.classes, labels, probabilities, records.ids, records.labels, metrics)


def measure(truth: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]) -> Metrics:
    """Accuracy, ROC AUC and confusion matrix of `probabilities` `[n, classes]` against `truth` `[n]`, n at least 1."""
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - takes a second to load, and training never needs it

    predicted, classes = probabilities.argmax(axis=1), probabilities.shape[1]
    confusion = np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)
    accuracy = float((predicted == truth).mean())
    present = np.unique(truth)
    if len(present) == 1:
        return Metrics(len(truth), accuracy, None, f"only class {present[0]} occurs", confusion)
    chosen = [1] if classes == 2 else present
    auc = np.mean([roc_auc_score(truth == one, probabilities[:, one]) for one in chosen])
    return Metrics(len(truth), accuracy, float(auc), "", confusion)


def write_csv(path: Path, classification: Classification) -> None:
    """One row per record: `id` (or `row`, from 1), `predicted`, `probability <class>`..., and `label` if any is given.

    Text that a spreadsheet would take for a formula gets an apostrophe in front. The file is complete or absent.
    """
    classes = [_cell(name) for name in classification.classes]
    labelled = classification.metrics is not None
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    head = ["row" if classification.ids is None else "id", "predicted"]
    head += [f"probability {name}" for name in classification.classes]
    writer.writerow([*head, *(["label"] if labelled else [])])
    names = classification.ids or range(1, len(classification.labels) + 1)
    columns = (classification.labels.tolist(), classification.probabilities.tolist(), classification.truth.tolist())
    for name, label, probabilities, truth in zip(names, *columns, strict=True):
        true = [classes[truth] if truth >= 0 else ""] if labelled else []
        writer.writerow([_cell(name) if isinstance(name, str) else name, classes[label], *probabilities, *true])
    write_atomic(path, file.getvalue().encode(), mode=0o600)  # what the model says of people


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA) else text


def classification_json(classification: Classification) -> dict[str, Any]:
    """The same summary for machines."""
    counts = np.bincount(classification.labels, minlength=len(classification.classes))
    found: dict[str, Any] = {
        "records": len(classification.labels),
        "predicted": dict(zip(classification.classes, counts.tolist(), strict=True)),
    }
    if metrics := classification.metrics:
        found |= {
            "labelled": metrics.count,
            "accuracy": metrics.accuracy,
            "auc": metrics.auc,
            "confusion": metrics.confusion.tolist(),
        }
    return found


def print_classification(classification: Classification, console: Console) -> None:
    """How many records went to each class and, where labels are given, accuracy, ROC AUC and the confusion matrix."""
    console.print(Group(*_tables(classification)))


def _tables(classification: Classification) -> list[Table]:
    counts = np.bincount(classification.labels, minlength=len(classification.classes))
    summary = Table("", Column("value", justify="right"), title="Classification")
    summary.add_row("records", str(len(classification.labels)))
    for name, count in zip(classification.classes, counts, strict=True):
        summary.add_row(Text("predicted ").append_text(_plain(name)), str(count))
    metrics = classification.metrics
    if metrics is None:
        return [summary]
    summary.add_row("labelled records", str(metrics.count))
    summary.add_row("accuracy", f"{metrics.accuracy:.4f}")
    summary.add_row("ROC AUC", f"none: {metrics.auc_missing}" if metrics.auc is None else f"{metrics.auc:.4f}")
    if len(classification.classes) > WIDEST:
        return [summary]
    names = [_plain(name) for name in classification.classes]
    columns = [Column(name, justify="right") for name in names]
    matrix = Table("label", *columns, title="Confusion matrix (rows: label, columns: predicted)")
    for text, row in zip(names, metrics.confusion, strict=True):
        matrix.add_row(text, *map(str, row))
    return [summary, matrix]


def _plain(name: str) -> Text:
    """A name from outside as text: no rich markup, and no control character reaches the terminal."""
    return Text("".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name))
