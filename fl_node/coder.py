"""Entropy coding of symbols, by kept libraries: few of them with a range coder (`constriction`) whose models are counts
of what came before, so that both sides have the same ones; many with Zstandard, which costs about one part in a hundred
more bytes and is ten times faster. Bits that no model could shorten are stored as they are.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import zstandard
from constriction import stream

FEW, WITH_SECTIONS = b"\7", b"\11"  # the first byte of what was written; 1 to 6 were those of earlier formats
MANY = 1 << 12  # symbols
LONGEST = 16  # bits that the range coder takes at a time
_LEVEL = 1
_LENGTH = np.dtype("<u4")

Symbols = np.ndarray[Any, np.dtype[np.uint8]]
Numbers = np.ndarray[Any, np.dtype[Any]]  # whole ones
Counts = np.ndarray[Any, np.dtype[np.float64]]


class Coder(Protocol):
    """Both directions of one format: the writer takes the symbols and hands them back, the reader finds them."""

    def modelled(self, count: int, prior: Counts, given: Numbers | None, *, fixed: bool = False) -> Symbols:
        """Symbols below `len(prior)`, which is at most 256; `prior` counts what is expected of them. `fixed`: whatever
        comes.
        """

    def raw(self, count: int, bits: int, given: Numbers | None) -> Numbers:
        """Numbers of so many bits each."""


class Writer:
    def __init__(self) -> None:
        self._range, self._sections = stream.queue.RangeEncoder(), list[bytes]()

    def modelled(self, count: int, prior: Counts, given: Numbers | None, *, fixed: bool = False) -> Symbols:
        symbols = _given(count, given).astype(np.uint8, copy=False)
        if count >= MANY:
            frame = zstandard.ZstdCompressor(level=_LEVEL).compress(symbols.data)
            self._sections += [np.array(len(frame), _LENGTH).tobytes(), frame]
            return symbols
        counts = prior
        for start, stop in _steps(count, fixed):
            part = symbols[start:stop].astype(np.int32)
            self._range.encode(part, _model(counts))
            counts = _updated(counts, part, last=stop == count)
        return symbols

    def raw(self, count: int, bits: int, given: Numbers | None) -> Numbers:
        symbols = _given(count, given)
        if count >= MANY:
            self._sections.append(_packed(symbols, bits))
            return symbols
        for shift, size in _pieces(bits):
            part = (symbols >> shift) & ((1 << size) - 1)
            self._range.encode(part.astype(np.int32), stream.model.Uniform(1 << size))
        return symbols

    def data(self) -> bytes:
        words = self._words()
        if not self._sections:
            return FEW + words
        return WITH_SECTIONS + np.array(len(words), _LENGTH).tobytes() + words + b"".join(self._sections)

    def _words(self) -> bytes:
        """What the range coder wrote, big endian and without the zeros at its end. Any last word will do that lies
        within the coder's last range: one that ends in as many zeros as possible.
        """
        words = self._range.get_compressed()
        _, (lower, size) = self._range.pos()
        above = (lower + size) >> 32
        if len(words) and lower <= int(words[-1]) << 32 and words[-1] < above < 1 << 32:
            zeros = next(zeros for zeros in (24, 16, 8, 0) if -(-int(words[-1]) >> zeros) << zeros < above)
            words[-1] = -(-int(words[-1]) >> zeros) << zeros
        return bytes(words.astype(">u4").tobytes().rstrip(b"\0"))


class Reader:
    """Raises ValueError, AssertionError or ZstdError for data that no writer has written."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = memoryview(data), 1
        words = self._take(self._length() if data[:1] == WITH_SECTIONS else len(data) - 1)
        if len(words) and words[-1] == 0:
            raise ValueError("zeros at the end, which nobody writes")
        whole = bytes(words) + bytes(-len(words) % 4)
        self._range = stream.queue.RangeDecoder(np.frombuffer(whole, ">u4").astype(np.uint32))

    def modelled(self, count: int, prior: Counts, given: Numbers | None, *, fixed: bool = False) -> Symbols:
        if count >= MANY:
            frame = self._take(self._length())
            if zstandard.frame_content_size(frame) != count:
                raise ValueError(f"a section of another size than {count}")
            symbols: Symbols = np.frombuffer(
                zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False), np.uint8
            )
            if symbols.max() >= len(prior):
                raise ValueError(f"a symbol above {len(prior) - 1}")
            return symbols
        counts, found = prior, np.zeros(count, np.uint8)
        for start, stop in _steps(count, fixed):
            found[start:stop] = part = self._range.decode(_model(counts), stop - start)
            counts = _updated(counts, part, last=stop == count)
        return found

    def raw(self, count: int, bits: int, given: Numbers | None) -> Numbers:
        if count >= MANY:
            return _unpacked(self._take(-(-count * bits // 8)), count, bits)
        if not bits:
            return np.zeros(count, np.int64)
        found: Any = 0
        for _, size in _pieces(bits):
            found = found << size | self._range.decode(stream.model.Uniform(1 << size), count).astype(np.int64)
        return np.asarray(found)

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError(f"{len(self._data) - self._at} bytes too many")

    def _length(self) -> int:
        return int(np.frombuffer(self._take(_LENGTH.itemsize), _LENGTH)[0])

    def _take(self, size: int) -> memoryview:
        if size > len(self._data) - self._at:
            raise ValueError("cut short")
        self._at += size
        return self._data[self._at - size : self._at]


def _given(count: int, given: Numbers | None) -> Numbers:
    assert given is not None and len(given) == count  # noqa: S101 - a writer is given what it writes
    return given


@lru_cache(maxsize=MANY)
def _steps(count: int, fixed: bool) -> Sequence[tuple[int, int]]:
    """Where the model is brought up to date: at 1, 2, 4, 8... symbols."""
    edges = [0, *(1 << power for power in range(0 if fixed else count.bit_length()) if 1 << power < count), count]
    return list(pairwise(edges)) if count else []


def _updated(counts: Counts, part: Numbers, *, last: bool) -> Counts:
    """With what was coded; after the last step nobody asks."""
    return counts if last else counts + np.bincount(part, minlength=len(counts))


def _model(counts: Counts) -> Any:
    return stream.model.Categorical(counts, perfect=False)


@lru_cache
def _pieces(bits: int) -> Sequence[tuple[int, int]]:
    """(how far up, how many bits) of the pieces that a number is cut into, the highest first."""
    return [(shift, min(LONGEST, bits - shift)) for shift in reversed(range(0, bits, LONGEST))]


def _packed(symbols: Numbers, bits: int) -> bytes:
    places = np.arange(bits - 1, -1, -1)
    split = symbols if bits == 1 else symbols[:, None] >> places & 1
    return bytes(np.packbits(split.astype(np.uint8)).tobytes())


def _unpacked(data: memoryview, count: int, bits: int) -> Numbers:
    places = np.unpackbits(np.frombuffer(data, np.uint8), count=count * bits)
    if bits == 1:
        return places
    found = np.zeros(count, np.int64)
    for at in range(bits):
        found = found << 1 | places[at::bits]
    return found
