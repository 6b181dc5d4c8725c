"""Splitting one set of records among organisations, for demos and benchmarks: unequal, as real organisations are."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv

from chain.files import write_atomic
from chain.protocol.errors import ConfigError
from chain.protocol.rules import DataRules
from fl_node.data import Records

MINIMUM = 10  # records of the smallest part

Counts = npt.NDArray[np.int64]


def split(
    records: Records, parts: int, alpha: float, seed: int, test_share: float, *, minimum: int = MINIMUM
) -> tuple[list[Records], Records]:
    """(parts, test): every record in exactly one of them, in the order of `records`; the same for the same seed.

    The test part takes `test_share` of every class. The rest of every class is divided by proportions drawn from a
    Dirichlet distribution with concentration `alpha`: 100 is nearly even, 0.1 leaves most classes to one part. Then as
    few records as needed move until each part has `minimum` (at least 2) records of at least 2 classes.

    Raises ConfigError for parameters out of range, records without labels, or too few records.
    """
    _require(parts >= 1, "parts", "at least 1", parts)
    _require(bool(np.isfinite(alpha)) and alpha > 0, "alpha", "a number above 0", alpha)
    _require(0 <= test_share < 1, "test_share", "at least 0 and below 1", test_share)
    _require(minimum >= 2, "minimum", "at least 2", minimum)
    if not len(records) or not records.labelled:
        raise ConfigError(records.source, "splitting needs records, and a label for each of them")
    random = np.random.Generator(np.random.PCG64(seed))
    members = [np.flatnonzero(records.labels == label) for label in range(int(records.labels.max()) + 1)]
    shuffled = [random.permutation(rows) for rows in members]
    tests = [_test_count(len(rows), test_share) for rows in shuffled]
    rest = [rows[count:] for rows, count in zip(shuffled, tests, strict=True)]
    counts = np.stack([_shares(len(rows), parts, alpha, random) for rows in rest], axis=1)
    _two_classes(counts, records.source)
    _at_least(counts, minimum, records.source)
    cuts = [np.split(rows, np.cumsum(counts[:-1, label])) for label, rows in enumerate(rest)]
    test = np.concatenate([rows[:count] for rows, count in zip(shuffled, tests, strict=True)])
    chosen = [np.concatenate([cut[part] for cut in cuts]) for part in range(parts)]
    return [records.take(np.sort(rows)) for rows in chosen], records.take(np.sort(test))


def _require(good: bool, name: str, expected: str, found: object) -> None:
    if not good:
        raise ConfigError("split", f"{name} is {found}, expected {expected}")


def _test_count(size: int, share: float) -> int:
    """Test records out of a class of `size`: the share, rounded; never all, and never none of a class that has two."""
    return 0 if share == 0 or size < 2 else min(max(round(size * share), 1), size - 1)


def _shares(size: int, parts: int, alpha: float, random: np.random.Generator) -> Counts:
    """How many of `size` records each part gets, `[parts]`, summing to `size`."""
    bounds = np.cumsum(random.dirichlet(np.full(parts, alpha)))[:-1]
    return np.diff(np.floor(bounds * size), prepend=0, append=size).astype(np.int64)


def _two_classes(counts: Counts, source: str) -> None:
    """Moves single records in `counts` `[parts, classes]` until each part has two classes; no part loses one for it."""
    for own in counts:
        while np.count_nonzero(own) < 2:
            offers = np.where(own == 0, counts, 0)
            donor, label = np.unravel_index(offers.argmax(), offers.shape)
            if offers[donor, label] < 2:
                raise ConfigError(source, f"too few records to give {len(counts)} parts two classes each")
            counts[donor, label] -= 1
            own[label] += 1


def _at_least(counts: Counts, minimum: int, source: str) -> None:
    """Moves records in `counts` `[parts, classes]` from the largest part until each has `minimum`.

    A donor gives of its largest class. It loses a class only if it has one record each of more than `minimum` classes.
    """
    if counts.sum() < len(counts) * minimum:
        have = f"{counts.sum()} records after the test share"
        raise ConfigError(source, f"{have} are too few for {len(counts)} parts of at least {minimum}")
    for own in counts:
        while own.sum() < minimum:
            donor = counts[counts.sum(axis=1).argmax()]
            label = donor.argmax()
            donor[label] -= 1
            own[label] += 1


def write_csv(path: Path, records: Records, rules: DataRules) -> None:
    """A CSV file that `load_records` reads back to the same records. The rules must name the feature columns."""
    if not rules.features:
        raise ConfigError(path, "the rules name no feature columns", "write NPZ instead")
    columns = {name: pa.array(records.features[:, column]) for column, name in enumerate(rules.features)}
    names = np.array([*rules.classes, ""])  # the last is the cell of -1, no label
    columns[rules.label] = pa.array(names[records.labels])
    if rules.id:
        columns = {rules.id: pa.array(_ids(records, rules)), **columns}
    file = io.BytesIO()
    pa_csv.write_csv(pa.table(columns), file)
    write_atomic(path, file.getvalue())


def write_npz(path: Path, records: Records, rules: DataRules) -> None:
    """An NPZ file that `load_records` reads back to the same records: `x` `[n, *input_shape]`, `y`, and `id` with ids.

    Images of whole numbers up to 255 are stored as bytes, which is an eighth of the size and the same numbers.
    """
    x = records.features.reshape(len(records), *rules.input_shape)
    small = bool(((x >= 0) & (x <= 255) & (x == np.floor(x))).all())
    arrays: dict[str, npt.NDArray[Any]] = {"x": x.astype(np.uint8) if small else x, "y": records.labels}
    if rules.id:
        arrays["id"] = np.array(_ids(records, rules), dtype=np.str_)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    write_atomic(path, file.getvalue())


def _ids(records: Records, rules: DataRules) -> tuple[str, ...]:
    if records.ids is None:
        raise ConfigError(records.source, f"the records have no ids for column {rules.id!r}")
    return records.ids
