"""Writes seal.json: seals by eth_account's EIP-712, an implementation that is not ours.

Run `python tests/vectors/make_seal.py`; the file is read by the Python tests and by contracts/test/Vectors.t.sol.
Whole numbers that a double cannot hold are decimal strings.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak

METADATA = [
    ("baseModel", "bytes32"),
    ("updateDigest", "bytes32"),
    ("updateBytes", "uint64"),
    ("dataRoot", "bytes32"),
    ("secretCommitment", "bytes32"),
    ("records", "uint64"),
    ("channelRoot", "bytes32"),
    ("channels", "uint32"),
    ("sent", "uint32"),
    ("threshold", "uint128"),
    ("salt", "bytes32"),
]
TYPES = {
    "EIP712Domain": [
        {"name": "name", "type": "string"},
        {"name": "version", "type": "string"},
        {"name": "chainId", "type": "uint256"},
        {"name": "verifyingContract", "type": "address"},
    ],
    "Metadata": [{"name": name, "type": kind} for name, kind in METADATA],
    "Seal": [
        {"name": "participant", "type": "address"},
        {"name": "round", "type": "uint32"},
        {"name": "metadata", "type": "Metadata"},
    ],
}
STRINGS = {"updateBytes", "records", "threshold"}


def example(label: str) -> dict[str, Any]:
    """Metadata as of an ordinary update; the digests come from the label."""
    digests = {
        name: hashlib.sha256(f"{label} {name}".encode()).digest() for name, kind in METADATA if kind == "bytes32"
    }
    numbers = {"updateBytes": 1_048_576, "records": 60_000, "channels": 1290, "sent": 129, "threshold": 1 << 59}
    return {name: (digests | numbers)[name] for name, _ in METADATA}


def extreme(largest: bool) -> dict[str, Any]:
    """Every field at its smallest, or its largest value."""
    values: dict[str, Any] = {}
    for name, kind in METADATA:
        bits = int(kind.removeprefix("uint")) if kind.startswith("uint") else 0
        values[name] = ((1 << bits) - 1 if largest else 0) if bits else bytes([255 * largest]) * 32
    return values


def case(
    name: str, chain_id: int, contract: str, participant: str, number: int, metadata: dict[str, Any]
) -> dict[str, Any]:
    domain = {"name": "roundledger", "version": "1", "chainId": chain_id, "verifyingContract": contract}

    def signable(primary: str, types: dict[str, Any], message: dict[str, Any]) -> Any:
        return encode_typed_data(
            full_message={"domain": domain, "primaryType": primary, "types": types, "message": message}
        )

    inner = {name: TYPES[name] for name in ("EIP712Domain", "Metadata")}
    sealed = signable("Seal", TYPES, {"participant": participant, "round": number, "metadata": metadata})

    def text(key: str, value: Any) -> Any:
        return "0x" + value.hex() if isinstance(value, bytes) else str(value) if key in STRINGS else value

    return {
        "name": name,
        "chainId": str(chain_id),
        "contract": contract,
        "participant": participant,
        "round": number,
        "metadata": {key: text(key, value) for key, value in metadata.items()},
        "metadataHash": "0x" + signable("Metadata", inner, metadata).body.hex(),
        "domainSeparator": "0x" + sealed.header.hex(),
        "seal": "0x" + keccak(b"\x19" + sealed.version + sealed.header + sealed.body)[:28].hex(),
    }


def cases() -> list[dict[str, Any]]:
    one, two = "0x" + "11" * 20, "0x" + "a2" * 20
    alice, bob = "0x" + "0a" * 20, "0x" + "0b" * 20
    return [
        case("an ordinary update on a devnet", 31337, one, alice, 1, example("first")),
        case("the same update by another participant", 31337, one, bob, 1, example("first")),
        case("the same update in another round", 31337, one, alice, 2, example("first")),
        case("the same update on another chain", 1, one, alice, 1, example("first")),
        case("the same update on another contract", 31337, two, alice, 1, example("first")),
        case("every field zero", 1, "0x" + "00" * 20, "0x" + "00" * 20, 0, extreme(False)),
        case(
            "every field at its largest",
            (1 << 64) - 1,
            "0x" + "ff" * 20,
            "0x" + "ff" * 20,
            (1 << 32) - 1,
            extreme(True),
        ),
    ]


if __name__ == "__main__":
    path = Path(__file__).with_name("seal.json")
    path.write_text(json.dumps({"formatVersion": 1, "cases": cases()}, indent=1) + "\n", "utf-8")
    print(f"wrote {path}")
