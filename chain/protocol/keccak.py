"""keccak256, Ethereum's hash, by the C library: as the chain is replayed every event is hashed, and eth-utils takes six
times as long for it.
"""

from sha3 import keccak_256


def keccak(data: bytes) -> bytes:
    """32 bytes."""
    return bytes(keccak_256(data).digest())
