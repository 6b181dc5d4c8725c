"""Named points at which a process can be made to die, for the tests of crash safety.

`crash_point(Point.SIGNED)` does nothing, unless the environment variable ROUNDLEDGER_CRASH names the point:
`ROUNDLEDGER_CRASH="transaction: signed:2"` kills the process (SIGKILL, nothing is cleaned up) when it passes the point
for the second time; without a number, the first time.
"""

import os
import signal
from collections import Counter
from enum import StrEnum

VARIABLE = "ROUNDLEDGER_CRASH"


class Point(StrEnum):
    """Every point, in the order in which a round passes them; the transaction's own are passed for each of them."""

    OPENING = "open: next"
    TRAINED = "prepare: trained"
    BLOB_KEPT = "prepare: blob kept"
    PREPARED = "prepare: done"
    COMMITTING = "commit: next"
    SIGNED = "transaction: signed"
    PUT = "transaction: in the outbox"
    SENT = "transaction: sent"
    MINED = "transaction: mined"
    REMOVED = "transaction: out of the outbox"
    COMMITTED = "commit: done"
    REVEALING = "reveal: next"
    PUBLISHED = "reveal: blob published"
    REVEALED = "reveal: done"
    WATCHED = "attest: round watched"
    DERIVED = "attest: model derived"
    MODEL_PUBLISHED = "attest: model published"
    ATTESTED = "attest: done"
    UPDATED = "update: model replaced"
    SETTLING = "settle: next"
    SWITCHED = "settle: update forgotten"
    RESIDUAL_WRITTEN = "residual: written"
    RESIDUAL_NAMED = "residual: named"
    SETTLED = "settle: done"
    CHECKPOINTED = "settle: checkpoint saved"


_passed: Counter[str] = Counter()


def crash_point(point: Point) -> None:
    """Kills the process if it was asked to die here. A variable that names no point is nobody's: it does nothing."""
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    _passed[point] += 1
    if wanted in (f"{point}:{_passed[point]}", point if _passed[point] == 1 else None):
        os.kill(os.getpid(), signal.SIGKILL)
