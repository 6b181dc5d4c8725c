"""Records: one node's private data, read strictly from a file or a built-in set.

The reader decides what a file says; this module decides whether the rules of the federation allow it. The first value
that they do not allow ends the reading with its file, row and column, because a record that is dropped or guessed at
without a word would be missing from, or wrong in, the data root.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from chain.protocol.errors import ConfigError, printable
from chain.protocol.rules import DataRules
from fl_node.arrays import IMAGES, read_builtin, read_idx, read_npz
from fl_node.config import BUILTIN
from fl_node.csvfile import read_csv
from fl_node.readers import Raw, read_parquet, shown

pa.enable_signal_handlers(False)  # SIGTERM while Arrow reads is for the node, and not the end of the reading
UNLABELLED = -1
CHUNK = 4096  # records converted at a time, so that no second copy of a large set is made
READERS = {".csv": read_csv, ".parquet": read_parquet, ".npz": read_npz}


@dataclass(frozen=True, eq=False)
class Records:
    """n records: `features` float64 `[n, width]` as in the file, `labels` int64 `[n]` class indices, -1 for none.

    Values stay out of the representation, so that no log shows them.
    """

    features: npt.NDArray[np.float64] = field(repr=False)
    labels: npt.NDArray[np.int64] = field(repr=False)
    ids: tuple[str, ...] | None = field(repr=False)
    source: str

    def __len__(self) -> int:
        return len(self.features)

    @property
    def labelled(self) -> bool:
        """Whether every record has a label."""
        return bool((self.labels >= 0).all())

    def take(self, rows: npt.NDArray[np.int64]) -> "Records":
        """The records of `rows` (from 0), in that order."""
        ids = None if self.ids is None else tuple(self.ids[row] for row in rows)
        return Records(self.features[rows], self.labels[rows], ids, self.source)

    def inputs(self, rules: DataRules) -> npt.NDArray[np.float32]:
        """Model inputs `[n, *input_shape]`: (feature - center) / scale in float64, then rounded once to float32.

        Raises ConfigError naming row and column where the result does not fit float32.
        """
        center, scale = np.asarray(rules.center), np.asarray(rules.scale)
        inputs = np.empty((len(self), rules.width), np.float32)
        with np.errstate(over="ignore"):
            for start in range(0, len(self), CHUNK):
                inputs[start : start + CHUNK] = (self.features[start : start + CHUNK] - center) / scale
        if not np.isfinite(inputs).all():
            row, column = np.argwhere(~np.isfinite(inputs))[0]
            name = shown(rules.features[column]) if rules.features else str(column + 1)
            raise ConfigError(self.source, f"row {row + 1}, column {name}: too large for float32", "check data.scale")
        return inputs.reshape(len(self), *rules.input_shape)


def load_records(source: str | Path, rules: DataRules, *, labelled: bool = True) -> Records:
    """Reads `.csv`, `.parquet`, `.npz`, `PREFIX-images-idx3-ubyte[.gz]`, or `builtin:<set>`.

    Labels are class names (in NPZ and IDX class indices). With `labelled=False` the label column, or single labels, may
    be missing: such records get -1. Columns that the rules do not name are ignored.

    Raises ConfigError naming file, row (from 1, and the line of a CSV) and column.
    """
    raw = _read(source, rules, labelled)
    if not len(raw.features):
        raise ConfigError(source, "no rows")
    finite = np.isfinite(raw.features)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        where = f"{raw.place(int(row))}, column {shown(raw.columns[column])}"
        raise ConfigError(source, f"{where}: expected a finite number, found {raw.features[row, column]}")
    return Records(raw.features, _labels(source, raw, rules, labelled), _ids(source, raw, rules), str(source))


def _read(source: str | Path, rules: DataRules, labelled: bool) -> Raw:
    if str(source).startswith(BUILTIN):
        return read_builtin(str(source).removeprefix(BUILTIN), rules, labelled)
    path = Path(source)
    reader = read_idx if path.name.removesuffix(".gz").endswith(IMAGES) else READERS.get(path.suffix.lower())
    if reader is None:
        hint = f"expected .csv, .parquet, .npz or PREFIX{IMAGES}[.gz]"
        raise ConfigError(source, f"unknown kind of file {shown(path.suffix)}", hint)
    try:
        if path.stat().st_size == 0:
            raise ConfigError(source, "empty file")
        return reader(path, rules, labelled)
    except FileNotFoundError:
        raise ConfigError(source, "no such file") from None
    except OSError as error:
        raise ConfigError(source, f"cannot be read: {error.strerror or error}") from None
    except MemoryError:  # a header may promise anything
        raise ConfigError(source, "more data than there is memory for") from None


def _labels(source: object, raw: Raw, rules: DataRules, labelled: bool) -> npt.NDArray[np.int64]:
    """Class indices `[n]`; -1 for a record without a label, which only unlabelled data may have."""
    n, column = len(raw.features), shown(raw.label_column)
    if raw.labels is None:
        return np.full(n, UNLABELLED, np.int64)
    if isinstance(raw.labels, np.ndarray):
        if others := [name for at, name in enumerate(rules.classes) if name.isdecimal() and int(name) != at]:
            problem = f"{column} holds numbers, and {others[0]!r} is the name of another class than number {others[0]}"
            raise ConfigError(source, problem, "write the labels as text")
        known = (raw.labels >= 0) & (raw.labels < len(rules.classes))
        blank = raw.labels == UNLABELLED
        labels = np.where(known, raw.labels, UNLABELLED).astype(np.int64)
    else:
        text = pc.fill_null(raw.labels, "")
        found = pc.index_in(text, value_set=pa.array(rules.classes))
        labels = pc.fill_null(found, UNLABELLED).to_numpy().astype(np.int64)
        known, blank = labels >= 0, np.asarray(pc.equal(text, ""))
    bad = ~known if labelled else ~known & ~blank
    if bad.any():
        row = int(np.argmax(bad))
        where = f"{raw.place(row)}, column {column}"
        if blank[row]:
            raise ConfigError(source, f"{where}: empty cell, expected a label")
        value = raw.labels[row] if isinstance(raw.labels, np.ndarray) else raw.labels[row].as_py()
        value = int(value) if isinstance(value, np.integer) else value
        raise ConfigError(source, f"{where}: unknown label {shown(value)}", f"classes: {_listed(rules.classes)}")
    return labels


def _listed(classes: tuple[str, ...]) -> str:
    names = [f"{index} = {printable(name)}" for index, name in enumerate(classes[:20])]
    return ", ".join(names) + (f", ... {len(classes)} in all" if len(classes) > 20 else "")


def _ids(source: object, raw: Raw, rules: DataRules) -> tuple[str, ...] | None:
    """The ids as text, all there and all different."""
    if raw.ids is None:
        return None
    ids = tuple(raw.ids.to_pylist())
    distinct = set(ids)
    if None in distinct or "" in distinct:
        row = next(row for row, value in enumerate(ids) if not value)
        raise ConfigError(source, f"{raw.place(row)}, column {shown(rules.id)}: empty cell, expected an id")
    if len(distinct) < len(ids):
        seen: dict[str, int] = {}
        row = next(row for row, value in enumerate(ids) if seen.setdefault(value, row) != row)
        places = f"{raw.place(seen[ids[row]])} and {raw.place(row)}"
        raise ConfigError(source, f"{places}, column {shown(rules.id)}: duplicate id {shown(ids[row])}")
    return ids
