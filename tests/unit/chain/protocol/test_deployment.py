"""The deployment record: reads back what it wrote, and names what is wrong."""

import json
from typing import Any

import pytest
from eth_utils.crypto import keccak

from chain.protocol.deployment import Deployment, code_hash
from chain.protocol.digest import Digest
from chain.protocol.errors import ConfigError

RECORD = Deployment(
    chain_id=31337,
    genesis_block="0x" + "ab" * 32,
    address="0x5FbDB2315678afecb367f032d93F642f64180aa3",
    block=3,
    bytecode_hash=code_hash(b"code"),
    rules_digest=str(Digest.of(b"rules")),
    genesis_model=str(Digest.of(b"genesis")),
)


def test_round_trip() -> None:
    assert Deployment.parse(RECORD.to_json(), "deployment.json") == RECORD
    assert Deployment.parse(RECORD.to_json(), "deployment.json").to_json() == RECORD.to_json()
    assert RECORD.rules == Digest.of(b"rules") and RECORD.genesis == Digest.of(b"genesis")
    assert RECORD.bytecode_hash == "0x" + keccak(b"code").hex()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "roundledger-deployment/2"),
        ("chain_id", 0),
        ("chain_id", "one"),
        ("genesis_block", "ab" * 32),
        ("genesis_block", "0x" + "AB" * 32),
        ("genesis_block", "0x" + "ab" * 31),
        ("address", RECORD.address.lower()),
        ("address", "0x00"),
        ("address", 5),
        ("block", -1),
        ("bytecode_hash", ""),
        ("rules_digest", "0x" + "ab" * 32),
        ("rules_digest", "sha256:" + "ab" * 31),
        ("genesis_model", None),
        ("comment", "an unknown key"),
    ],
)
def test_a_wrong_field_is_named(field: str, value: Any) -> None:
    changed = json.loads(RECORD.to_json()) | {field: value}
    with pytest.raises(ConfigError, match=rf"^deployment\.json: {field}: "):
        Deployment.parse(json.dumps(changed).encode(), "deployment.json")


@pytest.mark.parametrize("field", ["chain_id", "genesis_block", "address", "block", "bytecode_hash", "genesis_model"])
def test_a_missing_field_is_named(field: str) -> None:
    changed = json.loads(RECORD.to_json())
    del changed[field]
    with pytest.raises(ConfigError, match=rf"^deployment\.json: {field}: "):
        Deployment.parse(json.dumps(changed).encode(), "deployment.json")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff"])
def test_what_is_no_record(data: bytes) -> None:
    with pytest.raises(ConfigError, match=r"^deployment\.json: "):
        Deployment.parse(data, "deployment.json")
