"""The contract's custom errors as Python exceptions, one to one: same name, same values.

A revert says that the ledger refused an action: neither evidence of fraud nor an outage. Who expected it catches the
class.
"""

from dataclasses import dataclass, fields

from chain.protocol import abi
from chain.protocol.abi import U8, U32, U64, Address, Hash28, Sha256, Tail
from chain.protocol.errors import RoundledgerError
from chain.protocol.keccak import keccak


class Reverted(RoundledgerError):
    """The ledger refused a transaction or call. Subclasses carry the values that the contract gave."""

    exit_code = 2

    def __str__(self) -> str:
        values = ", ".join(f"{field.name}={_text(getattr(self, field.name))}" for field in fields(self))  # type: ignore[arg-type]
        said = self.in_words()
        return f"the ledger refused: {type(self).__name__}({values})" + (f": {said}" if said else "")

    def in_words(self) -> str:
        """What it means, where the name does not say it all."""
        return ""


class UnknownRevert(Reverted):
    """A revert without one of the contract's errors: out of gas, a foreign contract, or no reason given."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        Exception.__init__(self, reason)

    def __str__(self) -> str:
        return f"the ledger refused: {self.reason or 'no reason given'}"


@dataclass
class InvalidRules(Reverted):
    field: Tail


@dataclass
class ZeroDigest(Reverted):
    pass


@dataclass
class ZeroAddress(Reverted):
    pass


@dataclass
class NotParticipant(Reverted):
    participant: Address
    round: U32


@dataclass
class AlreadyEnrolled(Reverted):
    participant: Address


@dataclass
class NotEnrolled(Reverted):
    participant: Address


@dataclass
class KeyRotated(Reverted):
    participant: Address

    def in_words(self) -> str:
        return "its number has gone on to another address"


@dataclass
class NotPauser(Reverted):
    account: Address


@dataclass
class AlreadyPaused(Reverted):
    def in_words(self) -> str:
        return "new rounds are paused"


@dataclass
class NotPaused(Reverted):
    pass


@dataclass
class HasSuccessor(Reverted):
    successor: Address

    def in_words(self) -> str:
        return "this ledger has ended, the federation goes on at its successor"


@dataclass
class TooFewParticipants(Reverted):
    required: U32
    enrolled: U32


@dataclass
class WrongRound(Reverted):
    expected: U32
    actual: U32


@dataclass
class WrongPhase(Reverted):
    """Phases: 0 idle, 1 commit, 2 reveal, 3 attest."""

    expected: U8
    actual: U8

    def in_words(self) -> str:
        names = dict(enumerate(("between rounds", "commit", "reveal", "attest")))
        return f"the phase is {names.get(self.actual)}, not {names.get(self.expected)} (any more)"


@dataclass
class WindowClosed(Reverted):
    deadline: U64
    time: U64


@dataclass
class WindowOpen(Reverted):
    deadline: U64
    time: U64


@dataclass
class SignatureExpired(Reverted):
    deadline: U64
    time: U64


@dataclass
class InvalidSignature(Reverted):
    pass


@dataclass
class AlreadyCommitted(Reverted):
    participant: Address
    round: U32


@dataclass
class NotCommitted(Reverted):
    participant: Address
    round: U32


@dataclass
class AlreadyRevealed(Reverted):
    participant: Address
    round: U32


@dataclass
class AlreadyAttested(Reverted):
    participant: Address
    round: U32


@dataclass
class WrongBaseModel(Reverted):
    expected: Sha256
    actual: Sha256


@dataclass
class SealMismatch(Reverted):
    expected: Hash28
    actual: Hash28


@dataclass
class InvalidVerdicts(Reverted):
    pass


@dataclass
class OwnableUnauthorizedAccount(Reverted):
    account: Address

    def in_words(self) -> str:
        return "only the owner may do this"


@dataclass
class OwnableInvalidOwner(Reverted):
    owner: Address


def _selector(cls: type[Reverted]) -> bytes:
    # InvalidRules(string) is the only error with a dynamic value; a string is encoded like bytes.
    types = "(string)" if cls is InvalidRules else abi.tuple_type(cls)
    return keccak((cls.__name__ + types).encode())[:4]


ERRORS: dict[bytes, type[Reverted]] = {
    _selector(cls): cls for cls in Reverted.__subclasses__() if cls is not UnknownRevert
}


def from_revert(data: bytes, message: str = "") -> Reverted:
    """The exception for the data of a revert (4 bytes of selector, then the values)."""
    cls = ERRORS.get(data[:4])
    if cls is None:
        return UnknownRevert(message or (f"revert data 0x{data.hex()}" if data else ""))
    words = data[4 + abi.WORD :] if cls is InvalidRules else data[4:]
    try:
        found: Reverted = abi.decode(cls, words)
    except abi.AbiError as error:
        return UnknownRevert(f"malformed {cls.__name__}: {error}")
    return found


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode() if value.isascii() and len(value) < 32 else "0x" + value.hex()
    return str(value)
