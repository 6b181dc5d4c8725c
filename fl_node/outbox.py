"""The outbox of a node: the transactions it has signed, in the journal's database."""

from itertools import groupby

from chain.crash import Point, crash_point
from chain.outbox import Entry
from fl_node.database import Database, row


class JournalOutbox:
    """A `chain.outbox.Outbox` that outlives the process. Raises ConfigError when the disk does not take an entry."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def entries(self) -> list[Entry]:
        with self._database.reading() as database:
            rows = database.execute("SELECT nonce, key, raw FROM outbox ORDER BY nonce, attempt").fetchall()
        grouped = groupby(rows, key=lambda row: (row[0], row[1]))
        return [Entry(key, nonce, tuple(bytes(row[2]) for row in group)) for (nonce, key), group in grouped]

    def put(self, entry: Entry) -> None:
        if not entry.raw:
            raise ValueError(f"an entry without a transaction: {entry}")
        rows = [row(entry.nonce, attempt, entry.key, raw) for attempt, raw in enumerate(entry.raw)]
        crash_point(Point.SIGNED)
        with self._database.transaction() as database:
            database.execute("DELETE FROM outbox WHERE nonce = ?", (entry.nonce,))
            database.executemany("INSERT INTO outbox VALUES (?, ?, ?, ?, ?)", rows)
        crash_point(Point.PUT)

    def clear(self) -> None:
        with self._database.transaction() as database:
            database.execute("DELETE FROM outbox")

    def remove(self, nonce: int) -> None:
        """Should a power cut take this back, a transaction that is mined is forgotten once more."""
        crash_point(Point.MINED)
        with self._database.transaction(durable=False) as database:
            database.execute("DELETE FROM outbox WHERE nonce = ?", (nonce,))
        crash_point(Point.REMOVED)
