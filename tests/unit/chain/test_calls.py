"""Calls of the contract, judged by web3's own encoding of the same ABI."""

from typing import Any

import pytest
from eth_utils.address import to_checksum_address
from web3 import Web3

from chain import artifacts
from chain.calls import call, creation, functions

LEDGER = to_checksum_address("0x" + "5a" * 20)
CONTRACT = Web3().eth.contract(address=LEDGER, abi=artifacts.load().abi, bytecode=artifacts.load().bytecode)
NOTHING = {"chainId": 0, "nonce": 0, "gas": 0, "maxFeePerGas": 0, "maxPriorityFeePerGas": 0}
NAMES = sorted(functions())


def value(kind: dict[str, Any], seed: int) -> Any:
    """Some value of an ABI type."""
    name, size = kind["type"], 7 * seed + 3
    if name.endswith("[]"):
        return [value(kind | {"type": name[:-2]}, seed + at) for at in range(seed % 3 + 1)]
    if name == "tuple":
        return tuple(value(part, seed + at) for at, part in enumerate(kind["components"]))
    if name == "address":
        return to_checksum_address("0x" + bytes([size % 256] * 20).hex())
    if name.startswith("bytes"):
        return bytes([size % 256] * int(name[5:] or size % 40))
    return bool(seed % 2) if name == "bool" else (2 ** int(name.removeprefix("uint")) - 1) // (seed + 1)


def inputs(kind: str, name: str = "") -> list[dict[str, Any]]:
    return next(e["inputs"] for e in artifacts.load().abi if e["type"] == kind and e.get("name", "") == name)


@pytest.mark.parametrize("name", NAMES)
def test_call_is_encoded_as_web3_does(name: str) -> None:
    for seed in range(5):
        values = [value(kind, seed + at) for at, kind in enumerate(inputs("function", name))]
        built = CONTRACT.get_function_by_name(name)(*values).build_transaction({**NOTHING, "value": 0})
        mine = call(LEDGER.lower(), name, *values)
        assert (mine.to, "0x" + mine.data.hex()) == (built["to"], built["data"])


def test_creation_is_encoded_as_web3_does() -> None:
    values = [value(kind, at) for at, kind in enumerate(inputs("constructor"))]
    assert creation(*values).data.hex() == CONTRACT.constructor(*values).data_in_transaction[2:]
    assert creation(*values).to is None


def test_nothing_is_overloaded() -> None:
    assert len(NAMES) == sum(entry["type"] == "function" for entry in artifacts.load().abi)


def test_another_function_is_no_call() -> None:
    with pytest.raises(KeyError):
        call(LEDGER, "mint")
