"""The update: the selected channels of one participant in one round, in canonical bytes.

A safetensors file (see `tensorfile`) of tensors over the channels of the whole model in their order:

    sent       uint8 [ceil(channels / 8)]   one bit a channel, most significant first
    exponents  uint8 [blocks sent]          E8M0: exponent of a block's scale, biased by 127
    elements   int8  [entries sent]         steps of 2**(2 - bits) of the scale; with 8 bits MXINT8
    norms      uint8 [channels]             norm codes, only for a common selection: the next round's set needs them

Where the rules let only a share of the entries differ from zero, `elements` holds those alone, and there is also

    counts     uint32 [channels sent]       how many there are in a channel
    columns    uint32 [elements]            where in it, ascending

These bytes are what is hashed and committed. What lies in the store is shorter: see `packing`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np

from chain.protocol.digest import Digest
from chain.protocol.errors import Code, VerificationError
from chain.protocol.rules import CompressionRules, Rules
from fl_node import tensorfile
from fl_node.channels import ChannelTable, Codes, channel_norms
from fl_node.gradient import Layer, Layout, Matrix
from fl_node.quantise import Exponents, Integers, Quantised, blocks
from fl_node.sparse import Sparse
from fl_node.tensorfile import Tensors

FORMAT = "roundledger-update/2"
_TENSORS = {"sent": np.uint8, "exponents": np.uint8, "elements": np.int8}
_SPARSE = {"counts": np.uint32, "columns": np.uint32}
_E8M0 = 127
MAX_HEADER = 1 << 12  # bytes: there are six tensors at most, and their names are short


@dataclass(frozen=True, slots=True)
class LayerUpdate:
    """What was sent of one layer: `channels` are rows of the layer, ascending; `values` has one row for each."""

    channels: Integers
    values: Quantised | Sparse


@dataclass(frozen=True, slots=True)
class Update:
    """A decoded update. Not verified: nothing here has been compared with anything yet."""

    participant: str
    round: int
    base_model: Digest
    sent: Integers  # channel numbers, ascending
    layers: tuple[LayerUpdate, ...]
    norms: Codes | None = None  # of all channels, for a common selection

    def table(self, layout: Layout) -> ChannelTable:
        """The channel table, its norms computed from the values."""
        return ChannelTable(layout.channels, self.sent, channel_norms(part.values for part in self.layers))

    def dense(self, layout: Layout) -> list[Matrix]:
        """What was sent as float32 matrices `[channels, width]`, zero where nothing was sent."""
        matrices = []
        for layer, part in zip(layout.layers, self.layers, strict=True):
            matrix = np.zeros((layer.channels, layer.width), np.float32)
            matrix[part.channels] = part.values.values()
            matrices.append(matrix)
        return matrices


def entry_budget(layout: Layout, rules: CompressionRules) -> int:
    """How many entries of an update may differ from zero: `ceil(entry_rate * entries)`."""
    return ceil(Fraction(rules.entry_rate) * layout.entries)


def encode(update: Update, rules: CompressionRules, layout: Layout) -> bytes:
    """The canonical bytes."""
    mask = np.zeros(layout.channels, bool)
    mask[update.sent] = True
    exponents = np.concatenate([part.values.exponents.ravel() for part in update.layers])
    tensors: Tensors = {
        "sent": np.packbits(mask),
        "exponents": (exponents.astype(np.int16) + _bias(rules)).astype(np.uint8),
        "elements": np.concatenate([part.values.elements.ravel() for part in update.layers]),
    }
    for name in _SPARSE if rules.sparse else ():
        tensors[name] = np.concatenate([getattr(part.values, name) for part in update.layers])
    if update.norms is not None:
        tensors["norms"] = update.norms
    about = {
        "format": FORMAT,
        "participant": update.participant,
        "round": update.round,
        "base_model": str(update.base_model),
    }
    return tensorfile.encode(tensors, about)


def decode(data: bytes, layout: Layout, rules: Rules, subject: str) -> Update:
    """Reads an update of a model with this layout. Raises VerificationError (U2) for anything that `encode` would not
    write.
    """
    tensors, about = tensorfile.decode(data, subject, rules.limits.update_bytes, MAX_HEADER)
    participant, number, base = _about(about, subject)
    found = {name: tensor.dtype.type for name, tensor in tensors.items()}
    common = rules.selection.selection == "common"
    expected = _TENSORS | (_SPARSE if rules.compression.sparse else {}) | ({"norms": np.uint8} if common else {})
    _require(found == expected, subject, f"tensors {sorted(expected)}", sorted(found))
    sent = _sent(tensors["sent"], layout.channels, subject)
    norms = tensors.get("norms")
    if norms is not None:
        _require(norms.shape == (layout.channels,), subject, f"norms of {layout.channels} channels", norms.shape)
    layers = _layers(tensors, layout, rules.compression, sent, subject)
    return canonical(Update(participant, number, base, sent, layers, norms), layout, rules, subject)


def canonical(update: Update, layout: Layout, rules: Rules, subject: str) -> Update:
    """The same, if its blocks are spelt in the one way. Raises VerificationError (U2) otherwise."""
    for layer, part in zip(layout.layers, update.layers, strict=True):
        holds = part.values.is_canonical(rules.compression)
        _require(holds, subject, f"canonical blocks in layer {layer.name}", "others: see fl_node/quantise.py")
    return update


def _bias(rules: CompressionRules) -> int:
    """E8M0 is biased by 127; an element counts steps of 2**(2 - bits), so the scale is that far above its last bit."""
    return _E8M0 + rules.bits - 2


def _about(about: dict[str, Any], subject: str) -> tuple[str, int, Digest]:
    keys = {"format", "participant", "round", "base_model"}
    _require(about.keys() == keys and about["format"] == FORMAT, subject, f"format {FORMAT} with {sorted(keys)}", about)
    participant, number = about["participant"], about["round"]
    _require(isinstance(participant, str) and type(number) is int, subject, "a participant and a round", about)
    try:
        return participant, number, Digest.parse(str(about["base_model"]))
    except ValueError as error:
        raise VerificationError(Code.U2, subject, "a base model digest", error) from None


def _sent(packed: np.ndarray[Any, Any], channels: int, subject: str) -> Integers:
    size = -(-channels // 8)
    _require(packed.shape == (size,), subject, f"a mask of {size} bytes", packed.shape)
    bits = np.unpackbits(packed)
    _require(not bits[channels:].any(), subject, "zero bits behind the mask", "ones")
    return np.flatnonzero(bits[:channels])


def _layers(
    tensors: Tensors,
    layout: Layout,
    rules: CompressionRules,
    sent: Integers,
    subject: str,
) -> tuple[LayerUpdate, ...]:
    """Cuts the flat tensors into the rows of each layer."""
    rows = [rows_of(layer, sent) for layer in layout.layers]
    scales = [(len(row), blocks(layer.width, rules.block)) for row, layer in zip(rows, layout.layers, strict=True)]
    sizes = [len(row) * layer.width for row, layer in zip(rows, layout.layers, strict=True)]
    if rules.sparse:
        _require(tensors["counts"].shape == sent.shape, subject, f"{len(sent)} counts", tensors["counts"].shape)
        counts = np.split(tensors["counts"], np.cumsum([len(row) for row in rows])[:-1])
        sizes = [int(each.sum(dtype=np.int64)) for each in counts]
        _require(tensors["columns"].shape == (sum(sizes),), subject, f"{sum(sizes)} columns", tensors["columns"].shape)
    _require(tensors["elements"].shape == (sum(sizes),), subject, f"{sum(sizes)} elements", tensors["elements"].shape)
    exponents, parts, entry, scale = _exponents(tensors["exponents"], scales, rules, subject), [], 0, 0
    for index, (row, layer, shape) in enumerate(zip(rows, layout.layers, scales, strict=True)):
        part, scales_of = (
            slice(entry, entry + sizes[index]),
            exponents[scale : scale + shape[0] * shape[1]].reshape(shape),
        )
        elements = tensors["elements"][part]
        values: Quantised | Sparse
        if rules.sparse:
            values = Sparse(counts[index], tensors["columns"][part], elements, scales_of, rules.block, layer.width)
        else:
            values = Quantised(elements.reshape(len(row), layer.width), scales_of, rules.block)
        parts.append(LayerUpdate(row, values))
        entry, scale = part.stop, scale + shape[0] * shape[1]
    return tuple(parts)


def _exponents(
    biased: np.ndarray[Any, Any], shapes: Sequence[tuple[int, int]], rules: CompressionRules, subject: str
) -> Exponents:
    """Of all layers, int8."""
    count = sum(rows * across for rows, across in shapes)
    _require(biased.shape == (count,), subject, f"{count} exponents", biased.shape)
    unbiased = biased.astype(np.int16) - _bias(rules)
    within = not count or (unbiased.min() >= -128 and unbiased.max() <= 127)
    _require(within, subject, "exponents of one byte", "others")
    return unbiased.astype(np.int8)


def rows_of(layer: Layer, sent: Integers) -> Integers:
    """Those of the channels `sent` (numbers in the model, ascending) that are rows of this layer, by row."""
    start, stop = sent.searchsorted(layer.first_channel), sent.searchsorted(layer.first_channel + layer.channels)
    return sent[start:stop] - layer.first_channel


def _require(holds: bool, subject: str, expected: object, actual: object) -> None:
    if not holds:
        raise VerificationError(Code.U2, subject, expected, actual)
