"""Findings: what an audit says, one named result at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from chain.protocol import verdicts
from chain.protocol.errors import Code, Unavailable, VerificationError
from chain.protocol.round import Round
from fl_node.channels import as_float
from fl_node.verify import Result, VerifiedUpdate


class Status(StrEnum):
    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    MISSING = "missing"  # could not look
    NOTE = "note"  # worth knowing, no defect of the history


@dataclass(frozen=True, slots=True)
class Finding:
    """One named result: the code of the check, and which round, participant it is about (0, None: the whole ledger)."""

    status: Status
    code: Code
    message: str
    round: int = 0
    participant: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "status": self.status.value,
            "code": self.code.value,
            "round": self.round or None,
            "participant": self.participant,
            "message": self.message,
        }


def update_findings(round_: Round, participant: str, result: Result, verdict: int) -> Iterator[Finding]:
    """One for every check an update passed. One that failed is a defect of the history only if it was accepted."""
    number, metadata = round_.number, round_.reveals[participant]

    def passed(code: Code, message: str) -> Finding:
        return Finding(Status.PASS, code, message, number, participant)

    yield passed(Code.C1, "the reveal opens the commit")
    yield passed(Code.U6, f"builds on {metadata.base_model}")
    if isinstance(result, VerifiedUpdate):
        yield passed(Code.U1, f"{metadata.update_digest}, {metadata.update_bytes:,} bytes unpacked")
        yield passed(Code.U2, "canonical, within the limits")
        yield passed(Code.U3, f"{metadata.sent} of {metadata.channels} channels sent")
        yield passed(Code.U4, f"their norms give the channel table {metadata.channel_root}")
        yield passed(Code.U5, f"selected as the rules say, threshold {as_float(metadata.threshold):.6g}")
    if verdict == verdicts.EXCLUDED[Code.U1]:
        now = "it is here now" if isinstance(result, VerifiedUpdate) else result.detail
        message = f"excluded, the quorum could not get the blob then: {now}"
        yield Finding(Status.NOTE, Code.U1, message, number, participant)
    elif isinstance(result, VerifiedUpdate):
        return  # accepted, or excluded wrongly: that is A1
    elif verdict != verdicts.ACCEPTED:
        yield Finding(Status.NOTE, result.code, f"excluded: {result.detail}", number, participant)
    elif isinstance(result, Unavailable):
        yield missing(result, number, participant)
    else:
        yield failed(result, number, participant)


def failed(error: VerificationError, number: int, participant: str | None = None) -> Finding:
    return Finding(Status.FAIL, error.code, error.detail, number, participant)


def missing(error: Unavailable, number: int, participant: str | None = None, code: Code | None = None) -> Finding:
    return Finding(Status.MISSING, code or error.code, error.detail, number, participant)


def unfinished(round_: Round) -> str:
    if round_.abort_reason is not None:
        return f"aborted: {round_.abort_reason.name.lower().replace('_', ' ')}"
    return f"still open: {round_.phase.value}"
