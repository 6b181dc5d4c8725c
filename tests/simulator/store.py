"""The blob store in memory, the real one over obstore's own, with faults: blobs withheld from some or from all, and
other bytes in their place.
"""

from dataclasses import dataclass, field

import obstore
from obstore.store import MemoryStore

from chain.protocol.digest import Digest
from chain.protocol.errors import Code, Unavailable
from fl_node.store import BlobStore, _path

EVERYBODY = frozenset({"auditor", *(f"node-{seat}" for seat in range(1, 10))})


@dataclass
class Shared:
    """What all see of one store, and what some do not."""

    memory: MemoryStore = field(default_factory=MemoryStore)
    withheld: dict[Digest, frozenset[str]] = field(default_factory=dict)  # from whom

    def overwrite(self, digest: Digest, data: bytes) -> None:
        """Other bytes under this name: whoever can write to the store can do that."""
        obstore.put(self.memory, _path(digest), data)


class Store(BlobStore):
    """One participant's view."""

    def __init__(self, shared: Shared, who: str) -> None:
        self.location, self._place = "memory", shared.memory
        self._shared, self._who = shared, who

    def read(self, digest: Digest, subject: str, max_bytes: int) -> bytes:
        if self._who in self._shared.withheld.get(digest, frozenset()):
            raise Unavailable(Code.U1, subject, f"no blob {digest} in {self.location}")
        return super().read(digest, subject, max_bytes)
