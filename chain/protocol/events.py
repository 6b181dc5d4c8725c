"""The events of the ledger, as `IRoundLedger.sol` declares them, and the running head over them.

A log is read by slicing its fixed layout: forty times faster than a general ABI decoder, which stays the oracle in
the tests.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from eth_utils.crypto import keccak

from chain.protocol import abi
from chain.protocol.abi import U8, U16, U32, U64, U256, Address, Sha256, Tail
from chain.protocol.errors import Code, VerificationError
from chain.protocol.seal import Metadata

VERSION = 1
EMPTY_HEAD = bytes(32)
ZERO_ADDRESS = "0x" + "0" * 40


@dataclass(frozen=True, slots=True)
class Log:
    """One log as the chain gives it: 32-byte topics (the first names the event), data, and where it stands."""

    topics: tuple[bytes, ...]
    data: bytes
    block: int


class AbortReason(IntEnum):
    TOO_FEW_COMMITS = 0
    TOO_FEW_REVEALS = 1
    NO_QUORUM = 2


@dataclass(frozen=True, slots=True)
class OnChainRules:
    """The rules that the contract enforces; windows in seconds, quorum in 1/10000 of the roster."""

    rules_digest: Sha256
    genesis_model: Sha256
    commit_window: U32
    reveal_window: U32
    attest_window: U32
    min_updates: U32
    quorum_bps: U16


@dataclass(frozen=True, slots=True)
class OwnershipTransferStarted:
    previous_owner: Address
    new_owner: Address


@dataclass(frozen=True, slots=True)
class OwnershipTransferred:
    previous_owner: Address
    new_owner: Address


@dataclass(frozen=True, slots=True)
class Created:
    version: U16
    chain_id: U256
    ledger: Address
    rules: OnChainRules
    time: U64


@dataclass(frozen=True, slots=True)
class Enrolled:
    participant: Address
    number: U32
    from_round: U32
    time: U64


@dataclass(frozen=True, slots=True)
class Retired:
    participant: Address
    until_round: U32
    time: U64


@dataclass(frozen=True, slots=True)
class Opened:
    round: U32
    base_model: Sha256
    roster: U32
    deadline: U64
    time: U64


@dataclass(frozen=True, slots=True)
class Committed:
    round: U32
    participant: Address
    seal: abi.Hash
    time: U64


@dataclass(frozen=True, slots=True)
class CommitsClosed:
    round: U32
    commits: U32
    deadline: U64
    time: U64


@dataclass(frozen=True, slots=True)
class Revealed:
    round: U32
    participant: Address
    metadata: Metadata
    time: U64


@dataclass(frozen=True, slots=True)
class RevealsClosed:
    round: U32
    reveals: U32
    deadline: U64
    time: U64


@dataclass(frozen=True, slots=True)
class Attested:
    """`verdicts[n - 1]` is the verdict on participant number n; see `chain.protocol.verdicts`."""

    round: U32
    participant: Address
    model: Sha256
    time: U64
    verdicts: Tail


@dataclass(frozen=True, slots=True)
class Finalized:
    round: U32
    model: Sha256
    attestations: U32
    time: U64


@dataclass(frozen=True, slots=True)
class Aborted:
    round: U32
    reason: U8
    time: U64


Event = (
    OwnershipTransferStarted
    | OwnershipTransferred
    | Created
    | Enrolled
    | Retired
    | Opened
    | Committed
    | CommitsClosed
    | Revealed
    | RevealsClosed
    | Attested
    | Finalized
    | Aborted
)

# How many leading fields of each event are indexed, that is, topics.
INDEXED: dict[Any, int] = {
    OwnershipTransferStarted: 2,
    OwnershipTransferred: 2,
    Created: 0,
    Enrolled: 1,
    Retired: 1,
    Opened: 1,
    Committed: 2,
    CommitsClosed: 1,
    Revealed: 2,
    RevealsClosed: 1,
    Attested: 2,
    Finalized: 1,
    Aborted: 1,
}
_BY_SELECTOR = {abi.selector(cls): (cls, indexed) for cls, indexed in INDEXED.items()}
# `bytes verdicts` is announced by the offset of its length: after model, time and the offset itself.
_VERDICTS_AT = 2
_OFFSET = abi.word(3 * abi.WORD)


def extend_head(head: bytes, log: Log) -> bytes:
    """The head after `log`: keccak256(head || topics || data)."""
    return keccak(head + b"".join(log.topics) + log.data)


def decode(log: Log) -> Event:
    """The event in `log`. Raises VerificationError (L2) for an unknown event or a malformed log."""
    where = f"event in block {log.block}"
    cls, indexed = _BY_SELECTOR.get(log.topics[0] if log.topics else b"", (None, 0))
    if cls is None:
        topic = "0x" + log.topics[0].hex() if log.topics else "no topic"
        raise VerificationError(Code.L2, where, f"an event of ledger format {VERSION}", topic)
    data = log.data
    try:
        if len(log.topics) != indexed + 1:
            raise abi.AbiError(f"{indexed + 1} topics needed, found {len(log.topics)}")
        if cls is Attested:
            at = _VERDICTS_AT * abi.WORD
            if data[at : at + abi.WORD] != _OFFSET:
                raise abi.AbiError("the offset of verdicts is not canonical")
            data = data[:at] + data[at + abi.WORD :]
        event: Event = abi.decode(cls, b"".join(log.topics[1:]) + data)
    except abi.AbiError as error:
        raise VerificationError(Code.L2, where, f"a well-formed {cls.__name__}", error) from None
    return event
