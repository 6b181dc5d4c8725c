"""Attacks by the server that a node and an auditor ask: logs and heads other than those of the chain.

The fourth participant is the victim: its node is started anew in round 2, and asks a server that lies about round 1.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from chain.protocol import abi, events
from chain.protocol.digest import Digest
from chain.protocol.events import Log
from fl_node.rounds import run_round
from tests.simulator.attack import Attack, Mallory
from tests.simulator.chain import Lie
from tests.simulator.world import FOURTH, address

Heads = list[bytes]


def _at(logs: list[Log], kind: Any, number: int = 0) -> int:
    """Where the log of this kind stands, the first being number 0."""
    return [at for at, log in enumerate(logs) if log.topics[0] == abi.selector(kind)][number]


def stale_head(logs: list[Log], heads: Heads) -> tuple[list[Log], Heads]:
    return logs, [*heads[:-1], heads[-2]]


def newest_log_hidden(logs: list[Log], heads: Heads) -> tuple[list[Log], Heads]:
    return logs[:-1], heads


def without(kind: Any, number: int = 0) -> Lie:
    def lie(logs: list[Log], heads: Heads) -> tuple[list[Log], Heads]:
        at = _at(logs, kind, number)
        return logs[:at] + logs[at + 1 :], heads

    return lie


def swapped(kind: Any) -> Lie:
    """The first two of this kind in the other order."""

    def lie(logs: list[Log], heads: Heads) -> tuple[list[Log], Heads]:
        first, second = _at(logs, kind), _at(logs, kind, 1)
        block, other = logs[first].block, logs[second].block
        logs[first], logs[second] = replace(logs[second], block=block), replace(logs[first], block=other)
        return logs, heads

    return lie


def altered(kind: Any, change: Callable[[bytes], bytes]) -> Lie:
    """Other data in the first log of this kind."""

    def lie(logs: list[Log], heads: Heads) -> tuple[list[Log], Heads]:
        at = _at(logs, kind)
        logs[at] = replace(logs[at], data=change(logs[at].data))
        return logs, heads

    return lie


def word(index: int, value: bytes | int) -> Callable[[bytes], bytes]:
    """Puts another word in this place."""
    start = index * abi.WORD
    return lambda data: data[:start] + abi.word(value) + data[start + abi.WORD :]


def added(log: Log) -> Lie:
    return lambda logs, heads: ([*logs, replace(log, block=logs[-1].block)], heads)


def repeated(logs: list[Log], heads: Heads) -> tuple[list[Log], Heads]:
    return [*logs, logs[-1]], heads


def invented(logs: list[Log], heads: Heads) -> tuple[list[Log], Heads]:
    """Nothing happened since the votes of round 1, and the heads fit: these answers do not contradict each other."""
    last = logs[_at(logs, events.Finalized)].block - 1
    return [log for log in logs if log.block <= last], heads[:last] + heads[last - 1 : last] * (len(heads) - last)


def restarted(lie: Lie, *, seen: bool = False) -> Callable[[Mallory], None]:
    """The node of the fourth starts anew with this server, `seen`: with its checkpoint."""

    def act(mallory: Mallory) -> None:
        checkpoint = mallory.session.journal.checkpoint() if seen else None
        run_round(mallory.world.session(FOURTH, lie, checkpoint=checkpoint), mallory.number)

    return act


def _lie(name: str, does: str, code: str, lie: Lie, number: int = 0) -> Attack:
    """`number`: the round that the audit blames."""
    return Attack(name, does, code, restarted(lie), round=2, finding=("fail", code, number, None), exit_code=1, lie=lie)


STRANGER = Log(
    (abi.selector(events.Enrolled), abi.word(address(9))), abi.word(5) + abi.word(3) + abi.word(2**63), 1
)  # "enrolled as number 5, from round 3 on"
UNKNOWN = Log((b"\x11" * 32,), b"", 1)
BACKDATED = altered(events.CommitsClosed, word(2, 1))
SERVERS = (
    _lie("stale head", "serves all logs and an earlier head", "L2", stale_head),
    _lie("newest log hidden", "leaves the newest log out", "L2", newest_log_hidden),
    _lie("omitted enrolment", "leaves out that somebody was enrolled", "L3", without(events.Enrolled), 0),
    _lie("omitted commit", "leaves a commit out", "L3", without(events.Committed), 1),
    _lie("omitted reveal", "leaves a reveal out", "L3", without(events.Revealed), 1),
    _lie("omitted attestation", "leaves a vote out", "A3", without(events.Attested, 1), 1),
    _lie("reordered enrolments", "swaps two enrolments", "L3", swapped(events.Enrolled), 0),
    _lie("reordered commits", "swaps two commits", "L2", swapped(events.Committed)),
    _lie("repeated log", "serves the newest log twice", "L3", repeated, 2),
    _lie("forged log", "adds an enrolment", "L2", added(STRANGER)),
    _lie("unknown log", "adds a log of no event", "L2", added(UNKNOWN)),
    _lie("forged seal", "serves another seal", "C1", altered(events.Committed, word(0, b"\1" * 28)), 1),
    _lie("forged reveal", "serves a reveal with other records", "C1", altered(events.Revealed, word(5, 999)), 1),
    _lie("forged base", "serves a reveal on another base", "U6", altered(events.Revealed, word(0, b"\1" * 32)), 1),
    _lie("forged outcome", "serves another final model", "A3", altered(events.Finalized, word(0, b"\1" * 32)), 1),
    _lie(
        "forged proposal",
        "serves other verdicts for an outcome",
        "L3",
        altered(events.Proposed, word(1, Digest.of(b""))),
        1,
    ),
    _lie("back-dated log", "serves a log with an earlier time", "L3", BACKDATED, 1),
    Attack(
        "invented history",
        "serves a shorter history and the heads that fit it, to a node that saw more",
        "L4",
        restarted(invented, seen=True),
        round=2,
        finding=("fail", "L2", 0, None),
        exit_code=1,
        lie=invented,
        witness=True,
    ),
)
