"""The content-addressed blob store: bytes under the name of their SHA-256, in a folder or an object store.

`obstore` (the Rust `object_store`) does the work for `s3://`, `gs://`, `az://`, with credentials from the environment.
Its writes are whole or absent; in a folder they are ours, so that they also outlast a power cut (what the ledger has
been told of must be there afterwards). What comes back is untrusted: size first, then digest, then the caller's own
checks.
"""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import numpy as np
import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import ObjectStore, from_url

from chain.files import NoPlainFile, make_folder, opened, sync_folder, write_atomic
from chain.protocol.digest import Digest
from chain.protocol.errors import Code, ConfigError, Unavailable, VerificationError

if TYPE_CHECKING:  # the library has it for the type checker only
    from obstore.store import RetryConfig

CHUNK = 1 << 19  # bytes compared at a time: of more, the memory for them would be new every time, and cost the most
PATIENCE, POLL = 2.0, 0.002  # seconds that a writer waits for another one, and between looks
BLOBS = "sha256"  # the folder in a store; what else lies beside it is somebody's own
PIECE = 1 << 23  # bytes of an object store asked for at a time: the library gives a request 30 s, body included,
UPLOADS = 2  # and pieces of 5 MiB sent at a time: so 350 kB/s are fast enough for a blob of any size
# The library would try again for minutes and say nothing; whoever asks knows better how long it is worth waiting.
RETRIES: "RetryConfig" = {"max_retries": 1, "retry_timeout": timedelta(seconds=5)}

Read = Callable[[int], bytes]


class BlobStore:
    """Blobs by digest. `location` is a folder or a URL; raises ConfigError for one that cannot be used."""

    def __init__(self, location: str | Path, *, create: bool = True) -> None:
        self.location = str(location)
        folder = folder_of(self.location)
        self._place = _open(self.location) if folder is None else _open_folder(folder, create)

    def put(self, *data: bytes | memoryview, digest: Digest | None = None) -> Digest:
        """Stores `data` (one piece after the other) under its digest, or under that of what it unpacks to, in the place
        of whatever else lies there. Raises Unavailable if it cannot.
        """
        name = digest or Digest.of(*data)
        try:
            if not self._holds(name, data):
                self._write(name, data)
            if isinstance(self._place, Path):  # whoever wrote it may have died before this
                sync_folder((self._place / _path(name)).parent)
        except (BaseError, OSError) as error:
            raise Unavailable(Code.U1, f"blob {name.short}", _reason(error)) from None
        return name

    def _write(self, name: Digest, data: Sequence[bytes | memoryview]) -> None:
        if isinstance(self._place, Path):
            path = self._place / _path(name)
            make_folder(path.parent)
            with _alone(path.parent):
                if not self._holds(name, data):
                    write_atomic(path, *data)
        else:
            obstore.put(self._place, _path(name), b"".join(data), max_concurrency=UPLOADS)

    def _holds(self, name: Digest, data: Sequence[bytes | memoryview]) -> bool:
        """Whether these very bytes lie there: whoever can write to the store could have put others under the name."""
        try:
            with self._opened(name) as (size, read):
                return size == sum(len(piece) for piece in data) and all(_same(piece, read) for piece in data)
        except (NotFoundError, FileNotFoundError, PermissionError, NoPlainFile):
            return False

    def get(self, digest: Digest, subject: str, max_bytes: int) -> bytes:
        """The blob, at most `max_bytes`, checked against its digest.

        Raises Unavailable when it cannot be had, VerificationError (U1) when what lies under its name are other bytes.
        """
        data = self.read(digest, subject, max_bytes)
        if (actual := Digest.of(data)) != digest:
            raise VerificationError(Code.U1, subject, digest, actual)
        return data

    def read(self, digest: Digest, subject: str, max_bytes: int) -> bytes:
        """What lies under this digest, compared with nothing: for blobs whose digest is that of what they unpack to."""
        try:
            with self._opened(digest) as (size, read):
                data = read(size) if size <= max_bytes else b""
        except (NotFoundError, FileNotFoundError):
            raise Unavailable(Code.U1, subject, f"no blob {digest} in {self.location}") from None
        except (BaseError, OSError) as error:
            raise Unavailable(Code.U1, subject, _reason(error)) from None
        if size > max_bytes:
            raise VerificationError(Code.U1, subject, f"a blob of at most {max_bytes} bytes", f"{size} bytes")
        return data

    @contextmanager
    def _opened(self, digest: Digest) -> Iterator[tuple[int, Read]]:
        """The size of a blob, and what reads its next bytes. In a folder without the library, whose own threads cost
        more than a small file.
        """
        if not isinstance(self._place, Path):
            yield obstore.head(self._place, _path(digest))["size"], _ranges(self._place, digest)
            return
        with opened(f"{self._place}/{_path(digest)}") as (size, file):  # pathlib takes longer than to open a file
            yield size, file.read


def _ranges(store: ObjectStore, digest: Digest) -> Read:
    """Reads a blob of an object store range by range."""
    at = 0

    def read(size: int) -> bytes:
        nonlocal at
        start, at = at, at + size
        ends = [*range(start + PIECE, at, PIECE), at] if size else []
        return b"".join(obstore.get_range(store, _path(digest), start=a, end=b) for a, b in pairwise([start, *ends]))

    return read


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One writer at a time, if no other one takes too long: nodes that derive the same model do so at the same moment,
    and a disk is done sooner with one copy than with one for each. Without it a write would be whole or absent, too.
    """
    handle, until = os.open(folder, os.O_RDONLY), time.monotonic() + PATIENCE
    try:
        while time.monotonic() < until:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(POLL)
            except OSError:  # a file system without locks
                break
        yield
    finally:
        os.close(handle)  # and with it the lock


def _same(piece: bytes | memoryview, read: Read) -> bool:
    """Whether these are the next bytes."""
    for start in range(0, len(piece), CHUNK):
        mine = np.frombuffer(piece[start : start + CHUNK], np.uint8)
        if not np.array_equal(np.frombuffer(read(len(mine)), np.uint8), mine):
            return False
    return True


def _path(digest: Digest) -> str:
    name = digest.hex()
    return f"{BLOBS}/{name[:2]}/{name}"


def folder_of(location: str) -> Path | None:
    """The folder that a location means; None for an object store. Raises ConfigError."""
    if "://" not in location:
        return Path(location)
    parts = urlsplit(location)
    if parts.scheme != "file":
        return None
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise ConfigError(location, "not a folder on this machine", "file:///absolute/path")
    return Path(unquote(parts.path))


def place_of_blobs(location: str) -> Path | None:
    """Where on this machine the blobs of a store lie: nobody else writes there. None for an object store."""
    folder = folder_of(location)
    return folder and folder / BLOBS


def _open(location: str) -> ObjectStore:
    parts = urlsplit(location)
    if parts.username or parts.password or parts.query:  # it would stand in logs and reports
        where = re.sub(r"[^/]*@|[?].*", "", location)
        raise ConfigError(where, "a blob store's address holds a password or a token", "give it in the environment")
    try:
        if parts.scheme == "memory":
            raise ValueError("it would be gone with the process")
        return from_url(location, retry_config=RETRIES)
    except (BaseError, ValueError) as error:
        raise ConfigError(location, f"not a blob store: {_reason(error)}") from None


def _open_folder(folder: Path, create: bool) -> Path:
    if not create and not folder.is_dir():
        raise ConfigError(folder, "no such blob folder")
    try:
        make_folder(folder)
    except OSError as error:
        raise ConfigError(folder, f"not usable as a blob store: {_reason(error)}") from None
    return folder


def _reason(error: Exception) -> str:
    """The first line: the library appends its whole debug structure below."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
