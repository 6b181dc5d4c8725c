"""The content digest and its text."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.protocol.digest import Digest


@given(st.binary(max_size=200))
def test_it_is_sha256_and_reads_back(data: bytes) -> None:
    digest = Digest.of(data)
    assert digest == hashlib.sha256(data).digest() == Digest.of(memoryview(data))
    assert str(digest) == "sha256:" + hashlib.sha256(data).hexdigest()
    assert Digest.parse(str(digest)) == digest
    assert str(digest).removeprefix("sha256:").startswith(digest.short)


def test_the_published_value() -> None:
    """FIPS 180-4, "abc"."""
    assert Digest.of(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "ab" * 32,
        "sha256:" + "ab" * 31,
        "sha256:" + "ab" * 33,
        "sha256:" + "AB" * 32,
        "SHA256:" + "ab" * 32,
        "sha512:" + "ab" * 32,
        "sha256:0x" + "ab" * 31,
        "sha256:" + "ag" * 32,
        "sha256:" + "ab " * 21 + "a",
        "sha256:" + "ab" * 31 + " a",
        "sha256:" + "\u0660" * 64,
        " sha256:" + "ab" * 32,
        "sha256:" + "ab" * 32 + "\n",
        "sha256:sha256:" + "ab" * 32,
    ],
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected sha256|hexadecimal|32 bytes"):
        Digest.parse(text)


@pytest.mark.parametrize("size", [0, 20, 31, 33, 64])
def test_it_has_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Digest(bytes(size))
