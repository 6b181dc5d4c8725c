"""The audit: the whole history again, from the deployment record, the chain and the blobs alone.

It yields one finding after the other and holds one round's updates at a time. It runs the same pure functions as the
nodes, and none of the training code.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from chain.protocol import verdicts
from chain.protocol.digest import Digest
from chain.protocol.errors import Code, ConfigError, TrustError, Unavailable, VerificationError
from chain.protocol.history import History
from chain.protocol.round import Round
from chain.protocol.rules import Rules
from chain.reader import LedgerReader
from chain.rpc import RpcError
from fl_node import weights
from fl_node.aggregate import aggregate
from fl_node.dataroot import DataRoot
from fl_node.fetch import fetch_model, fetch_rules
from fl_node.findings import Finding, Status, failed, missing, unfinished, update_findings
from fl_node.gather import common_set, gather
from fl_node.gradient import Layout
from fl_node.ledger import Ledger
from fl_node.store import BlobStore
from fl_node.tensorfile import Tensors
from fl_node.verify import (
    verify_accepted_set,
    verify_data_root,
    verify_head,
    verify_model,
    verify_rules,
    verify_shapes,
)


@dataclass
class Audit:
    """One audit. `run` yields the findings; afterwards `rounds`, `head`, `model` and `exit_code` sum it up."""

    ledger: Ledger
    store: BlobStore
    federation: Rules | None = None  # the rules file presented beside the record, if any
    witnesses: Sequence[LedgerReader] = ()  # other servers, which must have the same head
    own_data: tuple[str, DataRoot] | None = None  # a participant that wants its own data roots checked (D1)
    threads: int = 1
    history: History = field(default_factory=History)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    failed: int = 0
    missing: int = 0
    own_checked: int = 0  # rounds whose data root was compared with `own_data`
    untrusted: bool = False

    @property
    def exit_code(self) -> int:
        return 5 if self.untrusted else 1 if self.failed else 3 if self.missing else 0

    @property
    def verdict(self) -> str:
        return {0: "pass", 1: "fail", 3: "incomplete", 5: "untrusted"}[self.exit_code]

    def run(self) -> Iterator[Finding]:
        """Every finding in the order of the history. Raises ConfigError when the server or the record is plainly the
        wrong one.
        """
        for finding in self._findings():
            self.failed += finding.status is Status.FAIL
            self.missing += finding.status is Status.MISSING
            yield finding

    def _findings(self) -> Iterator[Finding]:
        try:
            yield from self._ledger()
        except TrustError as error:
            self.untrusted = True
            yield failed(error, 0)
            return
        except Unavailable as error:
            yield missing(error, 0)
            return
        except RpcError as error:
            yield Finding(Status.MISSING, Code.L1, f"{self.ledger.reader.rpc.name}: {error}")
            return
        if self.failed:
            return
        if self.own_data and self.own_data[0] not in self.history.members:
            raise ConfigError(self.own_data[0], "not a participant of this ledger, so it has no data roots here")
        rules, findings = self._rules()
        yield from findings
        if rules is not None:
            yield from self._replay(rules)

    def _ledger(self) -> Iterator[Finding]:
        """L1 to L3, and with them C1, U6 and A3, which the replay of the events checks."""
        reader = self.ledger.reader
        reader.check_deployment()
        yield Finding(Status.PASS, Code.L1, f"chain {reader.deployment.chain_id}, ledger {reader.deployment.address}")
        try:
            self.history = self.ledger.sync()
        except TrustError:
            raise
        except VerificationError as error:
            self.history = self.ledger.history
            # L2 and L4 are about the history as a whole, the others about the round that it broke off in.
            current = None if error.code in (Code.L2, Code.L4) else self.history.current
            yield failed(error, current.number if current else 0)
            return
        yield Finding(Status.PASS, Code.L2, f"{self.history.events} events give the head 0x{self.history.head.hex()}")
        yield from self._elsewhere()
        yield Finding(Status.PASS, Code.L3, f"{len(self.history.rounds)} rounds, every transition legal")
        # The owner decides who votes: a roster that changed on the way is worth a look.
        for change in self.history.changes:
            if change.after:
                yield Finding(Status.NOTE, Code.L3, change.what, change.after, change.participant)

    def _elsewhere(self) -> Iterator[Finding]:
        """L2 again, from elsewhere: a server that invents a history and its head cannot be found through itself."""
        for witness in self.witnesses:
            name = witness.rpc.name
            later = 0
            try:
                witness.check_deployment()
                verify_head(self.history, witness.head(self.ledger.block))
                newest = witness.newest(self.ledger.depth).number
                later = sum(1 for _ in witness.logs(self.ledger.block + 1, newest))
            except (TrustError, ConfigError) as error:
                yield Finding(Status.MISSING, Code.L2, f"the witness {name} is no server of this ledger: {error}")
            except VerificationError as error:
                yield Finding(Status.FAIL, Code.L2, f"according to {name}, {error.detail}")
            except Unavailable as error:
                yield missing(error, 0, code=Code.L2)
            except RpcError as error:
                yield Finding(Status.MISSING, Code.L2, f"{name}: {error}")
            else:
                yield Finding(Status.PASS, Code.L2, f"{name} has the same head")
            if later:  # it may just have happened; a server that keeps the end to itself looks the same
                seen = f"this audit ends at block {self.ledger.block}: {name} has {later} later events"
                yield Finding(Status.NOTE, Code.L2, seen)
        if self.ledger.known_head:
            yield Finding(Status.PASS, Code.L4, f"passes through the known head 0x{self.ledger.known_head.hex()}")
            if (since := self.history.events - (self.ledger.known_head_at or 0)) and not self.witnesses:
                message = f"{since} events after the known head are the word of one server: a newer --head tells more"
                yield Finding(Status.NOTE, Code.L2, message)
        elif not self.witnesses:
            message = "only one server was asked: give --head or --witness to find one that invents logs and head alike"
            yield Finding(Status.NOTE, Code.L2, message)

    def _rules(self) -> tuple[Rules | None, list[Finding]]:
        """The rules that the ledger pins: the file presented, if it is the right one, otherwise the blob."""
        digest = self.history.rules.rules_digest
        findings: list[Finding] = []
        if self.federation is not None:
            try:
                verify_rules(self.history, self.federation)
            except VerificationError as error:
                findings.append(failed(error, 0))
            else:
                return self.federation, [Finding(Status.PASS, Code.L4, f"rules {digest}")]
        try:
            rules = fetch_rules(self.store, digest)
            verify_rules(self.history, rules)
        except Unavailable as error:
            return None, [*findings, missing(error, 0, code=Code.L4)]
        except VerificationError as error:
            return None, [*findings, failed(error, 0)]
        return rules, [*findings, Finding(Status.PASS, Code.L4, f"rules {digest}, from their blob")]

    # --------------------------------------------------------------- rounds

    def _replay(self, rules: Rules) -> Iterator[Finding]:
        base, findings = self._model(self.history.rules.genesis_model, 0, rules)
        before: Tensors | None = None  # the model before the base, for the server's momentum
        yield from findings
        for round_ in self.history.rounds:
            summary: dict[str, Any] = {
                "round": round_.number,
                "outcome": round_.phase.value,
                "base_model": str(round_.base_model),
                "commits": len(round_.commits),
                "no_shows": round_.no_shows,
            }
            self.rounds.append(summary)
            for participant in round_.no_shows:
                yield Finding(Status.NOTE, Code.C1, "committed and never revealed", round_.number, participant)
            yield from self._own_data(round_)
            if round_.outcome is None:
                yield Finding(Status.NOTE, Code.L3, unfinished(round_), round_.number)
                continue
            summary["model"] = str(round_.outcome[0])
            if base is None:
                yield Finding(Status.MISSING, Code.A2, "the base model is not available", round_.number)
                derived = None
            else:
                derived = yield from self._round(round_, base, before, rules, summary)
            stored, findings = self._model(round_.outcome[0], round_.number, rules, base)
            # what follows from the updates need not be stored, too
            yield from (found for found in findings if derived is None or found.status is Status.FAIL)
            before, base = base, stored if stored is not None else derived
        if self.own_data and not self.own_checked:
            message = "this participant has revealed nothing, so no data root was checked"
            yield Finding(Status.NOTE, Code.D1, message, 0, self.own_data[0])

    def _round(
        self, round_: Round, base: Tensors, before: Tensors | None, rules: Rules, summary: dict[str, Any]
    ) -> Generator[Finding, None, Tensors | None]:
        """Verifies a finalized round; the value is the model derived, None if it could not be."""
        assert round_.outcome is not None  # noqa: S101 - only finalized rounds come here
        finalized, attested = round_.outcome
        votes = sum(outcome == round_.outcome for outcome in round_.attestations.values())
        quorum = self.history.quorum(len(round_.roster))
        yield Finding(Status.PASS, Code.A3, f"{votes} identical attestations, quorum {quorum}", round_.number)
        try:
            layout = Layout.of(base, rules.selection.layers)
            common = common_set(self.store, self.history, round_, layout, rules)
        except Unavailable as error:
            yield missing(error, round_.number, code=Code.U5)
            return None
        except VerificationError as error:
            yield failed(error, round_.number)
            return None
        except ConfigError as error:
            yield Finding(Status.FAIL, Code.L4, f"the rules do not fit the model: {error}", round_.number)
            return None
        results = gather(self.store, round_, layout, rules, common, self.threads)
        claimed = verdicts.decode(attested)
        excluded: dict[str, str] = {}
        for participant, result in results.items():
            verdict = claimed.get(round_.roster[participant], verdicts.ABSENT)
            if verdict != verdicts.ACCEPTED:
                excluded[participant] = verdicts.name(verdict).removeprefix("excluded ")
            yield from update_findings(round_, participant, result, verdict)
        summary["accepted"] = [who for who in results if who not in excluded]
        summary["excluded"] = excluded
        try:
            accepted = verify_accepted_set(attested, round_, results)
            yield Finding(Status.PASS, Code.A1, f"{len(accepted)} of {len(results)} updates accepted", round_.number)
            if len(accepted) < self.history.rules.min_updates:
                message = f"fewer updates were accepted than a round needs ({self.history.rules.min_updates})"
                yield Finding(Status.NOTE, Code.A1, message, round_.number)
            if before is None and rules.aggregation.server_momentum and self.history.last_finalized(round_.number):
                raise Unavailable(Code.A2, f"round {round_.number} model", "the model before its base is not available")
            derived = aggregate(base, accepted, layout, rules.aggregation, before, self.threads)
            verify_model(round_, weights.model_digest(derived))
        except Unavailable as error:
            yield missing(error, round_.number, code=Code.A2)
            return None
        except VerificationError as error:
            yield failed(error, round_.number)
            return None
        yield Finding(Status.PASS, Code.A2, f"the updates give {finalized}", round_.number)
        return derived

    def _model(
        self, digest: Digest, number: int, rules: Rules, base: Tensors | None = None
    ) -> tuple[Tensors | None, list[Finding]]:
        """The stored model of a round (0: genesis), if its blob is what the ledger says, and a model like its base."""
        what = f"model of round {number}" if number else "genesis model"
        try:
            found = fetch_model(self.store, digest, rules, what)
            if base is not None:
                verify_shapes(found, base, what)
            return found, []
        except Unavailable as error:
            return None, [missing(error, number)]
        except VerificationError as error:
            return None, [failed(error, number)]

    def _own_data(self, round_: Round) -> Iterator[Finding]:
        """D1, under whatever key the participant revealed in this round: keys change, numbers stay."""
        if self.own_data is None:
            return
        seat, found = self.history.members[self.own_data[0]].number, self.own_data[1]
        participant = next((who for who in round_.reveals if round_.roster[who] == seat), None)
        if participant is None:
            return
        self.own_checked += 1
        try:
            verify_data_root(
                round_.reveals[participant], round_.number, found.root, found.count, found.secret_commitment
            )
        except VerificationError as error:
            yield failed(error, round_.number, participant)
        else:
            yield Finding(Status.PASS, Code.D1, f"data root {found.root}", round_.number, participant)
