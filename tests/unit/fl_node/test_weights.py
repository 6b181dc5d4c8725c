"""The model blob."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chain.protocol.digest import Digest
from chain.protocol.errors import Code, VerificationError
from fl_node import tensorfile
from fl_node.weights import FORMAT, all_finite, decode_model, encode_model, model_digest

Tensors = dict[str, np.ndarray[Any, Any]]
LAST = 0x7F7FFFFF  # the bits of the largest float32 there is
BITS = st.integers(0, 2**32 - 1) | st.sampled_from([0, LAST, LAST + 1, LAST + 2, LAST | 1 << 31, LAST + 1 | 1 << 31])


def model() -> Tensors:
    random = np.random.default_rng(1)
    shapes: dict[str, tuple[int, ...]] = {"a.weight": (4, 3, 2, 2), "a.bias": (4,), "temperature": ()}
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def refused(data: bytes, digest: Digest | None = None, limit: int = 1 << 20) -> Code:
    with pytest.raises(VerificationError) as caught:
        decode_model(data, Digest.of(data) if digest is None else digest, limit)
    return caught.value.code


def test_round_trip_keeps_every_bit_and_every_shape() -> None:
    tensors = model()
    tensors["a.bias"][:] = [-0.0, np.finfo(np.float32).max, np.finfo(np.float32).smallest_subnormal, 1]
    data = encode_model(tensors)
    found = decode_model(data, model_digest(tensors), len(data))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].shape == tensor.shape and found[name].tobytes() == tensor.tobytes()


def test_equal_weights_have_equal_digests_and_others_do_not() -> None:
    tensors = model()
    digest = model_digest(tensors)
    assert model_digest(dict(reversed(tensors.items()))) == digest
    renamed = {name.replace("a.", "b."): tensor for name, tensor in tensors.items()}
    reshaped = tensors | {"a.weight": tensors["a.weight"].reshape(4, 12)}
    moved = tensors | {"temperature": np.nextafter(tensors["temperature"], np.float32(9))}
    assert len({digest, model_digest(renamed), model_digest(reshaped), model_digest(moved)}) == 4


def test_other_bytes_are_u1() -> None:
    data = encode_model(model())
    assert refused(data[:-1], Digest.of(data)) == Code.U1
    assert refused(data[:-1] + bytes([data[-1] ^ 1]), Digest.of(data)) == Code.U1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_u2(value: float) -> None:
    tensors = model()
    tensors["a.weight"][3, 2, 1, 1] = value
    assert refused(encode_model(tensors)) == Code.U2


@given(hnp.arrays(np.uint32, hnp.array_shapes(min_dims=0, min_side=0), elements=BITS), st.booleans())
def test_finite_is_what_numpy_says(bits: np.ndarray[Any, Any], turned: bool) -> None:
    tensor = bits.view(np.float32)
    tensor.flags.writeable = turned
    assert all_finite(tensor.T if turned else tensor) == np.isfinite(tensor).all()


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int32, np.uint8])
def test_other_types_are_u2(kind: type) -> None:
    assert refused(encode_model(model() | {"a.bias": np.zeros(4, kind)})) == Code.U2


def test_another_format_or_more_metadata_is_u2() -> None:
    for metadata in ({"format": "roundledger-model/2"}, {"format": FORMAT, "round": 1}, {}):
        assert refused(tensorfile.encode(model(), metadata)) == Code.U2


def test_too_large_is_u2() -> None:
    data = encode_model(model())
    assert refused(data, limit=len(data) - 1) == Code.U2


def test_bytes_that_are_no_tensors_are_u2() -> None:
    assert refused(b"") == refused(b"hello, world") == Code.U2


@pytest.mark.parametrize("shape", [(0,), (0, 3), (4, 0)])
def test_empty_tensors_are_u2(shape: tuple[int, ...]) -> None:
    assert refused(encode_model(model() | {"empty": np.zeros(shape, np.float32)})) == Code.U2
