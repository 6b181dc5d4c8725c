"""The journal's database: one SQLite file, in which every change is whole, and on the disk when the call returns, but
for those that a power cut may take back.

It holds facts (a name, and a value as JSON) and the outbox, every row with a checksum: SQLite has none, and a flipped
bit in a head would look like a lie of the ledger, one in a transaction like another account's. Only the process that
holds the lock of the state folder opens it, so the database is locked as a whole, and needs no shared memory beside it.
"""

import json
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic_core import from_json

from chain.files import write_atomic
from chain.protocol.errors import ConfigError

T = TypeVar("T")

VERSION = 5  # of the tables and facts; 1 was a folder of JSON files
_APPLICATION = 0x726C6A6E  # "rljn", by which other programs know the file
_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {VERSION};
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE outbox (
    nonce INTEGER NOT NULL, attempt INTEGER NOT NULL, key TEXT NOT NULL, raw BLOB NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (nonce, attempt)
) STRICT, WITHOUT ROWID;
"""
RESTORE = (
    "restore the folder from a backup; or start with an empty one that holds only the old `secret`: then what was not "
    "sent so far is lost, and a round that this node has committed to"
)
WAIT = 5.0  # seconds that somebody else (a backup) may hold the file
MENDABLE = (  # what SQLite says when the file itself may be whole
    "SQLITE_FULL",
    "SQLITE_READONLY",
    "SQLITE_IOERR",
    "SQLITE_CANTOPEN",
    "SQLITE_PERM",
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_PROTOCOL",
    "SQLITE_NOMEM",
)
RESUME = "nothing is lost: mend that and start the node again"


class Database:
    """One open database file, for all threads of the process."""

    def __init__(self, path: Path) -> None:
        """Opens the file, which must exist. Raises ConfigError when it is damaged or of another version."""
        self.path, self._lock = path, threading.RLock()
        with self._errors():
            self._open = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=WAIT)
            try:
                # Before the first look, which would need shared memory otherwise.
                self._open.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._check()
                self._open.execute("PRAGMA journal_mode = WAL")  # writes to the file: after the check
            except BaseException:
                self._open.close()
                raise

    @classmethod
    def create(cls, path: Path) -> None:
        """Writes an empty database, whole or not at all. Raises OSError."""
        memory = sqlite3.connect(":memory:")
        memory.executescript(_SCHEMA)
        write_atomic(path, memory.serialize(), mode=0o600)
        memory.close()

    def _check(self) -> None:
        (application,) = self._open.execute("PRAGMA application_id").fetchone()
        (version,) = self._open.execute("PRAGMA user_version").fetchone()
        if application != _APPLICATION:
            raise ConfigError(self.path, "damaged: not the journal of a node", RESTORE)
        if version != VERSION:
            raise ConfigError(self.path, f"a journal of version {version}, this program reads {VERSION}")
        (found,) = self._open.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise ConfigError(self.path, f"damaged: {found}", RESTORE)
        for name, value, checksum in self._open.execute("SELECT * FROM fact"):
            if checksum != row(name, value)[-1]:
                raise ConfigError(self.path, f"damaged {name}: {value!r:.50} is not what was written", RESTORE)
        for *entry, checksum in self._open.execute("SELECT * FROM outbox"):
            if checksum != row(*entry)[-1]:
                raise ConfigError(self.path, f"damaged transaction {entry[0]}: not what was written", RESTORE)

    def close(self) -> None:
        with self._lock:
            self._open.close()

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """All of it happens or nothing. If not `durable`, it outlives the process, but it may be that a power cut takes
        it back. Raises ConfigError when it cannot be read or written.
        """
        with self._lock, self._errors():
            self._open.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._open.execute("BEGIN IMMEDIATE")
            try:
                yield self._open
                self._open.execute("COMMIT")
            except BaseException:
                if self._open.in_transaction:  # SQLite may have ended it by itself
                    self._open.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors():
            yield self._open

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError:  # sqlite3 could not even read what SQLite says of it
            raise ConfigError(self.path, "damaged", RESTORE) from None
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
            if name.startswith(MENDABLE):
                raise ConfigError(self.path, f"cannot be used: {error} ({name})", RESUME) from None
            raise ConfigError(self.path, f"damaged: {error} ({name})", RESTORE) from None

    # --------------------------------------------------------------- facts

    def fact(self, name: str) -> Any:
        """What was last kept under this name; None if nothing was."""
        with self.reading() as database:
            found = database.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        if found is None:
            return None
        with suppress(ValueError):
            if (value := from_json(found[0])) is not None:  # json.loads may crash the process on deep nesting
                return value
        raise ConfigError(self.path, f"damaged {name}: {found[0]!r:.50}", RESTORE)

    def parsed(self, name: str, parse: Callable[[Any], T]) -> T | None:
        """The same, as `parse` makes it of the JSON value. Raises ConfigError for what it does not take."""
        found = self.fact(name)
        try:
            return None if found is None else parse(found)
        except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
            raise ConfigError(self.path, f"damaged {name}: {error}", RESTORE) from None

    def keep(self, *, durable: bool = True, **facts: Any) -> None:
        """Keeps all of these, in one transaction; None forgets one."""
        with self.transaction(durable=durable) as database:
            for name, value in facts.items():
                if value is None:
                    database.execute("DELETE FROM fact WHERE name = ?", (name,))
                else:
                    database.execute("INSERT OR REPLACE INTO fact VALUES (?, ?, ?)", row(name, json.dumps(value)))


def row(*values: int | str | bytes) -> tuple[int | str | bytes, ...]:
    """Of a table: these, and their checksum."""
    return *values, zlib.crc32(repr(values).encode())
