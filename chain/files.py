"""Files that people write and keep: TOML read strictly, anything written is complete or absent."""

import errno
import os
import re
import stat
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from chain.protocol.errors import ConfigError
from chain.protocol.rules import Rules

SMALL = 1 << 24  # bytes of a file that people write
LONG = 240  # bytes of a name to which no more can be added: most disks allow 255
# A key of many names, from the first on: the parser's memory grows with the square of their number.
_LONG_KEY = re.compile(r"""(?<![\w"'-])(?:[\w"'-]++\s*+\.\s*+){65}""")


def read_toml(path: Path) -> dict[str, Any]:
    """One TOML file; decimals keep every digit that was written. Raises ConfigError naming the file and line."""
    try:
        text = read_small(path).decode("utf-8")
        if _LONG_KEY.search(text):
            raise ConfigError(path, "more than 65 names in one key")
        return tomllib.loads(text, parse_float=Decimal)
    except FileNotFoundError:
        raise ConfigError(path, "no such file") from None
    except (OSError, ValueError) as error:
        raise ConfigError(path, str(error)) from None
    except ArithmeticError:
        raise ConfigError(path, "a number with an exponent that is out of all bounds") from None
    except RecursionError:
        raise ConfigError(path, "tables or arrays in each other without end") from None


class NoPlainFile(OSError):
    """A pipe, a device or a socket in the place of a file."""


@contextmanager
def opened(path: Path | str) -> Iterator[tuple[int, BinaryIO]]:
    """The size of a plain file, and the file. Raises OSError; to wait for a pipe would take for ever."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise NoPlainFile(errno.ENXIO, "not a plain file, but a socket", str(path)) from None
        raise
    try:
        about = os.fstat(handle)
        if stat.S_ISDIR(about.st_mode):
            raise IsADirectoryError(errno.EISDIR, "a folder", str(path))
        if not stat.S_ISREG(about.st_mode):
            raise NoPlainFile(errno.EINVAL, "not a plain file, but something else", str(path))
        with os.fdopen(handle, "rb", closefd=False) as file:
            yield about.st_size, file
    finally:
        os.close(handle)


def read_small(path: Path) -> bytes:
    """A plain file of at most SMALL bytes. Raises OSError."""
    with opened(path) as (size, file):
        if size > SMALL:
            raise OSError(errno.EFBIG, f"more than {SMALL} bytes", str(path))
        return file.read()


def load_rules(path: Path) -> Rules:
    """Reads `federation.toml`. Raises ConfigError naming the file and the field."""
    return Rules.parse(read_toml(path), path)


def check_place(path: Path) -> None:
    """Raises ConfigError unless a file can be written there: better known before long work, or before it costs gas. A
    device, pipe or link that stands there would be replaced by the file.
    """
    try:
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            raise ConfigError(path, "there is something else than a plain file")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ConfigError(path, f"cannot be written: {error.strerror}") from None


def keep_apart(path: Path, *sources: Path | None) -> None:
    """Raises ConfigError if `path` is one of the files that are read, or lies in such a folder."""
    for source in sources:
        if source is None or not source.exists():
            continue
        within = source.resolve() in path.resolve().parents
        if within or (path.exists() and path.samefile(source)):
            raise ConfigError(path, f"would be written over what is read from {source}", "choose another place")


def write_atomic(path: Path, *parts: bytes | memoryview, mode: int = 0o644) -> None:
    """Writes `path`, all parts in their order, whole and durably, or not at all: temporary file beside it, fsync,
    rename, fsync of the folder.

    Raises OSError naming `path`.
    """
    try:
        _write_atomic(path, parts, mode)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None  # it would name the temporary file


def _write_atomic(path: Path, parts: Iterable[bytes | memoryview], mode: int) -> None:
    make_folder(path.parent)
    called = path.name if len(os.fsencode(path.name)) < LONG else path.suffix
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{called}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Creates the folder, and those it lies in, unless it is there; durably. Raises OSError."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode, exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Makes what was created, renamed or removed in `folder` outlast a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
