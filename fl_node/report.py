"""What people read: findings as lines, rounds as tables. Outside names are escaped; numbers for machines come from
`--json`.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chain.protocol import verdicts
from chain.protocol.history import History
from chain.protocol.round import Phase, Round
from fl_node.audit import Audit
from fl_node.findings import Finding, Status

_STYLES = {Status.PASS: "green", Status.FAIL: "bold red", Status.MISSING: "yellow", Status.NOTE: "cyan"}
_PHASE_STYLES = {Phase.FINALIZED: "green", Phase.ABORTED: "yellow"}


_ADVICE = {
    1: "A mismatch is proven. Keep chain, blobs and this report as they are: they are the evidence. Where only a blob "
    "(U1) or the rules file (L4) is wrong, it may be this copy of it: look for another one.",
    3: "What could be looked at is right, but not everything could. Bring back what is missing (any copy will do, it "
    "is checked) and audit again.",
    5: "This is not the ledger that the deployment record pins. Check --rpc, and where the record came from.",
}


def advice(audit: Audit) -> str | None:
    """What to do now, if anything."""
    return _ADVICE.get(audit.exit_code)


def finding_line(finding: Finding) -> str:
    """One finding as rich markup: `FAIL U1 round 3 0x12...: message`; what the prefix says is not said again."""
    message = finding.message.removeprefix(f"round {finding.round} ").removeprefix(f"update of {finding.participant}: ")
    where = f" round {finding.round}" if finding.round else ""
    who = f" {finding.participant}" if finding.participant else ""
    style = _STYLES[finding.status]
    status = f"[{style}]{finding.status.value.upper():7}[/]"
    return f"{status} [bold]{finding.code}[/]{where}{escape(who)}: {escape(message)}"


class FindingPrinter:
    """Streams findings: those that pass as one line a round, all others in full; all in full when `verbose`."""

    def __init__(self, console: Console, *, verbose: bool) -> None:
        self._console, self._verbose = console, verbose
        self._round, self._passed = 0, Counter[str]()

    def show(self, finding: Finding) -> None:
        if finding.round != self._round:
            self.finish()
            self._round = finding.round
        if self._verbose or not finding.round or finding.status is not Status.PASS:
            self._console.print(finding_line(finding), highlight=False, soft_wrap=True)
        else:
            self._passed[finding.code.value] += 1

    def finish(self) -> None:
        if self._passed:
            codes = ", ".join(f"{code} x{count}" if count > 1 else code for code, count in self._passed.items())
            self._console.print(f"[green]PASS   [/] round {self._round}: {codes}", highlight=False, soft_wrap=True)
        self._passed.clear()


def rounds_table(history: History) -> Table:
    """Every round of the ledger, one line each."""
    title = f"{len(history.rounds)} rounds, {len(history.finalized)} finalized"
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, collapse_padding=True)
    for column in ("round", "outcome", "commit", "reveal", "accept", "votes", "s", "bytes", "model"):
        table.add_column(column, justify="left" if column in ("outcome", "model") else "right", no_wrap=True)
    for round_ in history.rounds:
        style = _PHASE_STYLES.get(round_.phase, "bold")
        table.add_row(*_round_cells(round_), style=style)
    return table


def _round_cells(round_: Round) -> tuple[str, ...]:
    accepted = sum(v == verdicts.ACCEPTED for v in verdicts.decode(round_.outcome[1]).values()) if round_.outcome else 0
    reason = f" ({round_.abort_reason.name.lower().replace('_', ' ')})" if round_.abort_reason is not None else ""
    return (
        str(round_.number),
        round_.phase.value + reason,
        f"{len(round_.commits)}/{len(round_.roster)}",
        str(len(round_.reveals)),
        str(accepted) if round_.outcome else "-",
        str(len(round_.attestations)),
        str(round_.closed - round_.opened) if not round_.is_open else "-",
        f"{sum(metadata.update_bytes for metadata in round_.reveals.values()):,}",
        round_.outcome[0].short if round_.outcome else "-",
    )


def history_json(history: History) -> dict[str, Any]:
    """The same for machines."""
    return {
        "head": "0x" + history.head.hex(),
        "model": str(history.model),
        "events": history.events,
        "participants": [
            {
                "address": address,
                "number": member.number,
                "from_round": member.from_round,
                "until_round": member.until_round,
            }
            for address, member in history.members.items()
        ],
        "rounds": [
            {
                "round": round_.number,
                "phase": round_.phase.value,
                "deadline": round_.deadline,
                "commits": list(round_.commits),
                "reveals": {
                    who: {"bytes": metadata.update_bytes, "channels": metadata.channels, "sent": metadata.sent}
                    for who, metadata in round_.reveals.items()
                },
                "attestations": list(round_.attestations),
                "model": str(round_.outcome[0]) if round_.outcome else None,
            }
            for round_ in history.rounds
        ],
    }


def audit_json(audit: Audit, findings: list[Finding]) -> dict[str, Any]:
    return {
        "verdict": audit.verdict,
        "rounds": audit.rounds,
        "findings": [finding.to_dict() for finding in findings],
        "head": "0x" + audit.history.head.hex(),
        "model": str(audit.history.model),
        "summary": audit_line(audit, findings),
    }


def audit_line(audit: Audit, findings: list[Finding]) -> str:
    """The last line of an audit, made to be searched for in a log."""
    finalized = sum(summary["outcome"] == Phase.FINALIZED.value for summary in audit.rounds)
    aborted = sum(summary["outcome"] == Phase.ABORTED.value for summary in audit.rounds)
    accepted = sum(len(summary.get("accepted", [])) for summary in audit.rounds)
    model = audit.history.model.short if audit.history.model else "-"
    return (
        f"audit: {audit.verdict.upper()} rounds={finalized} aborted={aborted} updates={accepted} "
        f"events={audit.history.events} failed={audit.failed} missing={audit.missing} "
        f"findings={len(findings)} model={model} head=0x{audit.history.head.hex()[:12]}"
    )


def event_line(kind: str, round_number: int, values: Mapping[str, Any]) -> str:
    """One thing that a node did, as rich markup."""
    where = f"round {round_number} " if round_number else ""
    shown = " ".join(f"{name}={escape(_brief(value))}" for name, value in values.items())
    style = {"finalized": "green", "refused": "yellow", "excluded": "red", "aborted": "yellow"}.get(kind, "bold")
    return f"{where}[{style}]{kind}[/] {shown}"


def _brief(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
