"""Seals: against the vectors that the contract's tests read too, and against eth_account's EIP-712."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from eth_account.messages import encode_typed_data
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from chain.protocol import abi
from chain.protocol.digest import Digest
from chain.protocol.seal import METADATA_TYPE, Metadata, domain_separator, seal

VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "seal.json").read_text())
KINDS = {abi.camel_case(name): kind for name, _, kind in abi.solidity_fields(Metadata)}
DOMAIN = {"name": "string", "version": "string", "chainId": "uint256", "verifyingContract": "address"}
SEAL = {"participant": "address", "round": "uint32", "metadata": "Metadata"}


def metadata_of(fields: dict[str, Any]) -> Metadata:
    """From the spelling of the vectors: camel case, hexadecimal bytes, decimal text for large numbers."""
    values = {}
    for name, kind in KINDS.items():
        value = fields[name]
        values[name] = bytes.fromhex(value.removeprefix("0x")) if kind == "bytes32" else int(value)
    digests = [
        Digest(value) if name != "salt" and isinstance(value, bytes) else value for name, value in values.items()
    ]
    return Metadata(*digests)  # type: ignore[arg-type]


def raw(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_vectors(case: dict[str, Any]) -> None:
    metadata = metadata_of(case["metadata"])
    domain = domain_separator(int(case["chainId"]), case["contract"])
    assert keccak(keccak(text=METADATA_TYPE) + abi.encode(metadata)) == raw(case["metadataHash"])
    assert domain == raw(case["domainSeparator"])
    assert seal(domain, int(case["round"]), case["participant"], metadata) == raw(case["seal"])


def test_the_vectors_are_of_the_version_that_is_tested() -> None:
    assert VECTORS["formatVersion"] == 1 and len(VECTORS["cases"]) >= 3


def typed(kinds: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name, kind in kinds.items()]


def judge(chain_id: int, contract: str, participant: str, number: int, metadata: Metadata) -> bytes:
    """The seal by eth_account."""
    values = dict(zip(KINDS, (getattr(metadata, f.name) for f in dataclasses.fields(metadata)), strict=True))
    message = encode_typed_data(
        full_message={
            "types": {"EIP712Domain": typed(DOMAIN), "Seal": typed(SEAL), "Metadata": typed(KINDS)},
            "primaryType": "Seal",
            "domain": {"name": "roundledger", "version": "1", "chainId": chain_id, "verifyingContract": contract},
            "message": {"participant": participant, "round": number, "metadata": values},
        }
    )
    return keccak(b"\x19" + message.version + message.header + message.body)[:28]


words = st.binary(min_size=32, max_size=32)
addresses = st.binary(min_size=20, max_size=20).map(to_checksum_address)
metadatas = st.builds(
    Metadata,
    *(
        words.map(Digest if name != "salt" else bytes)
        if kind == "bytes32"
        else st.integers(0, 2 ** int(kind.removeprefix("uint")) - 1)
        for name, kind in KINDS.items()
    ),
)


@given(st.integers(0, 2**256 - 1), addresses, addresses, st.integers(0, 2**32 - 1), metadatas)
def test_the_seal_is_that_of_eth_account(
    chain_id: int, contract: str, participant: str, number: int, metadata: Metadata
) -> None:
    found = seal(domain_separator(chain_id, contract), number, participant, metadata)
    assert found == judge(chain_id, contract, participant, number, metadata)


@given(metadatas, addresses, addresses, st.data())
def test_the_seal_binds_everything(metadata: Metadata, contract: str, who: str, data: st.DataObject) -> None:
    sealed = seal(domain_separator(1, contract), 1, who, metadata)
    other = data.draw(addresses.filter(lambda address: address not in (who, contract)))
    assert seal(domain_separator(2, contract), 1, who, metadata) != sealed
    assert seal(domain_separator(1, other), 1, who, metadata) != sealed
    assert seal(domain_separator(1, contract), 2, who, metadata) != sealed
    assert seal(domain_separator(1, contract), 1, other, metadata) != sealed
    for field in dataclasses.fields(metadata):
        value = getattr(metadata, field.name)
        if isinstance(value, bytes):
            changed: Any = type(value)(bytes([value[0] ^ 1]) + value[1:])
        else:
            changed = value ^ 1
        altered = dataclasses.replace(metadata, **{field.name: changed})
        assert seal(domain_separator(1, contract), 1, who, altered) != sealed


def test_the_case_of_an_address_does_not_count() -> None:
    lower = "0x" + "ab" * 20
    assert domain_separator(1, lower) == domain_separator(1, to_checksum_address(lower))
