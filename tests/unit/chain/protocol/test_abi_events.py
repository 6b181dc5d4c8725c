"""Signatures, layouts and decoding of events and errors; the compiled contract's ABI and web3 are the judges."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode as abi_encode
from eth_utils.abi import event_abi_to_log_topic, function_abi_to_4byte_selector
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st
from web3 import Web3
from web3._utils.events import get_event_data

import chain.artifacts
from chain import errors
from chain.protocol import abi
from chain.protocol import events as ev
from chain.protocol.digest import Digest
from chain.protocol.errors import Code, VerificationError
from chain.protocol.seal import METADATA_TYPE, Metadata

ABI = json.loads((Path(chain.artifacts.__file__).parent / "RoundLedger.json").read_text())["abi"]
# OpenZeppelin's, for an EIP-712 domain that changes or whose names are longer than 31 bytes; ours is neither.
NEVER_EMITTED = {"EIP712DomainChanged"}
NEVER_RAISED = {"InvalidShortString", "StringTooLong"}
EVENTS = {entry["name"]: entry for entry in ABI if entry["type"] == "event" and entry["name"] not in NEVER_EMITTED}
ERRORS = {entry["name"]: entry for entry in ABI if entry["type"] == "error" and entry["name"] not in NEVER_RAISED}
OURS = {cls.__name__: cls for cls in ev.INDEXED}
CODEC = Web3().codec


def snake_case(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


def solidity_type(entry: dict[str, Any]) -> str:
    if entry["type"].startswith("tuple"):
        array = entry["type"].removeprefix("tuple")
        return "(" + ",".join(solidity_type(part) for part in entry["components"]) + ")" + array
    return str(entry["type"])


def names(entries: list[dict[str, Any]]) -> list[str]:
    return [snake_case(entry["name"]) for entry in entries]


def fields(cls: type) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)]


# ---------------------------------------------------------------------- the ABI


def test_there_is_a_class_for_every_event_and_no_other() -> None:
    assert OURS.keys() == EVENTS.keys()


@pytest.mark.parametrize("name", EVENTS)
def test_event_has_the_signature_the_fields_and_the_topics_of_the_abi(name: str) -> None:
    entry, cls = EVENTS[name], OURS[name]
    assert abi.selector(cls) == event_abi_to_log_topic(entry)
    assert abi.tuple_type(cls) == "(" + ",".join(map(solidity_type, entry["inputs"])) + ")"
    assert fields(cls) == names(entry["inputs"])
    # Our reading joins topics and data, so the indexed fields must be the leading ones.
    assert [item["indexed"] for item in entry["inputs"]] == [
        index < ev.INDEXED[cls] for index in range(len(entry["inputs"]))
    ]
    for item in entry["inputs"]:
        if item["type"].startswith("tuple"):
            struct = {python: kind for field, kind, _ in abi.solidity_fields(cls) for python in [field]}
            assert fields(struct[snake_case(item["name"])]) == names(item["components"])


def test_metadata_has_the_eip712_type_of_the_abi() -> None:
    (metadata,) = [item for item in EVENTS["Revealed"]["inputs"] if item["name"] == "metadata"]
    parts = ",".join(f"{part['type']} {part['name']}" for part in metadata["components"])
    assert f"Metadata({parts})" == METADATA_TYPE


def test_the_reasons_of_an_abort_are_those_of_the_interface() -> None:
    assert [reason.name for reason in ev.AbortReason] == ["TOO_FEW_COMMITS", "TOO_FEW_REVEALS", "NO_QUORUM"]
    (reason,) = [item for item in EVENTS["Aborted"]["inputs"] if item["name"] == "reason"]
    assert (reason["type"], reason["internalType"]) == ("uint8", "enum IRoundLedger.AbortReason")


def test_there_is_an_exception_for_every_error_and_no_other() -> None:
    assert {cls.__name__ for cls in errors.ERRORS.values()} == ERRORS.keys()
    assert len(errors.ERRORS) == len(ERRORS)


@pytest.mark.parametrize("name", ERRORS)
def test_exception_has_the_selector_and_the_values_of_the_error(name: str) -> None:
    entry = ERRORS[name]
    cls = errors.ERRORS[bytes(function_abi_to_4byte_selector(entry))]
    assert cls.__name__ == name
    assert fields(cls) == names(entry["inputs"])


def example(kind: str, number: int) -> Any:
    if kind == "address":
        return to_checksum_address(bytes([number]) * 20)
    if kind in ("bytes28", "bytes32"):
        return bytes([number]) * int(kind.removeprefix("bytes"))
    return f"text {number}" if kind == "string" else number


@pytest.mark.parametrize("name", ERRORS)
def test_revert_data_becomes_the_exception_with_its_values(name: str) -> None:
    entry = ERRORS[name]
    kinds = [item["type"] for item in entry["inputs"]]
    values = [example(kind, number) for number, kind in enumerate(kinds, start=1)]
    selector = bytes(function_abi_to_4byte_selector(entry))
    data = selector + abi_encode(kinds, values)
    found = errors.from_revert(data)
    assert type(found).__name__ == name
    expected = [value.encode() if isinstance(value, str) and kind == "string" else value for kind, value in
                zip(kinds, values, strict=True)]  # fmt: skip
    assert [getattr(found, field) for field in fields(type(found))] == expected
    assert name in str(found)
    if kinds:
        assert isinstance(errors.from_revert(data[:-1]), errors.UnknownRevert)
    assert isinstance(errors.from_revert(data + b"\0"), errors.UnknownRevert)


def test_foreign_revert_data_is_an_unknown_revert() -> None:
    for data in (b"", b"\x08\xc3\x79\xa0" + bytes(64), b"\x01"):
        assert isinstance(errors.from_revert(data, "execution reverted"), errors.UnknownRevert)


# -------------------------------------------------------------------- decoding


def split(kind: str) -> list[str]:
    """The types of a tuple, of which one may be a tuple itself."""
    return [part.group() for part in re.finditer(r"\([^()]*\)|[^,]+", kind[1:-1])]


def values(kind: str) -> st.SearchStrategy[Any]:
    if kind.endswith("[]"):
        return st.lists(values(kind.removesuffix("[]")), max_size=4)
    if kind.startswith("("):
        return st.tuples(*map(values, split(kind)))
    if kind == "address":
        return st.binary(min_size=20, max_size=20).map(to_checksum_address)
    if kind in ("bytes28", "bytes32"):
        size = int(kind.removeprefix("bytes"))
        return st.binary(min_size=size, max_size=size)
    if kind == "bytes":
        return st.binary(max_size=70)
    return st.integers(0, 2 ** int(kind.removeprefix("uint")) - 1)


@st.composite
def logs(draw: st.DrawFn, name: str | None = None) -> tuple[str, ev.Log]:
    name = name or draw(st.sampled_from(sorted(EVENTS)))
    inputs = EVENTS[name]["inputs"]
    topics, kinds, rest = [bytes(event_abi_to_log_topic(EVENTS[name]))], [], []
    for item in inputs:
        kind = solidity_type(item)
        value = draw(values(kind))
        if item["indexed"]:
            topics.append(abi_encode([kind], [value]))
        else:
            kinds.append(kind)
            rest.append(value)
    return name, ev.Log(tuple(topics), abi_encode(kinds, rest), draw(st.integers(0, 2**40)))


def plain(value: Any) -> Any:
    """Structs as dictionaries, digests as bytes, for comparison with what web3 returns."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return bytes(value) if isinstance(value, bytes) else value


def snake_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {snake_case(key): snake_keys(item) for key, item in value.items()}
    if isinstance(value, list | tuple) or hasattr(value, "items"):
        return [snake_keys(item) for item in value]
    return bytes(value) if isinstance(value, bytes) else value


def oracle(name: str, log: ev.Log) -> dict[str, Any]:
    receipt: Any = {
        "address": "0x" + "00" * 20,
        "topics": list(log.topics),
        "data": log.data,
        "blockNumber": log.block,
        "blockHash": bytes(32),
        "transactionHash": bytes(32),
        "transactionIndex": 0,
        "logIndex": 0,
    }
    found = get_event_data(CODEC, EVENTS[name], receipt)  # type: ignore[arg-type]
    return dict(snake_keys(dict(found["args"])))


@settings(max_examples=300)
@given(logs())
def test_a_log_decodes_to_what_web3_makes_of_it(case: tuple[str, ev.Log]) -> None:
    name, log = case
    event = ev.decode(log)
    assert type(event).__name__ == name
    assert plain(event) == oracle(name, log)


@given(st.data())
def test_a_struct_encodes_as_eth_abi_does(data: st.DataObject) -> None:
    for cls in (Metadata, ev.OnChainRules, ev.Opened):
        kinds = [kind for _, _, kind in abi.solidity_fields(cls)]
        found = [data.draw(values(kind)) for kind in kinds]
        words = abi_encode(kinds, found)
        value = abi.decode(cls, words)
        assert abi.encode(value) == words
        assert list(plain(value).values()) == found


# ------------------------------------------------------------------- malformed


def refused(log: ev.Log) -> None:
    with pytest.raises(VerificationError) as caught:
        ev.decode(log)
    assert caught.value.code == Code.L2


def dirty_places(name: str) -> list[tuple[int, int]]:
    """(word, byte) of every static word, topics included, where a value narrower than the word must have zeros."""
    kinds = []
    for item in EVENTS[name]["inputs"]:
        kinds += [] if item["type"].endswith("[]") else solidity_type(item).strip("()").split(",")
    zeros = {"address": range(12), "bytes28": range(28, 32)}
    zeros |= {f"uint{8 * size}": range(32 - size) for size in range(1, 33)}
    return [(word, byte) for word, kind in enumerate(kinds) for byte in zeros.get(kind, range(0))]


@pytest.mark.parametrize("name", EVENTS)
@given(st.data())
@settings(max_examples=15)
def test_malformed_logs_are_l2(name: str, data: st.DataObject) -> None:
    _, log = data.draw(logs(name))
    topics, body = log.topics, log.data
    refused(ev.Log((), body, 1))
    refused(ev.Log((bytes(32), *topics[1:]), body, 1))
    refused(ev.Log((*topics, bytes(32)), body, 1))
    refused(ev.Log(topics[:-1], body, 1))
    refused(ev.Log(topics, body + bytes(1), 1))
    refused(ev.Log(topics, body + bytes(32), 1))
    if body:
        refused(ev.Log(topics, body[:-1], 1))
        refused(ev.Log(topics, body[:-32], 1))
        refused(ev.Log(topics, b"", 1))
    for word, byte in data.draw(st.lists(st.sampled_from(dirty_places(name)), min_size=1, max_size=5)):
        parts = [*topics[1:], body]
        at = min(word, len(topics) - 1)
        start = (word - at) * 32 + byte
        parts[at] = parts[at][:start] + b"\x01" + parts[at][start + 1 :]
        refused(ev.Log((topics[0], *parts[:-1]), parts[-1], 1))


def proposed(verdicts: bytes, offset: int = 128, length: int | None = None, padding: bytes | None = None) -> ev.Log:
    topics = (abi.selector(ev.Proposed), abi.word(1))
    padding = bytes(-len(verdicts) % 32) if padding is None else padding
    size = len(verdicts) if length is None else length
    return ev.Log(topics, bytes(64) + abi.word(5) + abi.word(offset) + abi.word(size) + verdicts + padding, 1)


def test_the_tail_of_a_proposal_has_one_spelling() -> None:
    event = ev.decode(proposed(b"\x01\x02\x00"))
    assert isinstance(event, ev.Proposed) and event.verdicts == b"\x01\x02\x00"
    refused(proposed(b"\x01", offset=96))
    refused(proposed(b"\x01", offset=160))
    refused(proposed(b"\x01", offset=2**256 - 32))
    refused(proposed(b"\x01", padding=bytes(30) + b"\x01"))
    refused(proposed(b"\x01", padding=bytes(30)))
    refused(proposed(b"\x01", padding=bytes(63)))
    refused(proposed(b"\x01", length=33))
    refused(proposed(b"\x01", length=2**255))


def relayed(items: list[bytes], offset: int = 64, length: int | None = None) -> ev.Log:
    topics = (abi.selector(ev.CommitsRelayed), abi.word(1))
    size = len(items) if length is None else length
    return ev.Log(topics, abi.word(5) + abi.word(offset) + abi.word(size) + b"".join(items), 1)


def test_the_array_of_a_batch_has_one_spelling() -> None:
    item = abi.word("0x" + "11" * 20) + abi.word(b"s" * 28)
    event = ev.decode(relayed([item, item]))
    assert event == ev.CommitsRelayed(1, 5, (ev.Sealing(to_checksum_address(b"\x11" * 20), b"s" * 28),) * 2)
    refused(relayed([item], offset=32))
    refused(relayed([item], offset=96))
    refused(relayed([item, item], length=1))
    refused(relayed([item], length=2))
    refused(relayed([item], length=2**255))
    refused(relayed([item[:-1]]))
    refused(relayed([b"\x01" + item[1:]]))
    refused(relayed([item[:-1] + b"\x01"]))


def test_an_outcome_is_the_hash_of_its_abi_encoding() -> None:
    for verdicts in (b"", b"\x01", b"\x01" * 32, b"\x02" * 33, bytes(300)):
        digest = Digest.of(verdicts)
        encoded = abi_encode(["uint32", "bytes32", "bytes"], [7, digest, verdicts])
        assert ev.outcome(7, digest, verdicts) == keccak(encoded)


def test_an_unknown_event_is_l2() -> None:
    (unused,) = [entry for entry in ABI if entry.get("name") in NEVER_EMITTED]
    refused(ev.Log((bytes(event_abi_to_log_topic(unused)),), b"", 1))
