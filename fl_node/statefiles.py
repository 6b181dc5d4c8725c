"""The large files of a state folder: each under the digest of its content, and checked when it is read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chain.files import write_atomic
from chain.protocol.digest import Digest
from chain.protocol.errors import ConfigError
from fl_node.database import RESTORE, RESUME

KINDS = ("residual", "blob")


def state_file(folder: Path, kind: str, digest: Digest) -> Path:
    return folder / f"{kind}-{digest.hex()}.bin"


def state_files(folder: Path) -> list[Path]:
    """All that are there, whether the journal names them or not."""
    return [path for kind in KINDS for path in folder.glob(f"{kind}-*.bin")]


def unfinished_files(folder: Path, *names: str) -> list[Path]:
    """What a process that died was about to write (see `chain.files`): state files, and files of these names."""
    patterns = [*(f".{kind}-*.bin.*" for kind in KINDS), *(f".{name}.*" for name in names)]
    return [path for pattern in patterns for path in folder.glob(pattern) if path.is_file()]


def write_state_file(path: Path, *parts: bytes | memoryview) -> None:
    """Whole and durably, for its owner alone. Raises ConfigError."""
    with writing_to(path):
        write_atomic(path, *parts, mode=0o600)


def read_state_file(path: Path, digest: Digest) -> bytes:
    """Raises ConfigError when it is missing or damaged."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(path, f"cannot be read: {error.strerror}", RESTORE) from None
    if Digest.of(data) != digest:
        raise ConfigError(path, "damaged: not what the journal says it is", RESTORE)
    return data


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """What the disk refuses (it is full, it is read-only) is the user's to mend. Raises ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(path, f"cannot be written: {error.strerror}", RESUME) from None
