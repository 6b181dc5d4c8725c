"""Updates: what is sent and what stays, one spelling for each content, and a named reason for every refusal."""

import dataclasses
import json
from collections.abc import Callable
from decimal import Decimal
from math import comb, log2
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.protocol.digest import Digest
from chain.protocol.errors import Code, VerificationError
from chain.protocol.rules import CompressionRules, LimitRules, Rules
from chain.protocol.seal import Metadata
from fl_node import coder, making, packed, packing, selection, tensorfile, update
from fl_node.channels import norm_code
from fl_node.gradient import Layout
from fl_node.largest import largest_entries, magnitude_cut
from fl_node.norms import Norms
from fl_node.quantise import EXPONENT_MIN, Elements, Quantised, quantise
from fl_node.sparse import Sparse
from fl_node.update import Update
from fl_node.verify import verify_limits, verify_update

Matrix = np.ndarray[Any, np.dtype[np.float32]]

PARTICIPANT = "0x0A0a0A0a0A0a0a0A0A0a0A0a0a0a0A0a0a0a0a0a"
BASE = Digest.of(b"base model")
ROUND = 7
LIMIT = 1 << 16
LAYOUT = Layout.of(
    {
        "a.weight": np.zeros((5, 2, 3), np.float32),
        "a.bias": np.zeros(5, np.float32),
        "b.weight": np.zeros((3, 40), np.float32),
        "c": np.zeros((), np.float32),
    }
)


def rules(rate: str = "0.5", compression: dict[str, Any] | None = None, **levers: Any) -> Rules:
    document = {
        "format": "roundledger-federation/1",
        "name": "updates",
        "model": {"factory": "mlp"},
        "data": {"classes": ["a", "b"], "features": ["x"]},
        "training": {"rounds": 3},
        "selection": {"upload_rate": Decimal(rate), **levers},
        "compression": compression or {"bits": 8},
        "limits": {"update_bytes": LIMIT},
    }
    return Rules.parse(document, "test")


def random_gradient(seed: int, magnitude: float = 0.0) -> list[Matrix]:
    """Channels of very different norms, some of them silent. `[channels, width]` a layer."""
    random = np.random.default_rng(seed)
    found = []
    for layer in LAYOUT.layers:
        scales = np.ldexp(1.0, random.integers(-12, 1, (layer.channels, 1))) * (
            random.random((layer.channels, 1)) > 0.1
        )
        matrix = random.normal(size=(layer.channels, layer.width)) * scales * 2.0**magnitude
        found.append(np.clip(matrix, -500, 500).astype(np.float32) + np.float32(0))
    return found


def make(gradient: list[Matrix], chosen: Rules, number: int = ROUND, common: tuple[int, ...] | None = None) -> Update:
    return making.make_update(gradient, LAYOUT, chosen, PARTICIPANT, number, BASE, common)


def encode(sent: Update, chosen: Rules | None = None) -> bytes:
    return update.encode(sent, (chosen or rules()).compression, LAYOUT)


def decode(blob: bytes, chosen: Rules | None = None) -> Update:
    return update.decode(blob, LAYOUT, chosen or rules(), "test")


def describe(sent: Update, blob: bytes) -> Metadata:
    """Metadata that fits, put together from the parts rather than by the program."""
    return Metadata(
        base_model=sent.base_model,
        update_digest=Digest.of(blob),
        update_bytes=len(blob),
        data_root=Digest.of(b"data"),
        secret_commitment=Digest.of(b"secret"),
        records=100,
        channel_root=sent.table(LAYOUT).root,
        channels=LAYOUT.channels,
        sent=len(sent.sent),
        threshold=sent.table(LAYOUT).squared_norms.smallest,
        salt=bytes(32),
    )


def verify(blob: bytes, metadata: Metadata, rate: str = "0.5") -> None:
    verify_update(blob, metadata, PARTICIPANT, ROUND, LAYOUT, rules(rate))


def refused(blob: bytes, metadata: Metadata, rate: str = "0.5") -> Code:
    with pytest.raises(VerificationError) as caught:
        verify(blob, metadata, rate)
    return caught.value.code


# ------------------------------------------------------------- what is sent, what stays


WAYS = [
    rules("0.5"),
    rules("0.1"),
    rules("1", {"bits": 2, "block": 1000, "entry_rate": Decimal("0.1")}),
    rules("0.3", {"bits": 3}, budget="bytes", norm="per-entry"),
    rules("0.4", {"bits": 4, "block": 7}, scope="layer", warm_up=[1, Decimal("0.5")]),
    rules("0.5", {"bits": 2}, selection="common"),
]
WAY = st.sampled_from(WAYS)


@given(st.integers(0, 2**32), WAY, st.floats(-40, 8), st.sampled_from([1, 2, ROUND]))
def test_round_trip_and_verification(seed: int, chosen: Rules, magnitude: float, number: int) -> None:
    gradient = random_gradient(seed, magnitude)
    sent = make(gradient, chosen, number)
    blob = encode(sent, chosen)
    again = decode(blob, chosen)
    assert encode(again, chosen) == blob
    assert (again.participant, again.round, again.base_model) == (PARTICIPANT, number, BASE)
    assert again.sent.tolist() == sent.sent.tolist()
    for left, right in zip(sent.dense(LAYOUT), again.dense(LAYOUT), strict=True):
        assert left.tobytes() == right.tobytes()
    metadata = describe(sent, blob)
    verified = verify_update(blob, metadata, PARTICIPANT, number, LAYOUT, chosen)
    assert (verified.participant, verified.records) == (PARTICIPANT, 100)
    described = making.describe(sent, blob, LAYOUT, metadata.data_root, metadata.secret_commitment, 100, metadata.salt)
    assert described == metadata


@settings(max_examples=40)
@given(st.integers(0, 2**32), WAY)
def test_over_a_sequence_of_rounds_nothing_is_ever_lost(seed: int, chosen: Rules) -> None:
    """`sent + residual == gradient matrix`, with the residual of one round in the gradient of the next: bit for bit
    where a value has the bits to be near what it stands for, else to the last bit of float32.
    """
    rest: list[Matrix] | None = None
    for number in range(1, 7):
        gradient = random_gradient(seed + number)
        if rest is not None:
            gradient = [matrix + carried for matrix, carried in zip(gradient, rest, strict=True)]
        sent = make(gradient, chosen, number)
        rest = [matrix.copy() for matrix in gradient]
        making.take_sent(rest, sent)
        for matrix, part, carried in zip(gradient, sent.dense(LAYOUT), rest, strict=True):
            assert carried.dtype == np.float32
            assert carried.tobytes() == (matrix - part).tobytes()
            if chosen.compression.bits == 8:
                assert (part + carried).tobytes() == matrix.tobytes()
            np.testing.assert_allclose(part.astype(float) + carried, matrix, rtol=1e-6, atol=1e-6)


@given(st.integers(0, 2**32), st.sampled_from(["1", "0.5", "0.1"]))
def test_exactly_the_selected_rows_are_sent(seed: int, rate: str) -> None:
    gradient = random_gradient(seed)
    sent, everything = make(gradient, rules(rate)), make(gradient, rules("1"))
    norms = [0] * LAYOUT.channels
    table = everything.table(LAYOUT)
    for channel, squared in zip(table.sent, table.squared_norms, strict=True):
        norms[channel] = squared
    chosen = selection.select(Norms.of(norms), LAYOUT, rules(rate).selection, ROUND).tolist()
    assert sent.sent.tolist() == chosen
    for layer, part, whole in zip(LAYOUT.layers, sent.dense(LAYOUT), everything.dense(LAYOUT), strict=True):
        for row in range(layer.channels):
            if layer.first_channel + row in chosen:
                assert part[row].any() and part[row].tobytes() == whole[row].tobytes()
            else:
                assert not part[row].any()


def test_an_update_that_sends_nothing() -> None:
    silent = [np.zeros_like(matrix) for matrix in random_gradient(1)]
    sent = make(silent, rules())
    blob = encode(sent)
    assert (len(sent.sent), sent.table(LAYOUT).squared_norms.smallest) == (0, 0)
    verify(blob, describe(sent, blob))
    assert all(not matrix.any() for matrix in decode(blob).dense(LAYOUT))


# ------------------------------------------------- packed


def unpack(data: bytes, chosen: Rules, number: int = ROUND) -> bytes:
    return packing.bytes_of(packing.unpack(data, LAYOUT, chosen, PARTICIPANT, number, BASE))


MANY = st.sampled_from([1, 8, coder.MANY])  # from how many symbols on Zstandard does it


@given(st.integers(0, 2**32), WAY, st.floats(-40, 8), MANY)
def test_what_was_packed_unpacks_to_the_same_bytes(seed: int, chosen: Rules, magnitude: float, many: int) -> None:
    blob = encode(make(random_gradient(seed, magnitude), chosen), chosen)
    with patch.object(coder, "MANY", many):
        packed = packing.pack(blob, LAYOUT, chosen)
        assert packed[:1] in packing.CODED and (many < coder.MANY or len(packed) < len(blob))
        assert unpack(packed, chosen) == blob
        with pytest.raises(VerificationError):
            unpack(packed + b"\0", chosen)
        assert unpack(packed, chosen, ROUND + 1) != blob  # the round is no part of it: the digest tells


@given(st.binary(max_size=400), WAY)
def test_what_is_no_update_is_kept_as_it_is(data: bytes, chosen: Rules) -> None:
    assert packing.pack(data, LAYOUT, chosen) == data
    if data[:1] not in packing.CODED:
        assert unpack(data, chosen) == data


def unpacks_or_u1(data: bytes, chosen: Rules) -> None:
    try:
        found = unpack(data, chosen)
    except VerificationError as error:
        assert error.code == Code.U1
    else:
        assert data[:1] not in packing.CODED or len(found) <= 2048 + 2 * 4 * LAYOUT.entries


@settings(max_examples=300)
@given(st.binary(max_size=300), WAY, MANY)
def test_the_decoder_is_bounded_whatever_it_reads(data: bytes, chosen: Rules, many: int) -> None:
    with patch.object(coder, "MANY", many):
        for mark in (b"", *packing.CODED):
            unpacks_or_u1(mark + data, chosen)
            unpacks_or_u1(mark + data[: len(data) // 4 * 4], chosen)


@given(st.integers(0, 2**32), WAY, MANY, st.data())
def test_damage_to_packed_bytes_gives_u1_or_other_bytes(
    seed: int, chosen: Rules, many: int, data: st.DataObject
) -> None:
    blob = encode(make(random_gradient(seed), chosen), chosen)
    with patch.object(coder, "MANY", many):
        packed = bytearray(packing.pack(blob, LAYOUT, chosen))
        at = data.draw(st.integers(0, len(packed) - 1))
        packed[at] ^= data.draw(st.integers(1, 255))
        unpacks_or_u1(bytes(packed), chosen)
        unpacks_or_u1(bytes(packed[:-4]), chosen)


def content(read: Callable[[], update.Update]) -> list[object]:
    """All that an update says, in types that compare; or why it is none."""
    try:
        found = read()
    except VerificationError as error:
        return [error.code, str(error)]
    arrays: list[Any] = [found.sent, found.norms]
    for part in found.layers:
        values = part.values
        sparse = [values.counts, values.columns] if isinstance(values, Sparse) else []
        arrays += [part.channels, values.elements, values.exponents, *sparse]
        arrays += [np.array([values.block, values.width])]
    plain = [None if each is None else (each.dtype, each.shape, each.tobytes()) for each in arrays]
    return [found.participant, found.round, found.base_model, *plain]


@settings(max_examples=300)
@given(st.integers(0, 2**32), WAY, st.floats(-40, 8), MANY, st.data())
def test_what_is_unpacked_is_what_its_bytes_say(
    seed: int, chosen: Rules, magnitude: float, many: int, data: st.DataObject
) -> None:
    """Verification goes by the update that was unpacked, the digest is of its bytes: neither may say more. Whatever was
    done to the packed bytes, short of what nobody can unpack.
    """
    blob = encode(make(random_gradient(seed, magnitude), chosen), chosen)
    with patch.object(coder, "MANY", many):
        packed = bytearray(packing.pack(blob, LAYOUT, chosen))
        for _ in range(data.draw(st.integers(0, 3))):
            packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
        try:
            received = packing.unpack(bytes(packed), LAYOUT, chosen, PARTICIPANT, ROUND, BASE)
        except VerificationError:
            return
    blob = packing.bytes_of(received)
    for limit in (len(blob), len(blob) - 1):
        limits = chosen.limits.model_copy(update={"update_bytes": limit})
        limited = chosen.model_copy(update={"limits": limits})
        said = content(lambda limited=limited: packing.update_of(received, LAYOUT, limited, "it"))  # type: ignore[misc]
        assert said == content(lambda limited=limited: update.decode(blob, LAYOUT, limited, "it"))  # type: ignore[misc]


@pytest.mark.parametrize("rate", ["1", "0.5"])
def test_a_small_sparse_update_is_hardly_longer_than_its_places_and_signs(rate: str) -> None:
    """It tells places and a sign each; all else (counts, magnitudes, scales, the end) is overhead."""
    layout = Layout.of({"a": np.zeros((64, 65)), "b": np.zeros((32, 73)), "c": np.zeros((10, 65))})
    chosen = rules(rate, {"bits": 2, "block": 1 << 20, "entry_rate": Decimal("0.018")})
    lengths, least = [], []
    for seed in range(8):
        random = np.random.default_rng(seed)
        gradient = [random.standard_normal((each.channels, each.width)).astype(np.float32) for each in layout.layers]
        sent = making.make_update(gradient, layout, chosen, PARTICIPANT, ROUND, BASE)
        blob = update.encode(sent, chosen.compression, layout)
        lengths.append(8 * len(packed := packing.pack(blob, layout, chosen)))
        assert packing.bytes_of(packing.unpack(packed, layout, chosen, PARTICIPANT, ROUND, BASE)) == blob
        parts = list(zip(layout.layers, sent.layers, strict=True))
        counts = [part.values.entries for _, part in parts]
        all_rows = sum(log2(comb(each.channels * each.width, part.values.entries)) for each, part in parts)
        own_rows = sum(log2(comb(len(part.channels) * each.width, part.values.entries)) for each, part in parts)
        named = log2(comb(layout.channels, len(sent.sent))) + own_rows
        least.append(sum(counts) + min(all_rows, named))
    assert sum(lengths) / sum(least) < 1.1


@pytest.mark.parametrize(("share", "bits"), [(1.0, 8), (0.02, 2), (0.02, 8)])
def test_large_updates_come_close_to_the_entropy_of_their_entries(share: float, bits: int) -> None:
    random = np.random.default_rng(1)
    every = rules("1", {"bits": bits, "block": 1 << 20, "entry_rate": Decimal(str(share))})
    chosen = every.compression
    top = 2 ** (bits - 1) - 1
    values = random.integers(1, top + 1, 1 << 20) * random.choice([-1, 1], 1 << 20) * (random.random(1 << 20) < share)
    elements: Elements = values.astype(np.int8)
    dense = Quantised(elements.reshape(16, -1), np.zeros((16, 1), np.int8), 1 << 20)
    writer = coder.Writer()
    layer, given = Layout.of({"a": dense.elements}).layers[0], Sparse.of(dense) if chosen.sparse else dense
    packed._code_layer(writer, layer, 16, every, packed._flat(33), given, 1 << 20)
    data = writer.data()
    found = packed._code_layer(coder.Reader(data), layer, 16, every, packed._flat(33), None, 1 << 20)
    assert (found.values() == dense.values()).all()
    shares = np.unique(elements, return_counts=True)[1] / elements.size
    assert 8 * len(data) / elements.size < 1.03 * -(shares * np.log2(shares)).sum()


@pytest.mark.parametrize("told", [False, True])
def test_a_few_bytes_become_no_more_entries_than_an_update_may_have(told: bool) -> None:
    """All of a million entries filled, where 1.8% may be: a run of one symbol, which is hardly any bytes."""
    layout = Layout.of({"a": np.zeros((1000, 1000), np.uint8)})
    chosen = rules("1", {"bits": 2}).model_copy(update={"limits": LimitRules()})
    rows = np.arange(1000)
    full = Quantised(np.full((1000, 1000), 64, np.int8), np.full((1000, 1), -20, np.int8), 1 << 20)
    sent = Update(PARTICIPANT, ROUND, BASE, rows, (update.LayerUpdate(rows, Sparse.of(full)),))
    writer = coder.Writer()
    writer.raw(1, 1, np.array([int(told)]))
    packed.code(writer, layout, chosen, sent, told)
    data = writer.data()
    assert len(data) < 100
    watched = patch.object(coder.Reader, "modelled", autospec=True, side_effect=coder.Reader.modelled)
    with watched as read, pytest.raises(VerificationError, match="of which 18000 may have some") as caught:
        packing.unpack(data, layout, chosen, PARTICIPANT, ROUND, BASE)
    assert caught.value.code == Code.U1
    assert max(call.args[1] for call in read.call_args_list) <= 1000, "no entry was read"


@given(chosen=WAY, seed=st.integers(0, 1000))
def test_what_is_packed_is_never_longer_than_its_canonical_bytes(chosen: Rules, seed: int) -> None:
    """So nobody reads more than was committed."""
    blob = encode(make(random_gradient(seed), chosen), chosen)
    assert len(packing.pack(blob, LAYOUT, chosen)) <= len(blob)


def test_nothing_follows_a_section() -> None:
    data = coder.zstandard.ZstdCompressor().compress(bytes(coder.MANY))
    framed = coder.WITH_SECTIONS + bytes(4) + (len(data) + 1).to_bytes(4, "little") + data + b"x"
    with pytest.raises(coder.zstandard.ZstdError):
        coder.Reader(framed).modelled(coder.MANY, np.full(2, 0.5), None)


# ------------------------------------------------- every other bit, and every other length

SENT = make(random_gradient(1), rules())
BLOB = encode(SENT)
METADATA = describe(SENT, BLOB)
HEADER = 8 + int.from_bytes(BLOB[:8], "little")


def decodes_canonically_or_u2(data: bytes) -> None:
    try:
        found = decode(data)
    except VerificationError as error:
        assert error.code == Code.U2
    else:
        assert encode(found) == data


def test_every_flipped_byte_is_refused() -> None:
    for position in range(len(BLOB)):
        mask = 1 << position % 8
        flipped = BLOB[:position] + bytes([BLOB[position] ^ mask]) + BLOB[position + 1 :]
        assert refused(flipped, METADATA) == Code.U1
        decodes_canonically_or_u2(flipped)
        # ... and with a digest made to fit, some later check refuses it, or it says something else on the ledger.
        fitted = dataclasses.replace(METADATA, update_digest=Digest.of(flipped))
        assert refused(flipped, fitted) in (Code.U2, Code.U3, Code.U4, Code.U5)


def test_every_truncation_and_extension_is_refused() -> None:
    for size in range(len(BLOB)):
        assert refused(BLOB[:size], METADATA) == Code.U1
        assert refused(BLOB[:size], dataclasses.replace(METADATA, update_digest=Digest.of(BLOB[:size]))) == Code.U2
        fitted = dataclasses.replace(METADATA, update_digest=Digest.of(BLOB[:size]), update_bytes=size)
        assert refused(BLOB[:size], fitted) == Code.U2
    for extra in (b"\0", b" ", bytes(8), BLOB):
        fitted = dataclasses.replace(
            METADATA, update_digest=Digest.of(BLOB + extra), update_bytes=len(BLOB) + len(extra)
        )
        assert refused(BLOB + extra, fitted) == Code.U2


EDITS = st.lists(
    st.tuples(
        st.integers(0, 2000),
        st.integers(0, 12),
        st.binary(max_size=12) | st.text('0123456789[]{}",:.eE-\\ n', max_size=4).map(str.encode),
    ),
    min_size=1,
    max_size=4,
)


def edited(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """Cut and pasted: at each place some bytes out, others in."""
    for start, cut, paste in edits:
        at = start % (len(data) + 1)
        data = data[:at] + paste + data[at + cut :]
    return data


@settings(max_examples=200)
@given(EDITS)
def test_only_u2_ever_escapes_decode(edits: list[tuple[int, int, bytes]]) -> None:
    decodes_canonically_or_u2(edited(BLOB, edits))


@settings(max_examples=300)
@given(EDITS)
def test_only_u2_ever_escapes_decode_of_an_edited_header(edits: list[tuple[int, int, bytes]]) -> None:
    """Its length is made to fit, so that the JSON readers come to see it."""
    text = edited(BLOB[8:HEADER], edits)
    decodes_canonically_or_u2(len(text).to_bytes(8, "little") + text + BLOB[HEADER:])


@given(st.binary(max_size=400))
def test_only_u2_ever_escapes_decode_of_random_bytes(data: bytes) -> None:
    decodes_canonically_or_u2(data)
    decodes_canonically_or_u2(len(data).to_bytes(8, "little") + data)


# ------------------------------------------------------------------ handmade, U2

ABOUT = {"format": "roundledger-update/2", "participant": PARTICIPANT, "round": ROUND, "base_model": str(BASE)}
DTYPES = {"uint8": "U8", "int8": "I8", "int16": "I16", "float32": "F32", "bool": "BOOL"}


def tensors() -> dict[str, np.ndarray[Any, Any]]:
    return {name: tensor.copy() for name, tensor in tensorfile.decode(BLOB, "test", LIMIT)[0].items()}


def header() -> dict[str, Any]:
    return dict(json.loads(BLOB[8:HEADER]))


def with_header(text: str | dict[str, Any], body: bytes = BLOB[HEADER:]) -> bytes:
    raw = (text if isinstance(text, str) else json.dumps(text, separators=(",", ":"))).encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw + body


def with_tensors(**changed: np.ndarray[Any, Any]) -> bytes:
    return tensorfile.encode(tensors() | changed, ABOUT)


def with_about(**changed: Any) -> bytes:
    return tensorfile.encode(tensors(), ABOUT | changed)


def without(name: str) -> bytes:
    found = tensors()
    del found[name]
    return tensorfile.encode(found, ABOUT)


def with_metadata_text(text: str) -> bytes:
    return with_header(header() | {"__metadata__": {"roundledger": text}})


def reordered() -> bytes:
    names = [name for name in header() if name != "__metadata__"]
    return with_header({"__metadata__": header()["__metadata__"]} | {name: header()[name] for name in reversed(names)})


def metadata_last() -> bytes:
    whole = header()
    about = whole.pop("__metadata__")
    return with_header(whole | {"__metadata__": about})


def overlapping() -> bytes:
    """Two tensors over the same bytes: `exponents` reads what `sent` reads."""
    whole = header()
    start = whole["sent"]["data_offsets"][0]
    size = whole["exponents"]["shape"][0]
    whole["exponents"]["data_offsets"] = [start, start + size]
    return with_header(whole)


def swapped() -> bytes:
    """Data in another order than the canonical one: offsets that fit, tensors that are right."""
    whole, body, data, position = header(), BLOB[HEADER:], b"", 0
    for name in sorted((name for name in whole if name != "__metadata__"), reverse=True):
        start, stop = whole[name]["data_offsets"]
        data += body[start:stop]
        whole[name]["data_offsets"] = [position, position + stop - start]
        position += stop - start
    return with_header(whole, data)


def duplicated_tensor() -> bytes:
    text = BLOB[8:HEADER].decode().rstrip()
    sent = json.dumps(header()["sent"], separators=(",", ":"))
    return with_header(text[:-1] + f',"sent":{sent}}}')


def shifted_exponents(by: int) -> bytes:
    exponents = tensors()["exponents"]
    return with_tensors(exponents=(exponents.astype(np.int16) + by).clip(0, 255).astype(np.uint8))


def loose_scale() -> bytes:
    """The first block at twice the scale and half the elements."""
    parts = tensors()
    layer = next(layer for layer, part in zip(LAYOUT.layers, SENT.layers, strict=True) if len(part.channels))
    block = parts["elements"][: min(32, layer.width)]
    block[:] = (block / 2).astype(np.int8)
    parts["exponents"][0] += 1
    return with_tensors(**parts)


def behind_the_mask() -> bytes:
    sent = tensors()["sent"]
    assert LAYOUT.channels % 8 != 0
    sent[-1] |= 1
    return with_tensors(sent=sent)


CANONICAL_ABOUT = rfc8785.dumps(ABOUT).decode()
HANDMADE: dict[str, Callable[[], bytes]] = {
    "extra tensor": lambda: with_tensors(extra=np.zeros(1, np.uint8)),
    "tensor missing": lambda: without("exponents"),
    "tensor renamed": lambda: with_header(BLOB[8:HEADER].decode().rstrip().replace('"sent"', '"Sent"')),
    "overlapping offsets": overlapping,
    "other order of the data": swapped,
    "reordered header": reordered,
    "metadata last": metadata_last,
    "whitespace in the header": lambda: with_header(json.dumps(header())),
    "more padding": lambda: with_header(BLOB[8:HEADER].decode() + " " * 8),
    "duplicated tensor": duplicated_tensor,
    "duplicated key": lambda: with_metadata_text(CANONICAL_ABOUT[:-1] + f',"round":{ROUND}}}'),
    "NaN in the metadata": lambda: with_metadata_text(CANONICAL_ABOUT.replace(f'"round":{ROUND}', '"round":NaN')),
    "infinity in the metadata": lambda: with_metadata_text(
        CANONICAL_ABOUT.replace(f'"round":{ROUND}', '"round":1e999')
    ),
    "NaN in the header": lambda: with_header(BLOB[8:HEADER].decode().rstrip()[:-1] + ',"x":NaN}'),
    "deep nesting in the metadata": lambda: with_metadata_text('{"a":' * 20_000 + "1" + "}" * 20_000),
    "deep nesting in the header": lambda: with_header("[" * 100_000 + "]" * 100_000),
    "nesting that JSON readers bear": lambda: with_metadata_text('{"a":' * 150 + "1" + "}" * 150),
    "huge number": lambda: with_metadata_text('{"round":' + "9" * 10_000 + "}"),
    "lone surrogate": lambda: with_metadata_text(CANONICAL_ABOUT.replace(PARTICIPANT, "\\ud800")),
    "metadata that is no object": lambda: with_metadata_text("[]"),
    "metadata that is no JSON": lambda: with_metadata_text("{"),
    "no metadata": lambda: with_header({name: value for name, value in header().items() if name != "__metadata__"}),
    "second metadata key": lambda: with_header(
        header() | {"__metadata__": header()["__metadata__"] | {"other": "text"}}
    ),
    "header longer than the file": lambda: len(BLOB).to_bytes(8, "little") + BLOB[8:],
    "header of 2^64 - 1 bytes": lambda: b"\xff" * 8 + BLOB[8:],
    "header above its limit": lambda: with_header(" " * (tensorfile.MAX_HEADER + 8)),
    "no header": lambda: bytes(8),
    "wrong dtype of elements": lambda: with_tensors(elements=tensors()["elements"].view(np.uint8)),
    "wrong dtype of the mask": lambda: with_tensors(sent=tensors()["sent"].view(np.int8)),
    "dtype that numpy has not": lambda: with_header(BLOB[8:HEADER].decode().rstrip().replace('"I8"', '"F8_E4M3"')),
    "unknown dtype": lambda: with_header(BLOB[8:HEADER].decode().rstrip().replace('"I8"', '"XX"')),
    "elements of two axes": lambda: with_tensors(elements=tensors()["elements"].reshape(1, -1)),
    "norms that nobody asked for": lambda: with_tensors(norms=np.zeros(LAYOUT.channels, np.uint8)),
    "mask of another model": lambda: with_tensors(sent=np.append(tensors()["sent"], np.uint8(0))),
    "mask bits beyond the channels": behind_the_mask,
    "one channel more in the mask": lambda: with_tensors(sent=tensors()["sent"] | np.array([255, 0], np.uint8)),
    "elements missing": lambda: with_tensors(elements=tensors()["elements"][:-1]),
    "exponents missing": lambda: with_tensors(exponents=tensors()["exponents"][:-1]),
    "exponents too large": lambda: shifted_exponents(100),
    "exponents too small": lambda: shifted_exponents(-60),
    "scale that is not tight": loose_scale,
    "element -128": lambda: with_tensors(elements=np.full_like(tensors()["elements"], -128)),
    "unknown format": lambda: with_about(format="roundledger-update/1"),
    "unknown key": lambda: with_about(comment="hello"),
    "participant is no text": lambda: with_about(participant=5),
    "round is no number": lambda: with_about(round="7"),
    "round is a truth value": lambda: with_about(round=True),
    "base model is no digest": lambda: with_about(base_model="sha256:00"),
    "base model is no text": lambda: with_about(base_model=None),
}


@pytest.mark.parametrize("name", HANDMADE)
def test_handmade_blobs_are_refused_for_u2(name: str) -> None:
    blob = HANDMADE[name]()
    assert blob != BLOB
    with pytest.raises(VerificationError) as caught:
        decode(blob, rules().model_copy(update={"limits": LimitRules()}))
    assert caught.value.code == Code.U2


def test_the_tools_of_these_tests_write_what_the_program_writes() -> None:
    """Otherwise the handmade blobs could be refused for something else than what they are made for."""
    assert with_header(header()) == BLOB
    assert with_tensors() == BLOB and with_about() == BLOB
    assert with_metadata_text(CANONICAL_ABOUT) == BLOB


# ---------------------------------------------------- decodes, but is not what it should be


def changed(**fields: Any) -> tuple[bytes, Metadata]:
    """Another update with metadata that fit it, but for what is compared in the test."""
    other = dataclasses.replace(SENT, **fields)
    blob = encode(other)
    return blob, dataclasses.replace(describe(other, blob), base_model=BASE)


@pytest.mark.parametrize(
    "fields",
    [{"round": ROUND + 1}, {"participant": "0x" + "0B" * 20}, {"base_model": Digest.of(b"another base")}],
    ids=["round", "participant", "base"],
)
def test_an_update_for_another_place_is_u2(fields: dict[str, Any]) -> None:
    assert refused(*changed(**fields)) == Code.U2


def test_wrong_digest_is_u1_and_wrong_size_u2() -> None:
    verify(BLOB, METADATA)
    assert refused(BLOB, dataclasses.replace(METADATA, update_digest=Digest.of(b"another"))) == Code.U1
    assert refused(BLOB, dataclasses.replace(METADATA, update_bytes=len(BLOB) + 1)) == Code.U2


def test_a_wrong_number_of_channels_is_u3() -> None:
    assert refused(BLOB, dataclasses.replace(METADATA, channels=LAYOUT.channels + 1)) == Code.U3
    assert refused(BLOB, dataclasses.replace(METADATA, sent=METADATA.sent + 1)) == Code.U3


def test_another_channel_table_than_that_of_the_values_is_u4() -> None:
    assert refused(BLOB, dataclasses.replace(METADATA, channel_root=Digest.of(b"another"))) == Code.U4
    table = SENT.table(LAYOUT)
    for at in range(len(table.sent)):
        for forged in (table.squared_norms[at] - 1, table.squared_norms[at] + 1):
            norms = list(table.squared_norms)
            norms[at] = forged
            root = dataclasses.replace(table, squared_norms=Norms.of(norms)).root
            assert refused(BLOB, dataclasses.replace(METADATA, channel_root=root)) == Code.U4


def test_more_channels_than_the_rate_allows_is_u5() -> None:
    assert refused(BLOB, METADATA, rate="0.1") == Code.U5
    verify(BLOB, METADATA, rate="1")  # fewer: the others may have been silent


def test_an_empty_channel_is_u5() -> None:
    index = next(index for index, part in enumerate(SENT.layers) if len(part.channels))
    part = SENT.layers[index]
    elements, exponents = part.values.elements.copy(), part.values.exponents.copy()
    elements[0], exponents[0] = 0, EXPONENT_MIN
    silenced = dataclasses.replace(part, values=Quantised(elements, exponents, part.values.block))
    assert refused(*changed(layers=(*SENT.layers[:index], silenced, *SENT.layers[index + 1 :]))) == Code.U5


def test_a_wrong_threshold_is_u5() -> None:
    for threshold in (0, METADATA.threshold - 1, METADATA.threshold + 1):
        assert refused(BLOB, dataclasses.replace(METADATA, threshold=threshold)) == Code.U5


# ------------------------------------------------- sparse updates: only what differs from zero

FEW = rules("1", {"bits": 4, "block": 8, "entry_rate": Decimal("0.2")})
LISTED = make(random_gradient(5), FEW)


def listed(**changed: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> bytes:
    """The blob of LISTED with some of its tensors changed."""
    found = tensorfile.decode(encode(LISTED, FEW), "test", LIMIT)[0]
    return tensorfile.encode(found | {name: change(found[name].copy()) for name, change in changed.items()}, ABOUT)


def put(at: int, value: int) -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    def change(tensor: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        tensor[at] = value
        return tensor

    return change


def swapped_pair(tensor: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    tensor[[-2, -1]] = tensor[[-1, -2]]
    return tensor


SIGNS = rules("1")
SIGNS = SIGNS.model_copy(update={"compression": CompressionRules(entry_rate=Decimal("0.3"))})
SIGNED = make(random_gradient(5), SIGNS)


def test_with_two_bits_a_layer_has_one_magnitude() -> None:
    blob = encode(SIGNED, SIGNS)
    assert decode(blob, SIGNS).sent.tolist() == SIGNED.sent.tolist()
    at = next(index for index, part in enumerate(SIGNED.layers) if part.values.entries > 2)
    for value in (-128, -63, 5, 127):
        found = tensorfile.decode(blob, "test", LIMIT)[0]
        start = sum(part.values.entries for part in SIGNED.layers[:at])
        if abs(int(found["elements"][start + 1])) == abs(value):
            continue
        forged = tensorfile.encode(found | {"elements": put(start + 1, value)(found["elements"].copy())}, ABOUT)
        with pytest.raises(VerificationError) as caught:
            decode(forged, SIGNS)
        assert caught.value.code == Code.U2


@pytest.mark.parametrize("block", [1000, 8])
def test_with_two_bits_a_layer_has_one_scale(block: int) -> None:
    """For every block that has entries: the same element with another exponent is another magnitude."""
    chosen = rules("1", {"bits": 2, "block": block, "entry_rate": Decimal("0.3")})
    sent = make([np.random.default_rng(5).normal(size=m.shape).astype(np.float32) for m in random_gradient(5)], chosen)
    at = max(range(len(sent.layers)), key=lambda index: sent.layers[index].values.filled.sum())
    values = sent.layers[at].values
    assert values.filled.sum() > 2
    for place in np.argwhere(values.filled):
        for by in (-1, 1):
            exponents = values.exponents.copy()
            exponents[tuple(place)] += by
            part = dataclasses.replace(sent.layers[at], values=dataclasses.replace(values, exponents=exponents))
            other = dataclasses.replace(sent, layers=(*sent.layers[:at], part, *sent.layers[at + 1 :]))
            assert refused_by(other, chosen, chosen) == Code.U2


LISTED_WRONG: dict[str, Callable[[], bytes]] = {
    "a column beyond the row": lambda: listed(columns=put(-1, 40)),
    "columns that descend": lambda: listed(columns=swapped_pair),
    "a column twice": lambda: listed(columns=lambda c: put(-1, int(c[-2]))(c)),
    "a zero among the elements": lambda: listed(elements=put(0, 0)),
    "an element too large": lambda: listed(elements=put(0, 8)),
    "element -128": lambda: listed(elements=put(0, -128)),
    "scales that are not the smallest": lambda: listed(elements=np.sign),
    "a column missing": lambda: listed(columns=lambda c: c[:-1]),
    "an element missing": lambda: listed(elements=lambda e: e[:-1]),
    "a count missing": lambda: listed(counts=lambda c: c[:-1]),
    "a count too large": lambda: listed(counts=put(0, 2**32 - 1)),
    "counts that do not add up": lambda: listed(counts=lambda c: c + np.uint32(1)),
    "columns of another type": lambda: listed(columns=lambda c: c.astype(np.uint64)),
    "every entry, as if it were dense": lambda: encode(make(random_gradient(5), rules("1"))),
}


@pytest.mark.parametrize("name", LISTED_WRONG)
def test_handmade_sparse_blobs_are_refused_for_u2(name: str) -> None:
    assert listed() == encode(LISTED, FEW)
    assert sum(part.values.entries for part in LISTED.layers) > 20
    with pytest.raises(VerificationError) as caught:
        decode(LISTED_WRONG[name](), FEW)
    assert caught.value.code == Code.U2


@given(st.integers(0, 2**32), st.sampled_from([2, 3, 8]), st.sampled_from([1, 7, 1000]))
def test_sparse_rows_are_the_dense_ones(seed: int, bits: int, block: int) -> None:
    """Norms, scales, residual and values, entry by entry, and some of the rows."""
    for matrix in random_gradient(seed):
        chosen = rules("1", {"bits": bits, "block": block, "entry_rate": Decimal("0.3")}).compression
        cut = magnitude_cut([matrix], matrix.size // 3)
        dense = quantise(matrix, chosen, cut)
        sparse = Sparse.of(dense)
        if bits == 2:
            signs = Sparse.signs_of(largest_entries([matrix], matrix.size // 3)[1][0], chosen, cut)
            assert all(
                np.array_equal(getattr(signs, each.name), getattr(sparse, each.name))
                for each in dataclasses.fields(Sparse)
            )
        assert sparse.entries == dense.entries and list(sparse.squared_norms()) == list(dense.squared_norms())
        assert (sparse.largest() == dense.largest()).all() and sparse.is_canonical(chosen)
        assert (sparse.values() == dense.values()).all()
        for rows in (slice(1, max(1, len(matrix) - 1)), np.arange(0, len(matrix), 2)):
            assert (sparse.rows(rows).values() == dense.rows(rows).values()).all()
        left, right, channels = matrix.copy(), matrix.copy(), np.arange(len(matrix))
        sparse.take_from(left, channels)
        dense.take_from(right, channels)
        assert left.tobytes() == right.tobytes()


def refused_by(sent: Update, sender: Rules, receiver: Rules, common: tuple[int, ...] | None = None) -> Code:
    blob = encode(sent, sender)
    with pytest.raises(VerificationError) as caught:
        verify_update(blob, describe(sent, blob), PARTICIPANT, ROUND, LAYOUT, receiver, common)
    return caught.value.code


def test_more_entries_than_the_entry_rate_allows_is_u2() -> None:
    generous, strict = ({"bits": 2, "block": 1000, "entry_rate": Decimal(rate)} for rate in ("0.2", "0.1"))
    sent = make(random_gradient(3), rules("1", generous))
    assert refused_by(sent, rules("1", generous), rules("1", strict)) == Code.U2


def test_one_entry_more_than_the_entry_rate_allows_is_u2() -> None:
    gradient = [np.random.default_rng(3).normal(size=m.shape).astype(np.float32) for m in random_gradient(3)]
    for allowed in (1, 7, 30):
        fits, more = (
            rules("1", {"bits": 8, "entry_rate": Decimal(entries) / LAYOUT.entries})
            for entries in (allowed, allowed + 1)
        )
        sent = make(gradient, more)
        assert sum(part.values.entries for part in sent.layers) == allowed + 1
        blob = encode(sent, more)
        verify_update(blob, describe(sent, blob), PARTICIPANT, ROUND, LAYOUT, more)
        assert refused_by(sent, more, fits) == Code.U2


def test_more_bits_or_other_blocks_than_the_rules_say_are_u2() -> None:
    sent = make(random_gradient(3), rules("1"))
    assert refused_by(sent, rules("1"), rules("1", {"bits": 4})) == Code.U2
    assert refused_by(sent, rules("1"), rules("1", {"block": 4})) == Code.U2


@pytest.mark.parametrize("levers", [{"budget": "bytes"}, {"scope": "layer"}])
def test_every_budget_is_enforced(levers: dict[str, Any]) -> None:
    sent = make(random_gradient(3), rules("1"))
    assert refused_by(sent, rules("1"), rules("0.3", **levers)) == Code.U5


def test_the_warm_up_ends() -> None:
    generous = rules("0.1", warm_up=[1] * ROUND)
    sent = make(random_gradient(3), generous)
    blob = encode(sent)
    verify_update(blob, describe(sent, blob), PARTICIPANT, ROUND, LAYOUT, generous)
    assert refused_by(sent, generous, rules("0.1", warm_up=[1] * (ROUND - 1))) == Code.U5


def test_a_common_selection_is_met_exactly() -> None:
    chosen, common = rules("0.5", selection="common"), (0, 3, 5)
    sent = make(random_gradient(3), chosen, common=common)
    assert tuple(sent.sent.tolist()) == common
    blob = encode(sent, chosen)
    verified = verify_update(blob, describe(sent, blob), PARTICIPANT, ROUND, LAYOUT, chosen, common)
    assert verified.norms is not None and len(verified.norms) == LAYOUT.channels
    for other in ((0, 3), (0, 3, 5, 6), (0, 3, 6), None):
        assert refused_by(sent, chosen, chosen, other) == Code.U5


def test_a_forged_norm_code_of_a_sent_channel_is_u4() -> None:
    chosen, common = rules("0.5", selection="common"), (0, 3, 5)
    sent = make(random_gradient(3), chosen, common=common)
    assert sent.norms is not None
    for channel, squared in zip(sent.sent, sent.table(LAYOUT).squared_norms, strict=True):
        assert sent.norms[channel] == norm_code(squared)
        for other in (norm_code(squared) + 1, max(norm_code(squared), 1) - 1, 255):
            norms = sent.norms.copy()
            norms[channel] = other
            if other != norm_code(squared):
                assert refused_by(dataclasses.replace(sent, norms=norms), chosen, chosen, common) == Code.U4


def test_too_large_is_u2_before_and_after_reading() -> None:
    verify_limits(dataclasses.replace(METADATA, update_bytes=LIMIT), PARTICIPANT, ROUND, rules())
    with pytest.raises(VerificationError) as caught:
        verify_limits(dataclasses.replace(METADATA, update_bytes=LIMIT + 1), PARTICIPANT, ROUND, rules())
    assert caught.value.code == Code.U2
    big = BLOB + bytes(LIMIT)
    fitted = dataclasses.replace(METADATA, update_digest=Digest.of(big), update_bytes=len(big))
    assert refused(big, fitted) == Code.U2
    for limit, ok in ((len(BLOB) - 1, False), (len(BLOB), True)):
        limited = rules().model_copy(update={"limits": LimitRules(update_bytes=limit)})
        if ok:
            decode(BLOB, limited)
        else:
            with pytest.raises(VerificationError, match="at most"):
                decode(BLOB, limited)


def test_exponents_are_e8m0_and_elements_sixty_fourths() -> None:
    """The OCP Microscaling reading of the blob gives the same values."""
    parts, dense = tensors(), SENT.dense(LAYOUT)
    entry = scale = 0
    for layer, matrix in zip(LAYOUT.layers, dense, strict=True):
        for row in range(layer.channels):
            if layer.first_channel + row not in SENT.sent:
                continue
            for start in range(0, layer.width, 32):
                for column in range(start, min(start + 32, layer.width)):
                    value = int(parts["elements"][entry]) / 64 * 2.0 ** (int(parts["exponents"][scale]) - 127)
                    assert value == matrix[row, column]
                    entry += 1
                scale += 1
    assert (entry, scale) == (len(parts["elements"]), len(parts["exponents"]))
    assert parts["exponents"].min() >= EXPONENT_MIN + 133


def test_more_records_than_the_rules_allow_is_u2_before_reading() -> None:
    allowed = rules().limits.records
    verify_limits(dataclasses.replace(METADATA, records=allowed), PARTICIPANT, ROUND, rules())
    with pytest.raises(VerificationError) as caught:
        verify_limits(dataclasses.replace(METADATA, records=allowed + 1), PARTICIPANT, ROUND, rules())
    assert caught.value.code == Code.U2
