"""The update: the selected channels of one participant in one round, and the channel table behind the choice.

A safetensors file (see `tensorfile`) of four tensors over the channels of the whole model in their order:

    sent       uint8 [ceil(channels / 8)]   one bit a channel, most significant first
    norms      uint8 [channels, 16]         squared norms, u128 big endian, units of 2**-60
    exponents  uint8 [blocks sent]          E8M0: exponent of a block's scale, biased by 127
    elements   int8  [entries sent]         MXINT8: sixty-fourths of the scale
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chain.protocol.digest import Digest
from chain.protocol.errors import Code, VerificationError
from chain.protocol.rules import SelectionRules
from chain.protocol.seal import Metadata
from fl_node import tensorfile
from fl_node.channels import NORM_BYTES, ChannelTable, channel_norms, select
from fl_node.gradient import Layer, Layout, Matrix
from fl_node.quantise import Quantised, blocks, is_canonical, quantise
from fl_node.tensorfile import Tensors

FORMAT = "roundledger-update/1"
_TENSORS = {"sent": np.uint8, "norms": np.uint8, "exponents": np.uint8, "elements": np.int8}
_BIAS = (
    127 + 6
)  # E8M0 is biased by 127; an MXINT8 element counts sixty-fourths, so the scale is six bits above its last bit


@dataclass(frozen=True, slots=True)
class LayerUpdate:
    """What was sent of one layer: `channels` are rows of the layer, ascending; `values` has one row for each."""

    channels: np.ndarray[Any, np.dtype[np.int64]]
    values: Quantised


@dataclass(frozen=True, slots=True)
class Update:
    """A decoded update. Not verified: nothing here has been compared with anything yet."""

    participant: str
    round: int
    base_model: Digest
    table: ChannelTable
    layers: tuple[LayerUpdate, ...]

    def dense(self, layout: Layout) -> list[Matrix]:
        """What was sent as float32 matrices `[channels, width]`, zero where nothing was sent."""
        matrices = []
        for layer, part in zip(layout.layers, self.layers, strict=True):
            matrix = np.zeros((layer.channels, layer.width), np.float32)
            matrix[part.channels] = part.values.values()
            matrices.append(matrix)
        return matrices


def make_update(
    gradient: Sequence[Matrix],
    layout: Layout,
    rules: SelectionRules,
    participant: str,
    round_number: int,
    base_model: Digest,
) -> Update:
    """quantise -> channel norms -> select by upload rate -> the rows of the selected channels."""
    quantised = [quantise(matrix) for matrix in gradient]
    norms = channel_norms(quantised)
    sent = select(norms, rules)
    parts = []
    for layer, matrix in zip(layout.layers, quantised, strict=True):
        rows = _rows(layer, np.asarray(sent, np.int64))
        parts.append(LayerUpdate(rows, matrix.rows(rows)))
    return Update(participant, round_number, base_model, ChannelTable(norms, sent), tuple(parts))


def describe(
    update: Update, blob: bytes, data_root: Digest, secret_commitment: Digest, records: int, salt: bytes
) -> Metadata:
    """What the ledger is told about an update. `salt` is 32 random bytes: they hide everything else in the seal."""
    return Metadata(
        base_model=update.base_model,
        update_digest=Digest.of(blob),
        update_bytes=len(blob),
        data_root=data_root,
        secret_commitment=secret_commitment,
        records=records,
        channel_root=update.table.root,
        channels=len(update.table.squared_norms),
        sent=len(update.table.sent),
        threshold=update.table.threshold,
        salt=salt,
    )


def residual(gradient: Sequence[Matrix], update: Update, layout: Layout) -> list[Matrix]:
    """What was not sent, the quantisation error included: `gradient - sent`, exact in float32."""
    return [matrix - sent for matrix, sent in zip(gradient, update.dense(layout), strict=True)]


def encode(update: Update) -> bytes:
    table = update.table
    mask = np.zeros(len(table.squared_norms), bool)
    mask[list(table.sent)] = True
    norms = b"".join(squared.to_bytes(NORM_BYTES, "big") for squared in table.squared_norms)
    exponents = np.concatenate([part.values.exponents.ravel() for part in update.layers])
    tensors: Tensors = {
        "sent": np.packbits(mask),
        "norms": np.frombuffer(norms, np.uint8).reshape(-1, NORM_BYTES),
        "exponents": (exponents.astype(np.int16) + _BIAS).astype(np.uint8),
        "elements": np.concatenate([part.values.elements.ravel() for part in update.layers]),
    }
    about = {
        "format": FORMAT,
        "participant": update.participant,
        "round": update.round,
        "base_model": str(update.base_model),
    }
    return tensorfile.encode(tensors, about)


def decode(data: bytes, layout: Layout, subject: str, max_bytes: int) -> Update:
    """Reads an update of a model with this layout. Raises VerificationError (U2) for anything that `encode` would not
    write.
    """
    tensors, about = tensorfile.decode(data, subject, max_bytes)
    participant, number, base = _about(about, subject)
    found = {name: tensor.dtype.type for name, tensor in tensors.items()}
    _require(found == _TENSORS, subject, f"tensors {sorted(_TENSORS)}", sorted(found))
    sent = _sent(tensors["sent"], layout.channels, subject)
    norms = tensors["norms"]
    _require(norms.shape == (layout.channels, NORM_BYTES), subject, f"norms of {layout.channels} channels", norms.shape)
    raw = norms.tobytes()
    squared = tuple(int.from_bytes(raw[i : i + NORM_BYTES], "big") for i in range(0, len(raw), NORM_BYTES))
    layers = _layers(tensors, layout, sent, subject)
    return Update(participant, number, base, ChannelTable(squared, tuple(sent.tolist())), layers)


def _about(about: dict[str, Any], subject: str) -> tuple[str, int, Digest]:
    keys = {"format", "participant", "round", "base_model"}
    _require(about.keys() == keys and about["format"] == FORMAT, subject, f"format {FORMAT} with {sorted(keys)}", about)
    participant, number = about["participant"], about["round"]
    _require(isinstance(participant, str) and type(number) is int, subject, "a participant and a round", about)
    try:
        return participant, number, Digest.parse(str(about["base_model"]))
    except ValueError as error:
        raise VerificationError(Code.U2, subject, "a base model digest", error) from None


def _sent(packed: np.ndarray[Any, Any], channels: int, subject: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    size = -(-channels // 8)
    _require(packed.shape == (size,), subject, f"a mask of {size} bytes", packed.shape)
    bits = np.unpackbits(packed)
    _require(not bits[channels:].any(), subject, "zero bits behind the mask", "ones")
    return np.flatnonzero(bits[:channels])


def _layers(
    tensors: Tensors, layout: Layout, sent: np.ndarray[Any, np.dtype[np.int64]], subject: str
) -> tuple[LayerUpdate, ...]:
    """Cuts the two flat tensors into the rows of each layer."""
    rows = [_rows(layer, sent) for layer in layout.layers]
    entries = sum(len(row) * layer.width for row, layer in zip(rows, layout.layers, strict=True))
    scales = sum(len(row) * blocks(layer.width) for row, layer in zip(rows, layout.layers, strict=True))
    elements, exponents = tensors["elements"], tensors["exponents"]
    _require(elements.shape == (entries,), subject, f"{entries} elements", elements.shape)
    _require(exponents.shape == (scales,), subject, f"{scales} exponents", exponents.shape)
    unbiased = exponents.astype(np.int16) - _BIAS
    parts, entry, scale = [], 0, 0
    for row, layer in zip(rows, layout.layers, strict=True):
        next_entry, next_scale = entry + len(row) * layer.width, scale + len(row) * blocks(layer.width)
        values = Quantised(
            elements[entry:next_entry].reshape(len(row), layer.width),
            unbiased[scale:next_scale].astype(np.int8).reshape(len(row), blocks(layer.width)),
        )
        _require(
            is_canonical(values), subject, f"canonical blocks in layer {layer.name}", "a scale that is not the smallest"
        )
        parts.append(LayerUpdate(row, values))
        entry, scale = next_entry, next_scale
    return tuple(parts)


def _rows(layer: Layer, sent: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    start, stop = np.searchsorted(sent, [layer.first_channel, layer.first_channel + layer.channels])
    return sent[start:stop] - layer.first_channel


def _require(holds: bool, subject: str, expected: object, actual: object) -> None:
    if not holds:
        raise VerificationError(Code.U2, subject, expected, actual)
