"""What an account has signed and may still have to send again: written down before anything is sent.

A transaction that was sent may be lost on the way, pushed out of a full pool, or thrown out of the chain by a
reorganisation. The outbox keeps its very bytes until it lies deep enough, so sending it again can never do anything
twice: a nonce is used once.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """One nonce of the account, and what it is used for."""

    key: str  # what it does, once: "commit 7", "attest 7"...
    nonce: int
    raw: tuple[bytes, ...]  # signed transactions of this nonce, the newest last; each replaces the one before


class Outbox(Protocol):
    """Where entries are kept. One outbox for an account."""

    def entries(self) -> list[Entry]:
        """All of them, by nonce."""

    def put(self, entry: Entry) -> None:
        """Durable when it returns; replaces the entry of the same nonce."""

    def remove(self, nonce: int) -> None:
        """Harmless if there is no such entry."""


class MemoryOutbox:
    """An outbox that ends with the process: for commands that wait for their transactions, and for tests."""

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}

    def entries(self) -> list[Entry]:
        return [entry for _, entry in sorted(self._entries.items())]

    def put(self, entry: Entry) -> None:
        self._entries[entry.nonce] = entry

    def remove(self, nonce: int) -> None:
        self._entries.pop(nonce, None)
