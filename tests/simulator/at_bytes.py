"""Attacks in the bytes of an update: no numbers, other spellings, files and packed forms that ask for much."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import zstandard

from fl_node import coder, tensorfile
from tests.simulator.at_updates import Forge, excluded
from tests.simulator.attack import Mallory, Prepared
from tests.simulator.world import RULES


def _tensors(prepared: Prepared, change: Callable[[dict[str, Any]], None]) -> Prepared:
    """With other tensors in a file that is canonical."""
    tensors, about = tensorfile.decode(prepared.blob, "attack", len(prepared.blob))
    changed = {name: tensor.copy() for name, tensor in tensors.items()}
    change(changed)
    return prepared.with_blob(tensorfile.encode(changed, about))


def _header(prepared: Prepared, change: Callable[[dict[str, Any]], Any]) -> Prepared:
    """With another header over the same tensors."""
    size = int.from_bytes(prepared.blob[:8], "little")
    said = json.loads(prepared.blob[8 : 8 + size])
    head = json.dumps(change(said), separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return prepared.with_blob(len(head).to_bytes(8, "little") + head + prepared.blob[8 + size :])


# ----------------------------------------------------------- what the bytes hold


def nan_scale(mallory: Mallory, prepared: Prepared) -> Prepared:
    """E8M0 knows one value that is no number: 255."""

    def change(tensors: dict[str, Any]) -> None:
        tensors["exponents"][0] = 255

    return _tensors(prepared, change)


def infinite_scale(mallory: Mallory, prepared: Prepared) -> Prepared:
    def change(tensors: dict[str, Any]) -> None:
        tensors["exponents"][:] = 254

    return _tensors(prepared, change)


def floats(value: float) -> Forge:
    """Float entries, which could be anything."""

    def change(tensors: dict[str, Any]) -> None:
        tensors["elements"] = np.full(tensors["elements"].shape, value, np.float32)

    return lambda _, prepared: _tensors(prepared, change)


def extra_tensor(mallory: Mallory, prepared: Prepared) -> Prepared:
    return _tensors(prepared, lambda tensors: tensors.update(extra=np.ones(3, np.uint8)))


def missing_tensor(mallory: Mallory, prepared: Prepared) -> Prepared:
    return _tensors(prepared, lambda tensors: tensors.pop("exponents"))


def non_canonical_block(mallory: Mallory, prepared: Prepared) -> Prepared:
    """The same values with a scale twice as large and elements half as large: another spelling."""

    def change(tensors: dict[str, Any]) -> None:
        tensors["exponents"] += 1
        tensors["elements"] //= 2

    return _tensors(prepared, change)


def overlapping_offsets(mallory: Mallory, prepared: Prepared) -> Prepared:
    def change(said: dict[str, Any]) -> Any:
        said["exponents"]["data_offsets"][0] -= 1
        return said

    return _header(prepared, change)


def reordered_header(mallory: Mallory, prepared: Prepared) -> Prepared:
    return _header(prepared, lambda said: dict(reversed(said.items())))


def spaces_in_the_header(mallory: Mallory, prepared: Prepared) -> Prepared:
    size = int.from_bytes(prepared.blob[:8], "little")
    return prepared.with_blob(
        (size + 8).to_bytes(8, "little") + prepared.blob[8 : 8 + size] + b" " * 8 + prepared.blob[8 + size :]
    )


def bytes_behind_the_end(mallory: Mallory, prepared: Prepared) -> Prepared:
    return prepared.with_blob(prepared.blob + bytes(8))


def pickle(mallory: Mallory, prepared: Prepared) -> Prepared:
    return prepared.with_blob(b"\x80\x04cos\nsystem\n(S'true'\ntR.")


# ----------------------------------------------------------------------- bombs


def header_bomb(mallory: Mallory, prepared: Prepared) -> Prepared:
    """A header of 2^63 bytes, as far as its length says."""
    return prepared.with_blob((2**63 - 1).to_bytes(8, "little") + prepared.blob[8:])


def shape_bomb(mallory: Mallory, prepared: Prepared) -> Prepared:
    """Tensors of 2^94 entries, as far as the header says."""

    def change(said: dict[str, Any]) -> Any:
        said["elements"]["shape"] = [2**47, 2**47]
        return said

    return _header(prepared, change)


def many_axes(mallory: Mallory, prepared: Prepared) -> Prepared:
    """The canonical bytes of a tensor with more axes than NumPy knows."""

    def change(said: dict[str, Any]) -> Any:
        said["sent"]["shape"] += [1] * 64
        return said

    return _header(prepared, change)


def nested_header(mallory: Mallory, prepared: Prepared) -> Prepared:
    deep = b'{"a":' * 500 + b"1" + b"}" * 500
    return prepared.with_blob(len(deep).to_bytes(8, "little") + deep)


def zip_bomb(mallory: Mallory, prepared: Prepared) -> Prepared:
    """A packed update whose section unpacks to a thousand times the limit."""
    frame = zstandard.ZstdCompressor().compress(bytes(1 << 20) * 8)
    words = (0).to_bytes(4, "little")
    return prepared.with_blob(prepared.blob, coder.WITH_SECTIONS + words + len(frame).to_bytes(4, "little") + frame)


def random_words(mallory: Mallory, prepared: Prepared) -> Prepared:
    """A packed update of words that no coder has written."""
    words = np.random.default_rng(1).bytes(64)
    return prepared.with_blob(prepared.blob, coder.FEW + words)


def oversized_claim(mallory: Mallory, prepared: Prepared) -> Prepared:
    return prepared.with_blob(prepared.blob, update_bytes=RULES.limits.update_bytes + 1)


def oversized_blob(mallory: Mallory, prepared: Prepared) -> Prepared:
    """More bytes in the store than the rules allow, and fewer on the ledger."""
    return prepared.with_blob(prepared.blob, bytes(RULES.limits.update_bytes + 1))


BYTES = (
    excluded("NaN", "has a scale that is no number", "U2", nan_scale),
    excluded("infinity", "has scales of 2^127", "U2", infinite_scale),
    excluded("NaN entries", "has float entries that are no numbers", "U2", floats(float("nan"))),
    excluded("infinite entries", "has float entries that are infinite", "U2", floats(float("inf"))),
    excluded("extra tensor", "has a tensor that updates do not have", "U2", extra_tensor),
    excluded("missing tensor", "leaves the exponents out", "U2", missing_tensor),
    excluded("non-canonical block", "spells the same values in another way", "U2", non_canonical_block),
    excluded("overlapping offsets", "has two tensors over the same bytes", "U2", overlapping_offsets),
    excluded("reordered header", "has the same header in another order", "U2", reordered_header),
    excluded("spaces in the header", "pads the header further", "U2", spaces_in_the_header),
    excluded("bytes behind the end", "has bytes that belong to no tensor", "U2", bytes_behind_the_end),
    excluded("pickle", "sends a pickle that runs a command", "U2", pickle),
)
BOMBS = (
    excluded("header bomb", "promises a header of 2^63 bytes", "U2", header_bomb),
    excluded("shape bomb", "promises tensors of 2^94 entries", "U2", shape_bomb),
    excluded("many axes", "has a tensor of 65 axes", "U2", many_axes),
    excluded("nested header", "has a header 500 levels deep", "U2", nested_header),
    excluded("zip bomb", "stores a packed update that unpacks to very much", "U1", zip_bomb),
    excluded("words of no coder", "stores a packed update that nobody packed", "U1", random_words),
    excluded("oversized blob", "claims more bytes than the rules allow", "U2", oversized_claim),
    excluded("oversized file", "stores more bytes than the rules allow", "U1", oversized_blob),
)
