"""The verdicts that an attestation carries: one byte for every participant number, so an exclusion has a named reason.

U1 means that the blob could not be had under its digest when the votes were cast. Nobody can refute that later: the
blob may have been withheld then. Every other reason follows from bytes, and an auditor must come to the same.
"""

from collections.abc import Mapping

from chain.protocol.errors import Code

ABSENT = 0  # no reveal
ACCEPTED = 1
EXCLUDED: dict[Code, int] = {Code.U1: 2, Code.U2: 3, Code.U3: 4, Code.U4: 5, Code.U5: 6}
_NAMES = {ABSENT: "absent", ACCEPTED: "accepted"} | {number: f"excluded {code}" for code, number in EXCLUDED.items()}


def is_known(verdict: int) -> bool:
    return verdict in _NAMES


def name(verdict: int) -> str:
    return _NAMES.get(verdict, f"unknown verdict {verdict}")


def encode(verdicts: Mapping[int, int]) -> bytes:
    """Verdicts by participant number (from 1) as bytes; absent ones fill the gaps, none trail."""
    if not verdicts:
        return b""
    present = bytearray(max(verdicts))
    for number, verdict in verdicts.items():
        present[number - 1] = verdict
    return bytes(present).rstrip(b"\0")


def decode(data: bytes) -> dict[int, int]:
    """The inverse: only the participants that revealed."""
    return {number: verdict for number, verdict in enumerate(data, start=1) if verdict != ABSENT}
