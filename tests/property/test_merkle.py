"""Merkle trees against the published vectors of RFC 6962's reference implementation, and a naive reading of the RFC."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.protocol import merkle

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "rfc6962.json").read_text())
LEAVES = [bytes.fromhex(leaf) for leaf in VECTORS["leaves"]]

# Leaves that differ: equal ones could stand for each other in a proof, and rightly.
distinct_leaves = st.lists(st.binary(max_size=8), min_size=1, max_size=70, unique=True)


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word: MTH(D[n]) splits at k, the largest power of two smaller than n."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = split(len(leaves))
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962, 2.1.1: PATH(m, D[n])."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*naive_path(index, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(index - k, leaves[k:]), naive_root(leaves[:k])]


def split(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def turns(index: int, size: int) -> list[str]:
    """On which side the sibling stands, from the leaf up: what a path says of its position."""
    if size == 1:
        return []
    k = split(size)
    return [*turns(index, k), "right"] if index < k else [*turns(index - k, size - k), "left"]


def test_root_of_no_leaves() -> None:
    assert merkle.root([]).hex() == VECTORS["empty"]


@pytest.mark.parametrize("size", range(1, 9))
def test_published_roots(size: int) -> None:
    assert merkle.root(LEAVES[:size]).hex() == VECTORS["roots"][size - 1]


@pytest.mark.parametrize("case", VECTORS["paths"], ids=lambda case: f"{case['index']} of {case['size']}")
def test_published_audit_paths(case: dict[str, Any]) -> None:
    index, size = case["index"], case["size"]
    path = merkle.inclusion_proof(LEAVES[:size], index)
    assert [node.hex() for node in path] == case["path"]
    found = merkle.root_from_proof(LEAVES[index], index, size, path)
    assert found is not None and found.hex() == VECTORS["roots"][size - 1]


@given(st.lists(st.binary(max_size=40), max_size=70))
def test_root_is_that_of_the_rfc(leaves: list[bytes]) -> None:
    assert merkle.root(leaves) == naive_root(leaves)


@settings(max_examples=50)
@given(distinct_leaves)
def test_every_leaf_has_the_path_of_the_rfc_and_it_verifies(leaves: list[bytes]) -> None:
    for index, leaf in enumerate(leaves):
        path = merkle.inclusion_proof(leaves, index)
        assert path == naive_path(index, leaves)
        assert merkle.root_from_proof(leaf, index, len(leaves), path) == naive_root(leaves)


@settings(max_examples=50)
@given(distinct_leaves, st.data())
def test_a_changed_proof_does_not_lead_to_the_root(leaves: list[bytes], data: st.DataObject) -> None:
    size, root = len(leaves), naive_root(leaves)
    index = data.draw(st.integers(0, size - 1))
    path = merkle.inclusion_proof(leaves, index)

    other_leaf = data.draw(st.binary(max_size=8).filter(lambda leaf: leaf != leaves[index]))
    assert merkle.root_from_proof(other_leaf, index, size, path) != root
    for other in range(-1, size + 1):
        if other != index:
            assert merkle.root_from_proof(leaves[index], other, size, path) != root
    for position, node in enumerate(path):
        bit = data.draw(st.integers(0, 255))
        changed = (int.from_bytes(node, "big") ^ (1 << bit)).to_bytes(32, "big")
        assert (
            merkle.root_from_proof(leaves[index], index, size, [*path[:position], changed, *path[position + 1 :]])
            != root
        )
        assert merkle.root_from_proof(leaves[index], index, size, path[:position] + path[position + 1 :]) is None
    for extra in (bytes(32), root, merkle.leaf_hash(leaves[index])):
        assert merkle.root_from_proof(leaves[index], index, size, [*path, extra]) is None
        assert merkle.root_from_proof(leaves[index], index, size, [extra, *path]) is None


@settings(max_examples=50)
@given(st.integers(1, 40), st.integers(0, 40), st.data())
def test_another_size_fails_unless_the_path_has_the_same_turns(size: int, other: int, data: st.DataObject) -> None:
    """A path does not bind the size of its tree: that is why the number of leaves is committed beside a root."""
    leaves = [bytes([number]) for number in range(size)]
    index = data.draw(st.integers(0, size - 1))
    found = merkle.root_from_proof(leaves[index], index, other, merkle.inclusion_proof(leaves, index))
    same = index < other and turns(index, other) == turns(index, size)
    assert (found == naive_root(leaves)) == same


@given(st.lists(st.binary(max_size=8), max_size=9), st.integers(-3, 12))
def test_no_proof_outside_the_tree(leaves: list[bytes], index: int) -> None:
    if not 0 <= index < len(leaves):
        with pytest.raises(IndexError):
            merkle.inclusion_proof(leaves, index)
        assert merkle.root_from_proof(b"", index, len(leaves), []) is None


def test_a_node_cannot_pass_for_a_leaf() -> None:
    """The prefixes keep the two apart: the concatenation of two hashes is not a leaf of a smaller tree."""
    pair = merkle.leaf_hash(LEAVES[0]) + merkle.leaf_hash(LEAVES[1])
    assert merkle.root([pair]) != merkle.root(LEAVES[:2])
