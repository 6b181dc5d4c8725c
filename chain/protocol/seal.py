"""The metadata of an update, the seal that hides it until the reveal, and what a key signs (EIP-712 typed data).

The seal binds chain id, contract, participant and round through its domain and its fields: whoever copies one cannot
open it.
"""

from dataclasses import dataclass
from functools import cache

from chain.protocol.abi import U32, U64, U128, Hash, Sha256, eip712_type, encode, word
from chain.protocol.digest import Digest
from chain.protocol.keccak import keccak

DOMAIN_NAME = "roundledger"
DOMAIN_VERSION = "1"
SEAL_BYTES = 28


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a reveal publishes about an update (`IRoundLedger.Metadata`).

    `threshold` is the smallest selected norm, squared, in units of 2^-60 (the square of the ring's unit); 0 if
    nothing was sent.
    """

    base_model: Sha256
    update_digest: Sha256
    update_bytes: U64
    data_root: Sha256
    secret_commitment: Sha256
    records: U64
    channel_root: Sha256
    channels: U32
    sent: U32
    threshold: U128
    salt: Hash


METADATA_TYPE = eip712_type(Metadata)
SEAL_TYPE = "Seal(address participant,uint32 round,Metadata metadata)" + METADATA_TYPE
COMMIT_TYPE = "Commit(uint32 round,bytes28 seal,uint64 deadline)"
ATTESTATION_TYPE = "Attestation(uint32 round,bytes32 model,bytes verdicts,uint64 deadline)"
ROTATION_TYPE = "Rotation(address participant,address replacement,uint64 deadline)"
DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"


def domain_separator(chain_id: int, contract: str) -> bytes:
    return keccak(
        keccak(DOMAIN_TYPE.encode())
        + keccak(DOMAIN_NAME.encode())
        + keccak(DOMAIN_VERSION.encode())
        + word(chain_id)
        + word(contract)
    )


def seal(domain: bytes, round_number: int, participant: str, metadata: Metadata) -> bytes:
    """The 28 bytes that `commit` stores: of the EIP-712 digest, so that opening one in two ways takes 2^112 steps."""
    inner = keccak(_typehash(METADATA_TYPE) + encode(metadata))
    return _digest(domain, SEAL_TYPE, participant, round_number, inner)[:SEAL_BYTES]


# What a key signs: 32 bytes each. `deadline` is in seconds of block time, the last one at which the signature is good.


def commit_digest(domain: bytes, round_number: int, sealed: bytes, deadline: int) -> bytes:
    return _digest(domain, COMMIT_TYPE, round_number, sealed, deadline)


def attestation_digest(domain: bytes, round_number: int, model: Digest, verdicts: bytes, deadline: int) -> bytes:
    return _digest(domain, ATTESTATION_TYPE, round_number, model, keccak(verdicts), deadline)


def rotation_digest(domain: bytes, participant: str, replacement: str, deadline: int) -> bytes:
    return _digest(domain, ROTATION_TYPE, participant, replacement, deadline)


def _digest(domain: bytes, kind: str, *values: int | bytes | str) -> bytes:
    """keccak(0x1901 || domain separator || struct hash), EIP-712."""
    return keccak(b"\x19\x01" + domain + keccak(_typehash(kind) + b"".join(map(word, values))))


@cache
def _typehash(kind: str) -> bytes:
    return keccak(kind.encode())
