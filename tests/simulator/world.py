"""A federation in memory: four participants with the real node code, of which the fourth may be somebody else's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak

from chain.protocol.digest import Digest
from chain.protocol.rules import Rules
from chain.protocol.seal import domain_separator
from fl_node.audit import Audit
from fl_node.data import Records
from fl_node.dataroot import RecordSecret, data_root
from fl_node.findings import Finding
from fl_node.gradient import Layout
from fl_node.journal import Journal
from fl_node.ledger import Checkpoint, Ledger
from fl_node.model import build_model, to_tensors
from fl_node.rounds import run_round
from fl_node.session import Session
from fl_node.weights import encode_model
from tests.simulator.chain import CHAIN_ID, LEDGER, Chain, Client, Lie, Reader
from tests.simulator.clock import Clock, Never
from tests.simulator.store import Shared, Store

OWNER, SEATS, HONEST, FOURTH = 0, (1, 2, 3, 4), (1, 2, 3), 4
WINDOW = 60  # seconds
RECORDS = 12  # of each participant
DOMAIN = domain_separator(CHAIN_ID, LEDGER)


def document(name: str) -> dict[str, object]:
    return {
        "format": "roundledger-federation/1",
        "name": name,
        "model": {"factory": "mlp", "options": {"hidden": [3]}},
        "data": {"classes": ["no", "yes"], "features": ["x", "y"]},
        "training": {"rounds": 3, "batch_size": 4, "learning_rate": 0.5},
        "selection": {"upload_rate": 0.5},
        "compression": {"bits": 8},
        "ledger": {"commit_window": WINDOW, "reveal_window": WINDOW, "attest_window": WINDOW},
        "limits": {"update_bytes": 1 << 13, "model_bytes": 1 << 13, "records": 1000},
    }


RULES, OTHER_RULES = (Rules.parse(document(name), "simulator") for name in ("simulator", "another"))


@cache
def account(seat: int) -> LocalAccount:
    """The same key in every run; of the owner, and of whoever else is wanted, too."""
    made: LocalAccount = Account.from_key(keccak(text=f"seat {seat}"))
    return made


def address(seat: int) -> str:
    return str(account(seat).address)


def records(seat: int) -> Records:
    random = np.random.default_rng(seat)
    features = random.normal(size=(RECORDS, 2))
    return Records(features, (features.sum(1) > 0).astype(np.int64), None, f"seat {seat}")


@dataclass
class World:
    """`sessions` by seat, and with what exception their last round ended by actor, if it did."""

    folder: Path
    chain: Chain
    shared: Shared
    rules: Rules = RULES
    sessions: dict[int, Session] = field(default_factory=dict)
    ended: dict[str, BaseException] = field(default_factory=dict)

    @classmethod
    def found(cls, folder: Path, rules: Rules = RULES) -> "World":
        genesis = encode_model(to_tensors(build_model(rules, seed=1)))
        world = cls(folder, Chain.found(Clock(), address(OWNER), rules, Digest.of(genesis)), Shared(), rules)
        store = Store(world.shared, "owner")
        store.put(genesis)
        store.put(rules.canonical())
        for seat in SEATS:
            world.chain.call("enrol", address(OWNER), address(seat))
            world.session(seat)
        return world

    def close(self) -> None:
        for session in self.sessions.values():
            session.journal.close()

    @property
    def clock(self) -> Clock:
        return self.chain.clock

    def session(
        self, seat: int, lie: Lie | None = None, rules: Rules | None = None, checkpoint: Checkpoint | None = None
    ) -> Session:
        """A node of this seat that has just been started, with the journal of the one before it."""
        rules = rules or self.rules
        if seat in self.sessions:
            self.sessions[seat].journal.close()
        held, who = records(seat), f"node-{seat}"
        reader = Reader(self.chain, lie) if lie else Reader(self.chain)
        secret = RecordSecret(keccak(text=f"secret {seat}"))
        self.sessions[seat] = Session(
            rules=rules,
            address=address(seat),
            domain=DOMAIN,
            client=Client(self.chain, address(seat)),  # type: ignore[arg-type]
            ledger=Ledger(reader, rules, checkpoint),  # type: ignore[arg-type]
            store=Store(self.shared, who),
            journal=Journal(self.folder / who),
            records=held,
            data_root=data_root(held, secret),
            module=build_model(rules, seed=0),
            report=lambda kind, number, **values: None,
            stop=Never(self.clock, who),
            clock=self.clock,
            poll=1.0,
        )
        return self.sessions[seat]

    def play(self, number: int, others: Mapping[str, Callable[[], None]]) -> None:
        """Round `number` with the honest three, and the given actors beside them."""
        if self.chain.contract.state.number < number:
            self.chain.call("open", address(1), number)
        actors = {f"node-{seat}": self._node(seat, number) for seat in HONEST}
        self.ended = self.clock.run(actors | dict(others))

    def honest_fourth(self, number: int) -> dict[str, Callable[[], None]]:
        return {"node-4": self._node(FOURTH, number)}

    def _node(self, seat: int, number: int) -> Callable[[], None]:
        return lambda: run_round(self.sessions[seat], number)

    # ------------------------------------------------------- what came of it

    def digests(self) -> set[str]:
        """The models of the honest nodes."""
        return {str(self.sessions[seat].model_digest) for seat in HONEST}

    def audit(self, lie: Lie | None = None, *, blob_rules: bool = False, witness: bool = False) -> "Audited":
        """By somebody who has the rules file, or only their blob, through this server."""
        reader = Reader(self.chain, lie) if lie else Reader(self.chain)
        witnesses = [Reader(self.chain, name="a witness")] if witness else []
        rules = None if blob_rules else self.rules
        audit = Audit(Ledger(reader), Store(self.shared, "auditor"), rules, witnesses)  # type: ignore[arg-type]
        findings = list(audit.run())
        return Audited(audit.exit_code, findings)


@dataclass(frozen=True)
class Audited:
    exit_code: int
    findings: list[Finding]

    def has(self, status: str, code: str, number: int, who: str | None) -> bool:
        """`who` None: whoever it is about. A contradiction between votes and updates names the participant in words."""
        return any(
            (finding.status, finding.code, finding.round) == (status, code, number)
            and (who in (None, finding.participant) or str(who) in finding.message)
            for finding in self.findings
        )


def layout() -> Layout:
    return Layout.of(to_tensors(build_model(RULES, seed=1)))
