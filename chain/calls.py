"""Calls of the ledger's functions, encoded by the compiled contract's ABI.

By `eth_abi`, which is what web3 encodes with, in a fortieth of the time that a call costs there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from eth_abi.abi import encode
from eth_utils.abi import collapse_if_tuple, function_signature_to_4byte_selector
from eth_utils.address import to_checksum_address

from chain import artifacts


@dataclass(frozen=True, slots=True)
class Call:
    """Data for the contract at an address, or (None) for one to be created; `returns`: ABI types of its answer."""

    to: str | None
    data: bytes
    returns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Function:
    selector: bytes
    takes: tuple[str, ...]
    returns: tuple[str, ...]


def creation(*values: object) -> Call:
    """Creates the contract. `values`: its constructor's."""
    artifact = artifacts.load()
    (constructor,) = (entry for entry in artifact.abi if entry["type"] == "constructor")
    return Call(None, artifact.bytecode + encode(_types(constructor["inputs"]), values))


def call(ledger: str, name: str, *values: object) -> Call:
    """Of the function `name` of the contract at the address `ledger`. Raises KeyError if it has none of that name."""
    function = functions()[name]
    data = function.selector + encode(function.takes, values)
    return Call(to_checksum_address(ledger), data, function.returns)


@cache
def functions() -> dict[str, _Function]:
    """By name: the contract overloads none."""
    found = {}
    for entry in artifacts.load().abi:
        if entry["type"] == "function":
            takes, name = _types(entry["inputs"]), entry["name"]
            selector = function_signature_to_4byte_selector(f"{name}({','.join(takes)})")
            found[name] = _Function(selector, takes, _types(entry["outputs"]))
    return found


def _types(parameters: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(str(collapse_if_tuple(each)) for each in parameters)  # type: ignore[arg-type]
