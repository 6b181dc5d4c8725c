"""Merkle trees of RFC 6962, section 2.1: leaf prefix 0x00, node prefix 0x01, order kept, so a proof binds the
position.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256

from chain.protocol.digest import Digest


def leaf_hash(leaf: bytes) -> bytes:
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def root(leaves: Iterable[bytes]) -> Digest:
    """Merkle tree hash of `leaves` in their order; SHA-256 of nothing when there are none.

    The RFC splits at the largest power of two below n. Level by level that means: pair neighbours, and let an odd
    last node rise. Written out, without a call for each node: that takes as long as the hashing.
    """
    level = [sha256(b"\x00" + leaf).digest() for leaf in leaves]
    if not level:
        return Digest.of(b"")
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [sha256(b"\x01" + left + right).digest() for left, right in pairs] + odd
    return Digest(level[0])


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of leaf `index` (RFC 6962, 2.1.1), lowest sibling first. Raises IndexError outside the tree."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"no leaf {index} in a tree of {len(leaves)}")
    level, path = [leaf_hash(leaf) for leaf in leaves], []
    while len(level) > 1:
        if (sibling := index ^ 1) < len(level):
            path.append(level[sibling])
        odd = level[-1:] if len(level) % 2 else []
        level = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)] + odd
        index //= 2
    return path


def root_from_proof(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> Digest | None:
    """The root that the audit path leads to (RFC 9162, 2.1.3.2); None if the path has a wrong length or position."""
    if not 0 <= index < size:
        return None
    node, last = leaf_hash(leaf), size - 1
    for sibling in path:
        if last == 0:
            return None
        if index % 2 == 1 or index == last:
            node = node_hash(sibling, node)
            while index % 2 == 0 and index != 0:
                index, last = index // 2, last // 2
        else:
            node = node_hash(node, sibling)
        index, last = index // 2, last // 2
    return Digest(node) if last == 0 else None
