"""Small inputs that ask for much: deep nesting, huge numbers, sizes and shapes that lie, and very dense compression."""

import gzip
import io
import json
import zipfile
from functools import cache
from math import prod

import numpy as np
import zstandard

from fl_node.coder import FEW, WITH_SECTIONS

LARGE = 1 << 29  # bytes that a bomb unpacks to, or says that it holds
DEPTHS = (300, 50_000)


def nested(prefix: bytes = b"") -> list[bytes]:
    """JSON that is deep, behind what is there already."""
    found = []
    for depth in DEPTHS:
        found += [prefix + b"[" * depth + b"]" * depth, prefix + b'{"a":' * depth + b"1" + b"}" * depth]
        found += [prefix + b"[" * depth]
    return found


def json_texts() -> list[bytes]:
    return [*nested(), *nested(b'{"format":'), b"9" * 100_000, b'{"version":3,"address":' + b"9" * 100_000 + b"}"]


def toml_texts() -> list[bytes]:
    return [
        *(b"a = " + b"[" * depth + b"]" * depth for depth in DEPTHS),
        *(b"a = " + b"{a = " * depth + b"1" + b"}" * depth for depth in DEPTHS),
        *(b".".join([b"a"] * depth) + b" = 1" for depth in DEPTHS),
        *(b"[" + b".".join([b"a"] * depth) + b"]" for depth in DEPTHS),
        *(b"a = " + number for number in (b"9" * 5000, b"1e999999999", b"1e99999999999999999999", b"nan", b"-inf")),
        b'[model]\nfactory = "mlp"\noptions = { hidden = 1e999999999 }',
        b"a = 1\n" * 100_000,
    ]


def safetensors(header: dict[str, object]) -> bytes:
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head


def canonical(*shape: int) -> bytes:
    """One tensor of this shape, in the canonical spelling: it gets as far as NumPy."""
    size = prod(shape)
    said = {"__metadata__": {"roundledger": "{}"}, "a": {"dtype": "U8", "shape": shape, "data_offsets": [0, size]}}
    head = json.dumps(said, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head + bytes(size)


def tensor_files() -> list[bytes]:
    return [
        (2**63).to_bytes(8, "little"),
        (1 << 20).to_bytes(8, "little") + bytes(1 << 19),
        safetensors({"a": {"dtype": "F32", "shape": [2**47, 2**47], "data_offsets": [0, 4]}}),
        safetensors({"__metadata__": {"roundledger": "[" * 1000}, "a": {"dtype": "U8", "shape": [0] * 1000}}),
        *(canonical(*[1] * axes) for axes in (16, 17, 64, 65, 1000)),
        *(canonical(0, *sides) for sides in ([2**48 - 1] * 2, [2**48] * 15, [2**63], [2**64], [2**200])),
        canonical(0, *[3] * 300_000),
        safetensors({f"t{at}": {"dtype": "U8", "shape": [0]} for at in range(9000)}),
        *(len(deep).to_bytes(8, "little") + deep for deep in nested()),
    ]


def _frame(size: int) -> bytes:
    compressor = zstandard.ZstdCompressor(level=19).compressobj(size=size)
    return b"".join(compressor.compress(bytes(1 << 20)) for _ in range(size >> 20)) + compressor.flush()


@cache
def packed() -> list[bytes]:
    """Sections of a packed update: one that unpacks to LARGE, and lengths that lie."""
    none, frame = bytes(4), _frame(LARGE)
    section = none + len(frame).to_bytes(4, "little") + frame
    lies = [(2**32 - 1).to_bytes(4, "little"), (2**31).to_bytes(4, "little")]
    return [
        *(WITH_SECTIONS + words + section for words in (none, b"\4\0\0\0\xff\xff\xff\xff")),
        *(WITH_SECTIONS + lie + b"\xff" * 100 for lie in lies),
        *(FEW + b"\xff" * size for size in (4, 400, 40_000)),
        *(FEW + bytes(size) for size in (4, 400, 40_000)),
    ]


def archives() -> list[bytes]:
    """NPZ: an array that unpacks to LARGE, and one whose header promises 2^60 entries."""
    dense, promise = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(dense, "w", zipfile.ZIP_DEFLATED) as file, file.open("x.npy", "w") as entry:
        np.lib.format.write_array_header_1_0(entry, _header((LARGE // 8,)))  # type: ignore[arg-type]
        for _ in range(LARGE >> 20):
            entry.write(bytes(1 << 20))
    with zipfile.ZipFile(promise, "w", zipfile.ZIP_DEFLATED) as file, file.open("x.npy", "w") as entry:
        np.lib.format.write_array_header_1_0(entry, _header((2**60,)))  # type: ignore[arg-type]
    return [dense.getvalue(), promise.getvalue()]


def _header(shape: tuple[int, ...]) -> dict[str, object]:
    return {"descr": "<f8", "fortran_order": False, "shape": shape}


def images() -> list[bytes]:
    """IDX: sides that promise 2^96 bytes; gzip that unpacks to LARGE is for the reader of `.gz`."""
    return [bytes((0, 0, 8, 3)) + b"\xff" * 12, bytes((0, 0, 8, 3)) + b"\xff" * 11]


def gzipped() -> list[bytes]:
    packed_file = io.BytesIO()
    with gzip.GzipFile(fileobj=packed_file, mode="w") as file:
        for _ in range(LARGE >> 20):
            file.write(bytes(1 << 20))
    return [packed_file.getvalue()]


def keystore(**parameters: int) -> bytes:
    """A key file that asks for this much work."""
    kdf = "scrypt" if "n" in parameters else "pbkdf2"
    crypto = {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "00" * 16},
        "ciphertext": "00" * 32,
        "kdf": kdf,
        "kdfparams": {"dklen": 32, "salt": "00" * 32, "prf": "hmac-sha256"} | parameters,
        "mac": "00" * 32,
    }
    return json.dumps({"version": 3, "address": "11" * 20, "crypto": crypto}).encode()


def key_files() -> list[bytes]:
    return [
        *(
            keystore(n=n, r=r, p=p)
            for n, r, p in (
                (2**40, 8, 1),
                (2**20, 2**20, 1),
                (2, 1, 2**40),
                (2, 1, 2**21),
                (2, 2**21, 1),
                (2, 0, 1),
                (0, 8, 1),
            )
        ),
        *(keystore(c=c) for c in (2**40, 2**63, 2**70, 0, -1)),
        *(keystore(c=1, dklen=dklen) for dklen in (2**40, 2**70, 0, -1)),
    ]
