"""What every reader of records hands over, and the reader of Parquet: every complaint names file, row and column."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from chain.protocol.errors import ConfigError
from chain.protocol.rules import DataRules


@dataclass(frozen=True, eq=False)
class Raw:
    """What a file holds, before labels are looked up and values are judged.

    `features` is `[n, width]`; `columns` names each of the `width` features. `labels` and `ids` are Arrow arrays of
    text; `labels` may also be a numpy array `[n]` of class indices. `place` says a row (from 0) in words for a message.
    """

    features: npt.NDArray[np.float64]
    columns: Sequence[str]
    labels: Any
    ids: Any
    label_column: str
    place: Callable[[int], str] = lambda row: f"row {row + 1}"


def shown(value: object) -> str:
    """A value from a file as it appears in a message: quoted, control characters escaped, cut."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def wanted_columns(path: object, found: Sequence[str], rules: DataRules, labelled: bool) -> list[str]:
    """The columns to read, features first. Raises ConfigError for one that is missing or there twice."""
    if not rules.features:
        hint = "a table needs data.features; images come as NPZ or IDX"
        raise ConfigError(path, "the rules name no feature columns", hint)
    required = [*rules.features, *([rules.label] if labelled else []), *([rules.id] if rules.id else [])]
    if missing := [name for name in required if name not in found]:
        there = ", ".join(map(shown, found[:20])) + (", ..." if len(found) > 20 else "")
        raise ConfigError(path, f"missing column {', '.join(map(shown, missing))}", f"the file has {there}")
    wanted = list(dict.fromkeys([*required, *([rules.label] if rules.label in found else [])]))
    for name in wanted:
        if found.count(name) > 1:
            first, second = [at + 1 for at, other in enumerate(found) if other == name][:2]
            raise ConfigError(path, f"duplicate column {shown(name)} (columns {first} and {second})")
    return wanted


def read_parquet(path: Path, rules: DataRules, labelled: bool) -> Raw:
    """A Parquet file with one column per feature. Raises ConfigError naming row and column."""
    try:
        with pq.ParquetFile(path) as file:
            wanted = wanted_columns(path, file.schema_arrow.names, rules, labelled)
            table = file.read(columns=wanted)
        table.validate(full=True)  # text that is no UTF-8, too
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ConfigError(path, f"cannot be read as Parquet: {error}") from None
    features = stack([_numbers(path, name, _decoded(table[name])) for name in rules.features])
    labels = _text(path, rules.label, _decoded(table[rules.label])) if rules.label in wanted else None
    ids = _text(path, rules.id, _decoded(table[rules.id])) if rules.id else None
    return Raw(features, rules.features, labels, ids, rules.label)


def stack(columns: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Columns of n numbers to `[n, width]`, row after row in memory."""
    features = np.empty((len(columns[0]), len(columns)))
    for column, values in enumerate(columns):
        features[:, column] = values
    return features


def _decoded(column: Any) -> Any:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _numbers(path: Path, name: str, column: Any) -> npt.NDArray[np.float64]:
    """One Parquet column as float64, each value the nearest to what the file says, as it would be from CSV."""
    kind = column.type
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise ConfigError(path, f"row {row + 1}, column {shown(name)}: expected a number, empty cell")
    if pa.types.is_decimal(kind):
        column = column.cast(pa.string()).cast(pa.float64())  # by way of text: the direct cast may round twice
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        found = shown(column[0].as_py()) if len(column) else "nothing"
        problem = f"row 1, column {shown(name)}: expected a number, found {found}"
        raise ConfigError(path, problem, f"the column holds {kind}")
    values: npt.NDArray[np.float64] = column.to_numpy().astype(np.float64)
    return values


def _text(path: Path, name: str, column: Any) -> Any:
    """One Parquet column as text. Whole floats read as integers: that is what pandas makes of integers with gaps."""
    try:
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), None, column)
            if pc.all(pc.equal(column, pc.round(column))).as_py():
                column = column.cast(pa.int64())
        return column.cast(pa.string())
    except pa.ArrowException as error:
        raise ConfigError(path, f"column {shown(name)} cannot be read as text: {error}") from None
