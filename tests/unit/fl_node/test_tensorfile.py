"""Named tensors as canonical safetensors."""

from math import prod
from typing import Any

import numpy as np
import pytest
import rfc8785
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chain.protocol.errors import Code, VerificationError
from fl_node import tensorfile
from tests.reliability.bombs import canonical

DTYPES = [
    np.dtype(name)
    for name in (
        "float16",
        "float32",
        "float64",
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    )
]
tensors = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
    st.sampled_from(DTYPES).flatmap(
        lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, min_side=0, max_side=4))
    ),
    max_size=4,
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
metadatas = st.dictionaries(texts, texts | st.integers(-(2**53) + 1, 2**53 - 1) | st.booleans() | st.none(), max_size=4)


@given(tensors, metadatas)
def test_round_trip(given_: dict[str, np.ndarray[Any, Any]], metadata: dict[str, Any]) -> None:
    data = tensorfile.encode(given_, metadata)
    found, about = tensorfile.decode(data, "test", len(data))
    assert about == metadata and found.keys() == given_.keys()
    for name, tensor in given_.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape
        assert found[name].tobytes() == tensor.tobytes()
    assert tensorfile.encode(found, about) == data


@given(tensors, metadatas)
def test_the_bytes_are_those_of_the_safetensors_library(
    given_: dict[str, np.ndarray[Any, Any]], metadata: dict[str, Any]
) -> None:
    text = rfc8785.dumps(metadata).decode()
    assert tensorfile.encode(given_, metadata) == safetensors.numpy.save(given_, {"roundledger": text})


@given(tensors, metadatas, st.randoms(use_true_random=False))
def test_the_order_of_the_dictionaries_does_not_count(
    given_: dict[str, np.ndarray[Any, Any]], metadata: dict[str, Any], random: Any
) -> None:
    names, keys = list(given_), list(metadata)
    random.shuffle(names)
    random.shuffle(keys)
    again = tensorfile.encode({name: given_[name] for name in names}, {key: metadata[key] for key in keys})
    assert again == tensorfile.encode(given_, metadata)


def test_the_layout_in_memory_does_not_count() -> None:
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    plain = tensorfile.encode({"w": matrix}, {})
    for other in (np.asfortranarray(matrix), matrix.astype(">f4"), np.repeat(matrix, 2, axis=1)[:, ::2]):
        assert tensorfile.encode({"w": other}, {}) == plain


def test_other_programs_can_read_it() -> None:
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    found = safetensors.numpy.load(tensorfile.encode({"w": matrix, "s": np.float32(2).reshape(())}, {"a": 1}))
    assert (found["w"] == matrix).all() and found["s"].shape == ()


def test_size_is_checked_before_the_content() -> None:
    data = tensorfile.encode({"w": np.zeros(8, np.float32)}, {})
    assert tensorfile.decode(data, "test", len(data))
    with pytest.raises(VerificationError, match=f"at most {len(data) - 1} bytes") as caught:
        tensorfile.decode(data, "test", len(data) - 1)
    assert (caught.value.code, caught.value.subject) == (Code.U2, "test")


@given(st.binary(max_size=64))
def test_other_bytes_are_u2(data: bytes) -> None:
    with pytest.raises(VerificationError) as caught:
        tensorfile.decode(data, "test", 1000)
    assert caught.value.code == Code.U2


def test_a_file_by_the_library_alone_is_u2() -> None:
    for metadata in (None, {"format": "pt"}, {"roundledger": "{}", "more": ""}, {"roundledger": "{ }"}):
        data = safetensors.numpy.save({"w": np.zeros(2, np.float32)}, metadata)
        with pytest.raises(VerificationError) as caught:
            tensorfile.decode(data, "test", 1000)
        assert caught.value.code == Code.U2


@given(st.lists(st.sampled_from([0, 1, 2, 3, 2**31, 2**48 - 1, 2**48, 2**63, 2**64]), max_size=70))
def test_whatever_shape_is_written_it_is_read_or_u2(shape: list[int]) -> None:
    """Above all those that NumPy does not take: more than 64 axes, or a size beyond its integers beside a side of 0."""
    if prod(shape) > 1 << 16:
        shape = [0, *shape]
    data = canonical(*shape)
    if len(shape) <= 16 and prod(side or 1 for side in shape) <= 2**48:
        assert tensorfile.decode(data, "test", 1 << 20)[0]["a"].shape == tuple(shape)
    else:
        with pytest.raises(VerificationError) as caught:
            tensorfile.decode(data, "test", 1 << 20)
        assert caught.value.code == Code.U2
