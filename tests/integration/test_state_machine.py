"""Random sequences of calls, legal and not, on the real contract, its model and the replayed history: the same
refusals, the same logs to the byte, the same head, at every step.

`STATE_MACHINE=200x100` asks for 200 sequences of 100 steps instead of the usual ones, and for other ones every time.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from chain.devnet import Devnet
from chain.protocol.digest import Digest
from chain.protocol.events import Opening
from chain.protocol.seal import Metadata
from chain.signing import Signature, SignedCommit
from tests.integration.lockstep import OWNER, WINDOW, Lockstep, Site, address, sign
from tests.simulator.membership import COMMIT, IDLE, NOBODY, REVEAL

ASKED = os.environ.get("STATE_MACHINE", "")
EXAMPLES, STEPS = map(int, ASKED.split("x")) if ASKED else (25, 40)

SEAT = st.integers(0, 8)
PARTICIPANT = st.integers(1, 5)
# Mostly the number of the present round, now and then another one.
SHIFT = st.sampled_from([0] * 8 + [-1, 1])
MODELS = [Digest.of(b"model 1"), Digest.of(b"model 2"), Digest(bytes(32))]
MODEL = st.sampled_from([MODELS[0]] * 6 + MODELS)
VERDICTS = st.sampled_from([b"\1\1\1\1"] * 6 + [b"\1\1\1", b"\1\0\1", b"", b"\1\0", b"\1" * 9])
ALL = st.permutations(range(1, 6)).flatmap(lambda seats: st.integers(2, 5).map(lambda count: seats[:count]))
TAMPERED = st.sampled_from(["", "", "", "", "seal", "expired", "chain", "bits"])


class Ledgers(RuleBasedStateMachine):
    """One sequence. The site is shared: every sequence starts from its snapshot."""

    site: Site

    def __init__(self) -> None:
        super().__init__()
        self.all: Lockstep = self.site.restart()

    @initialize(members=st.integers(2, 5))
    def founded(self, members: int) -> None:
        for seat in range(1, members + 1):
            self.all.step(OWNER, "enrol", address(seat))

    def teardown(self) -> None:
        self.all.compare_views()
        COUNTED.append((len(self.all.steps), self.all.refused, set(self.all.steps), len(self.all.history.finalized)))

    # ------------------------------------------------------------ the rounds

    @property
    def number(self) -> int:
        return self.all.contract.state.number

    def metadata(self, seat: int, salt: int = 0) -> Metadata:
        digests = [Digest.of(f"{name} {seat}".encode()) for name in ("update", "root", "secret", "channels")]
        update, root, secret, channels = digests
        base = Digest(self.all.contract.model)
        return Metadata(base, update, 100, root, secret, 10, channels, 8, 2, 1 << 100, bytes([seat, salt]) * 16)

    def seal(self, seat: int) -> bytes:
        return self.all.contract.seal_of(self.number, address(seat), self.metadata(seat))

    @rule(seat=PARTICIPANT, shift=SHIFT)
    def open(self, seat: int, shift: int) -> None:
        self.all.step(seat, "open", self.number + 1 + shift)

    @rule(seat=PARTICIPANT, shift=SHIFT, empty=st.integers(0, 9))
    def commit(self, seat: int, shift: int, empty: int) -> None:
        self.all.step(seat, "commit", max(0, self.number + shift), self.seal(seat) if empty else bytes(28))

    @rule(seat=SEAT, of=PARTICIPANT, shift=SHIFT, salt=SHIFT, base=SHIFT)
    def reveal(self, seat: int, of: int, shift: int, salt: int, base: int) -> None:
        metadata = self.metadata(of, abs(salt))
        if base:
            metadata = replace(metadata, base_model=Digest.of(b"another model"))
        self.all.step(seat, "reveal", max(0, self.number + shift), address(of), metadata)

    @rule(seat=PARTICIPANT, shift=SHIFT, model=MODEL, verdicts=VERDICTS)
    def attest(self, seat: int, shift: int, model: Digest, verdicts: bytes) -> None:
        self.all.step(seat, "attest", max(0, self.number + shift), model, verdicts)

    @rule(seat=SEAT, shift=SHIFT)
    def advance(self, seat: int, shift: int) -> None:
        self.all.step(seat, "advance", max(0, self.number + shift))

    @rule(seats=ALL)
    def go_on(self, seats: list[int]) -> None:
        """What honest participants do in this phase, so that sequences get far."""
        phase = self.all.contract.state.phase
        for seat in dict.fromkeys(seats):
            if self.all.contract.state.phase != phase:
                return
            if phase == IDLE:
                self.open(seat, 0)
            elif phase == COMMIT:
                self.commit(seat, 0, 1)
            elif phase == REVEAL:
                self.reveal(seat, seat, 0, 0, 0)
            else:
                self.attest(seat, 0, MODELS[0], b"\1\1\1\1"[: self.all.contract.registered])

    # Of two dozen rules each is drawn as often as any other, and most calls are refused in most states.
    and_on, further, still_further = (rule(seats=ALL)(lambda self, seats: self.go_on(seats)) for _ in range(3))

    @rule(seconds=st.sampled_from([1, 10, WINDOW - 10, WINDOW, 3 * WINDOW]))
    def wait(self, seconds: int) -> None:
        self.all.pass_time(seconds)

    @rule(before=st.sampled_from([0, 0, 1]))
    def wait_for_the_deadline(self, before: int) -> None:
        """To the very second, or the one before."""
        self.all.now = max(self.all.now, self.all.contract.state.deadline - before)

    # -------------------------------------------------------------- relaying

    def _signed(self, seat: int, kind: str, tampered: str, *values: Any) -> Any:
        deployment = self.site.deployment
        deadline = self.all.now - 1 if tampered == "expired" else self.all.now + WINDOW
        if tampered == "chain":
            deployment = deployment.model_copy(update={"chain_id": 1})
        return sign(seat, kind, deployment, deadline, values)

    @rule(entries=st.lists(st.tuples(PARTICIPANT, TAMPERED), max_size=4), shift=SHIFT)
    def relay_commits(self, entries: list[tuple[int, str]], shift: int) -> None:
        number, commits = max(0, self.number + shift), list[SignedCommit]()
        for seat, tampered in entries:
            commit: SignedCommit = self._signed(seat, "commit", tampered, number, self.seal(seat))
            commit = replace(commit, seal=b"\5" * 28) if tampered == "seal" else commit
            commits.append(replace(commit, signature=_bits(commit.signature)) if tampered == "bits" else commit)
        self.all.step(8, "relay_commits", number, commits)

    @rule(entries=st.lists(st.tuples(PARTICIPANT, SHIFT), max_size=4), shift=SHIFT)
    def relay_reveals(self, entries: list[tuple[int, int]], shift: int) -> None:
        openings = [Opening(address(seat), self.metadata(seat, abs(salt))) for seat, salt in entries]
        self.all.step(8, "relay_reveals", max(0, self.number + shift), openings)

    @rule(entries=st.lists(st.tuples(PARTICIPANT, TAMPERED), max_size=4), shift=SHIFT, model=MODEL, verdicts=VERDICTS)
    def relay_attestations(self, entries: list[tuple[int, str]], shift: int, model: Digest, verdicts: bytes) -> None:
        number, signatures = max(0, self.number + shift), list[Signature]()
        for seat, tampered in entries:
            said = b"\1\2" if tampered == "seal" else verdicts
            signature: Signature = self._signed(seat, "attestation", tampered, number, model, said)
            signatures.append(_bits(signature) if tampered == "bits" else signature)
        self.all.step(8, "relay_attestations", number, model, verdicts, signatures)

    # ------------------------------------------------------------ membership

    @rule(by=st.sampled_from([OWNER] * 5 + [1]), who=SEAT)
    def enrol(self, by: int, who: int) -> None:
        self.all.step(by, "enrol", address(who))

    @rule(by=st.sampled_from([OWNER] * 5 + [1]), who=SEAT)
    def retire(self, by: int, who: int) -> None:
        self.all.step(by, "retire", address(who))

    @rule(by=PARTICIPANT, to=SEAT, signer=SHIFT, tampered=TAMPERED)
    def rotate(self, by: int, to: int, signer: int, tampered: str) -> None:
        consent = self._signed(to if not signer else 8, "rotation", tampered, address(by))
        self.all.step(by, "rotate", address(to), _bits(consent) if tampered == "bits" else consent)

    @rule(by=st.sampled_from([OWNER, OWNER, 1]), who=SEAT)
    def set_pauser(self, by: int, who: int) -> None:
        self.all.step(by, "set_pauser", address(who))

    @rule(by=SEAT)
    def pause(self, by: int) -> None:
        pauser = [seat for seat in range(9) if address(seat) == self.all.contract.pauser]
        self.all.step(pauser[0] if pauser and by % 2 else by, "pause")

    @rule(by=st.sampled_from([OWNER, OWNER, 1, 2]))
    def unpause(self, by: int) -> None:
        self.all.step(by, "unpause")

    @rule(by=st.sampled_from([1, 2, 3, OWNER]), to=st.sampled_from([NOBODY] * 3 + [address(7)]))
    def set_successor(self, by: int, to: str) -> None:
        self.all.step(by, "set_successor", to)

    @rule(by=st.sampled_from([OWNER, 1]), to=st.sampled_from([OWNER, 1, 2]))
    def transfer_ownership(self, by: int, to: int) -> None:
        self.all.step(by, "transfer_ownership", address(to))

    @rule(by=st.sampled_from([OWNER, 1, 2]))
    def accept_ownership(self, by: int) -> None:
        self.all.step(by, "accept_ownership")

    @rule(by=st.sampled_from([1, 2, 3, 4]))
    def renounce_ownership(self, by: int) -> None:
        self.all.step(by, "renounce_ownership")


def _bits(signature: Signature) -> Signature:
    """A value of s in the upper half: malleable, so refused."""
    return replace(signature, vs=b"\x7f" + signature.vs[1:])


COUNTED: list[tuple[int, int, set[str], int]] = []  # of every sequence: steps, refusals, verbs, finalized rounds


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A chain of its own: its clock is moved."""
    with Devnet.start() as net:
        yield Site.found(net)


def test_contract_model_and_history_never_differ(site: Site) -> None:
    machine = type("Ledgers", (Ledgers,), {"site": site})
    COUNTED.clear()
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize=not ASKED,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    verbs = set().union(*(verbs for _, _, verbs, _ in COUNTED))
    steps, refused, finalized = (sum(counts) for counts in zip(*((s, r, f) for s, r, _, f in COUNTED), strict=True))
    print(f"{len(COUNTED)} sequences, {steps} calls, {refused} refused, {finalized} rounds final, {len(verbs)} verbs")
    # The sequences are worth something: every verb was tried, calls were taken and refused, rounds became final.
    if not ASKED:
        assert len(verbs) == 18
        assert steps // 10 < refused < steps * 9 // 10
        assert finalized > 0
