"""The one content digest: SHA-256 (FIPS 180-4) of blobs, records, rules, Merkle nodes. keccak stays with Ethereum."""

import hashlib
from typing import Self

PREFIX = "sha256:"


class Digest(bytes):
    """32 bytes of SHA-256; as text it names its algorithm: `sha256:<64 hex digits>`."""

    def __new__(cls, value: bytes) -> Self:
        if len(value) != 32:
            raise ValueError(f"a SHA-256 digest has 32 bytes, not {len(value)}")
        return super().__new__(cls, value)

    @classmethod
    def of(cls, *parts: bytes | memoryview) -> Self:
        """Of these bytes, one after the other."""
        hashed = hashlib.sha256()
        for part in parts:
            hashed.update(part)
        return cls(hashed.digest())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `sha256:<hex>`. Raises ValueError for anything else, an upper-case digit included."""
        digits = text.removeprefix(PREFIX)
        if not text.startswith(PREFIX) or len(digits) != 64 or digits.lower() != digits:
            raise ValueError(f"expected {PREFIX}<64 hex digits>, found {text!r}")
        return cls(bytes.fromhex(digits))

    @property
    def short(self) -> str:
        """For tables and progress lines only."""
        return self.hex()[:12]

    def __str__(self) -> str:
        return PREFIX + self.hex()

    def __repr__(self) -> str:
        return f"Digest({self})"
