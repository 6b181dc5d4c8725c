"""The events of the ledger, as `IRoundLedger.sol` declares them, and the running head over them.

A log is read by slicing its fixed layout: forty times faster than a general ABI decoder, which stays the oracle in
the tests.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any

from chain.protocol import abi
from chain.protocol.abi import U8, U16, U32, U64, U256, Address, Addresses, Hash, Hash28, Sha256, Tail
from chain.protocol.digest import Digest
from chain.protocol.errors import Code, VerificationError
from chain.protocol.keccak import keccak
from chain.protocol.seal import Metadata

VERSION = 3
HEAD_BYTES = 28  # keccak, cut to 224 bits: a second history with the same head takes 2^112 steps
EMPTY_HEAD = bytes(HEAD_BYTES)
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
class Rotated:
    """`participant` acts to the end of the round before `from_round`, `replacement` from then on."""

    participant: Address
    replacement: Address
    number: U32
    from_round: U32
    time: U64


@dataclass(frozen=True, slots=True)
class PauserChanged:
    pauser: Address
    time: U64


@dataclass(frozen=True, slots=True)
class Paused:
    pauser: Address
    time: U64


@dataclass(frozen=True, slots=True)
class Unpaused:
    account: Address
    time: U64


@dataclass(frozen=True, slots=True)
class Succeeded:
    successor: Address
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
    seal: Hash28
    time: U64


@dataclass(frozen=True, slots=True)
class Sealing:
    participant: Address
    seal: Hash28


@dataclass(frozen=True, slots=True)
class CommitsRelayed:
    """Stands for as many `Committed`."""

    round: U32
    time: U64
    commits: Annotated[tuple[Sealing, ...], Sealing]


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
class Opening:
    participant: Address
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class RevealsRelayed:
    """Stands for as many `Revealed`."""

    round: U32
    time: U64
    reveals: Annotated[tuple[Opening, ...], Opening]


@dataclass(frozen=True, slots=True)
class RevealsClosed:
    round: U32
    reveals: U32
    deadline: U64
    time: U64


@dataclass(frozen=True, slots=True)
class Proposed:
    """Spells out an outcome before its first vote. `verdicts[n - 1]` is the verdict on participant number n; see
    `chain.protocol.verdicts`.
    """

    round: U32
    outcome: Hash
    model: Sha256
    time: U64
    verdicts: Tail


@dataclass(frozen=True, slots=True)
class Attested:
    round: U32
    participant: Address
    outcome: Hash
    time: U64


@dataclass(frozen=True, slots=True)
class AttestationsRelayed:
    """Stands for as many `Attested`."""

    round: U32
    outcome: Hash
    time: U64
    participants: Addresses


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
    | Rotated
    | PauserChanged
    | Paused
    | Unpaused
    | Succeeded
    | Opened
    | Committed
    | CommitsRelayed
    | CommitsClosed
    | Revealed
    | RevealsRelayed
    | RevealsClosed
    | Proposed
    | Attested
    | AttestationsRelayed
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
    Rotated: 2,
    PauserChanged: 1,
    Paused: 1,
    Unpaused: 1,
    Succeeded: 1,
    Opened: 1,
    Committed: 2,
    CommitsRelayed: 1,
    CommitsClosed: 1,
    Revealed: 2,
    RevealsRelayed: 1,
    RevealsClosed: 1,
    Proposed: 1,
    Attested: 2,
    AttestationsRelayed: 2,
    Finalized: 1,
    Aborted: 1,
}
_BY_SELECTOR = {abi.selector(cls): (cls, indexed, abi.tail_offset(cls, indexed)) for cls, indexed in INDEXED.items()}


def extend_head(head: bytes, log: Log) -> bytes:
    """The head after `log`: the first 28 bytes of keccak256(head || 0x00000000 || topics || data)."""
    return keccak(abi.word(head) + b"".join(log.topics) + log.data)[:HEAD_BYTES]


def outcome(round_number: int, model: Digest, verdicts: bytes) -> bytes:
    """The 32 bytes that stand for a vote: keccak256(abi.encode(round, model, verdicts))."""
    padding = bytes(-len(verdicts) % abi.WORD)
    words: list[int | bytes] = [round_number, model, 3 * abi.WORD, len(verdicts)]
    return keccak(b"".join(abi.word(value) for value in words) + verdicts + padding)


def decode(log: Log) -> Event:
    """The event in `log`. Raises VerificationError (L2) for an unknown event or a malformed log."""
    where = f"event in block {log.block}"
    cls, indexed, offset = _BY_SELECTOR.get(log.topics[0] if log.topics else b"", (None, 0, None))
    if cls is None:
        topic = "0x" + log.topics[0].hex() if log.topics else "no topic"
        raise VerificationError(Code.L2, where, f"an event of ledger format {VERSION}", topic)
    data = log.data
    try:
        if len(log.topics) != indexed + 1:
            raise abi.AbiError(f"{indexed + 1} topics needed, found {len(log.topics)}")
        if offset is not None:
            at = offset - abi.WORD
            if data[at:offset] != abi.word(offset):
                raise abi.AbiError("the offset of the last value is not canonical")
            data = data[:at] + data[offset:]
        event: Event = abi.decode(cls, b"".join(log.topics[1:]) + data)
    except abi.AbiError as error:
        raise VerificationError(Code.L2, where, f"a well-formed {cls.__name__}", error) from None
    return event
