"""What can go wrong, and what it means.

Two families are never merged. `VerificationError`: the evidence was seen and it is bad; never retry, it is a finding.
`Unavailable`: could not look; retry, inconclusive. Beside them stand `ConfigError` (the user can mend it) and `Pending`
(the ledger is not there yet). The exit code belongs to the class, so that every command means the same by it.
"""

from enum import StrEnum


class Code(StrEnum):
    """The checks, by the names that findings, tests and documents use."""

    L1 = "L1"  # chain id, genesis, address and bytecode are those of the deployment record
    L2 = "L2"  # the replayed events reproduce the head
    L3 = "L3"  # every transition is legal
    L4 = "L4"  # the rules are those of the federation file; history extends the checkpoint
    C1 = "C1"  # a reveal opens the commit
    U1 = "U1"  # the blob is there and has the committed digest
    U2 = "U2"  # it decodes canonically, within limits, for this model, all finite
    U3 = "U3"  # as many channels, and as many of them sent, as was committed
    U4 = "U4"  # the norms of the sent channels follow from the sent values, and have the committed root
    U5 = "U5"  # the rules allow to send just these channels
    U6 = "U6"  # it builds on the previous finalized model
    A1 = "A1"  # the accepted set is exactly what passes C and U
    A2 = "A2"  # re-aggregation gives the attested model
    A3 = "A3"  # the finalizing attestations agree and reach quorum
    D1 = "D1"  # the data root, recomputed from the node's data


class RoundledgerError(Exception):
    """Base of everything that the command line reports without a traceback; it can be pickled."""

    exit_code = 2

    def __reduce__(self) -> tuple[object, ...]:
        return _again, (type(self), self.args), self.__dict__


class ConfigError(RoundledgerError):
    """A file, option or environment that the user can mend: says where, what was expected, what was found."""

    exit_code = 2

    def __init__(self, where: object, problem: str, hint: str = "") -> None:
        self.where, self.problem, self.hint = str(where), problem, hint
        super().__init__(f"{where}: {problem}" + (f" ({hint})" if hint else ""))


class VerificationError(RoundledgerError):
    """The evidence contradicts a claim.

    `code` names the check, `subject` what was checked, `expected` and `actual` the two sides that differ; `detail` is
    the message without the code.
    """

    exit_code = 1

    def __init__(self, code: Code, subject: str, expected: object, actual: object) -> None:
        self.code, self.subject = code, subject
        self.expected, self.actual = printable(expected), printable(actual)
        self.detail = f"{subject}: expected {self.expected}, found {self.actual}"
        super().__init__(f"{code} {self.detail}")


class TrustError(VerificationError):
    """The chain or the contract is another one than the pinned deployment record names (always L1)."""

    exit_code = 5


class Unavailable(RoundledgerError):
    """The evidence could not be looked at: says nothing about fraud. Retry, or report as inconclusive."""

    exit_code = 3

    def __init__(self, code: Code, subject: str, reason: object) -> None:
        self.code, self.subject, self.reason = code, subject, printable(reason)
        self.detail = f"{subject}: not available: {self.reason}"
        super().__init__(f"{code} {self.detail}")


class Pending(RoundledgerError):
    """What was asked for is not final yet."""

    exit_code = 4


def _again(kind: type[RoundledgerError], args: tuple[object, ...]) -> RoundledgerError:
    """Without `__init__`, which takes other arguments than the message that it makes."""
    return kind.__new__(kind, *args)


def printable(value: object, limit: int = 400) -> str:
    """What a stranger wrote, or a stranger's server: not endless, and no control characters for our terminal."""
    text = str(value)
    clipped = text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"
    return "".join(letter if letter.isprintable() else " " for letter in clipped)
