"""CSV: Arrow reads the good file, in parallel; only a bad one is read again, row by row, to say where it is bad."""

import csv
import io
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from chain.protocol.errors import ConfigError
from chain.protocol.rules import DataRules
from fl_node.readers import Raw, shown, stack, wanted_columns

NUMBER = re.compile(r"[ \t]*[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)[ \t]*", re.ASCII | re.IGNORECASE)
BLOCK = 1 << 24  # bytes; a CSV row must fit into one
csv.field_size_limit(BLOCK)  # or Python would refuse a long cell that Arrow has read


def read_csv(path: Path, rules: DataRules, labelled: bool) -> Raw:
    """A CSV file (RFC 4180, UTF-8, comma) with a header. Raises ConfigError naming row, line and column."""
    data = path.read_bytes()
    header = next((cells for _, cells in _rows(data)), [])
    if b"\0" in data or not header or not _utf8("".join(header)):
        raise ConfigError(path, "not a CSV file", "expected UTF-8 text with a header line")
    wanted = wanted_columns(path, header, rules, labelled)
    if b'"' in data:
        _check_quotes(path, data)
    types = {name: pa.float64() if name in rules.features else pa.string() for name in wanted}
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(data),
            read_options=pa_csv.ReadOptions(block_size=BLOCK),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(include_columns=wanted, column_types=types, null_values=[]),
        )
    except pa.ArrowInvalid as error:
        raise _diagnose(path, data, rules, wanted, error) from None
    features = stack([table[name].to_numpy() for name in rules.features])
    labels = table[rules.label] if rules.label in wanted else None
    ids = table[rules.id] if rules.id else None
    return Raw(features, rules.features, labels, ids, rules.label, lambda row: _csv_place(data, row))


def _rows(data: bytes) -> Iterator[tuple[int, list[str]]]:
    """(first line, cells) of every row, the header included; blank lines are no rows.

    Stops where Python's reader cannot go on: it only ever explains, it decides nothing.
    """
    reader, line = csv.reader(_text(data)), 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error:
        return


def _text(data: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", errors="surrogateescape", newline="")


def _check_quotes(path: Path, data: bytes) -> None:
    """Arrow would take what lies between two stray quotes for one cell, and lose those rows without a word."""
    reader, line = csv.reader(_text(data), strict=True), 1
    try:
        for _ in reader:
            line = reader.line_num + 1
    except csv.Error as error:
        problem = f"a stray double quote in the row that starts on line {line}: {error}"
        raise ConfigError(path, problem, 'quotes stand around a whole cell, and twice within one: "5"" wide"') from None


def _utf8(text: str) -> bool:
    """False where `surrogateescape` had to carry bytes that are not UTF-8."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _csv_place(data: bytes, row: int) -> str:
    line = next((line for line, _ in islice(_rows(data), row + 1, None)), None)
    return f"row {row + 1}" + (f" (line {line})" if line else "")


def _diagnose(path: Path, data: bytes, rules: DataRules, wanted: list[str], error: Exception) -> ConfigError:
    """The first row that Arrow cannot have liked; Arrow's own words when Python sees nothing wrong."""
    rows, row = _rows(data), 0
    _, header = next(rows)
    numbers = [(name, header.index(name)) for name in rules.features]
    texts = [(name, header.index(name)) for name in wanted[len(numbers) :]]
    for row, (line, cells) in enumerate(rows, 1):
        where = f"row {row} (line {line})"
        if len(cells) != len(header):
            return ConfigError(path, f"{where} has {len(cells)} cells, the header has {len(header)}")
        for name, column in () if _all_numbers([cells[column] for _, column in numbers]) else numbers:
            if not NUMBER.fullmatch(cell := cells[column]):
                problem = f"found {shown(cell)}" if cell.strip() else "empty cell"
                return ConfigError(path, f"{where}, column {shown(name)}: expected a number, {problem}")
        for name, column in texts:
            if not _utf8(cells[column]):
                return ConfigError(path, f"{where}, column {shown(name)}: not UTF-8 text")
    if row == 0:
        return ConfigError(path, "no rows", "the file ends after its header")
    return ConfigError(path, f"cannot be read as CSV: {error}")


def _all_numbers(cells: list[str]) -> bool:
    """True only if `NUMBER` fits every cell; the quick look that spares a large file a regular expression a cell."""
    try:
        list(map(float, cells))
    except ValueError:
        return False
    text = "".join(cells)
    return text.isascii() and "_" not in text  # which Python takes for numbers and Arrow does not
