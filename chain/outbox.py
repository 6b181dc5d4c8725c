"""What a sender must not forget: the transactions it has signed and not yet seen mined.

A signed transaction is put here before it is sent. A sender that died sends the very same bytes again, which the chain
takes once or not at all; a second transaction for the same thing is never signed while the first may still be mined.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """What was signed for one nonce of the account."""

    key: str  # what it does, once: "commit 7", "attest 7"...
    nonce: int
    raw: tuple[bytes, ...]  # signed transactions of this nonce, the newest last; each replaces the one before


class Outbox(Protocol):
    """Where entries are kept, at most one a nonce. Usable from threads."""

    def entries(self) -> list[Entry]:
        """Everything that was put and not removed, by nonce."""
        ...

    def put(self, entry: Entry) -> None:
        """Durable when it returns; replaces the entry of the same nonce."""
        ...

    def remove(self, nonce: int) -> None:
        """Forgets the entry of this nonce, if there is one."""
        ...


class MemoryOutbox:
    """An outbox that ends with its process: for tools that send and exit, and for tests."""

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}

    def entries(self) -> list[Entry]:
        return [self._entries[nonce] for nonce in sorted(self._entries)]

    def put(self, entry: Entry) -> None:
        self._entries[entry.nonce] = entry

    def remove(self, nonce: int) -> None:
        self._entries.pop(nonce, None)
