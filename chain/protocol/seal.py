"""The metadata of an update and the seal that hides it until the reveal (EIP-712 typed data).

The seal binds chain id, contract, participant and round through its domain and its fields: whoever copies one cannot
open it.
"""

from dataclasses import dataclass

from eth_utils.crypto import keccak

from chain.protocol.abi import U32, U64, U128, Hash, Sha256, eip712_type, encode, word

DOMAIN_NAME = "roundledger"
DOMAIN_VERSION = "1"


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
DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"


def domain_separator(chain_id: int, contract: str) -> bytes:
    return keccak(
        keccak(text=DOMAIN_TYPE)
        + keccak(text=DOMAIN_NAME)
        + keccak(text=DOMAIN_VERSION)
        + word(chain_id)
        + word(contract)
    )


def seal(domain: bytes, round_number: int, participant: str, metadata: Metadata) -> bytes:
    """The 32 bytes that `commit` stores: keccak(0x1901 || domain separator || struct hash), EIP-712."""
    inner = keccak(keccak(text=METADATA_TYPE) + encode(metadata))
    struct = keccak(keccak(text=SEAL_TYPE) + word(participant) + word(round_number) + inner)
    return keccak(b"\x19\x01" + domain + struct)
