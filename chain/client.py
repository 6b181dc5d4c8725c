"""The ledger's verbs as typed calls, for one account. Reading is `chain.reader`'s part."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from eth_account.signers.local import LocalAccount

from chain.blocks import Depth
from chain.calls import call
from chain.errors import Reverted, from_revert
from chain.fees import CEILING
from chain.outbox import Outbox
from chain.protocol.deployment import Deployment
from chain.protocol.digest import Digest
from chain.protocol.events import Opening
from chain.protocol.seal import Metadata
from chain.rpc import JsonRpc
from chain.sender import REPLACE_AFTER, Receipt, Sender
from chain.signers import Signer
from chain.signing import Signature, SignedCommit


class LedgerClient:
    """Write access to one deployed ledger. Every method raises the contract's error as the exception of the same name
    (`chain.errors`), Unavailable when the server does not answer, Pending when nobody mines the transaction in time,
    ConfigError when the account cannot pay.
    """

    def __init__(
        self,
        rpc: str | Sequence[str] | JsonRpc,
        deployment: Deployment,
        signer: LocalAccount | Signer,
        outbox: Outbox | None = None,
        depth: Depth = 0,
        replace_after: float = REPLACE_AFTER,
        pause: Callable[[float], None] = time.sleep,
        max_fee: int = CEILING,
    ) -> None:
        self._sender = Sender(
            rpc,
            signer,
            outbox,
            depth,
            replace_after=replace_after,
            pause=pause,
            max_fee=max_fee,
            chain_id=deployment.chain_id,
        )
        self._ledger = deployment.address

    @property
    def address(self) -> str:
        return self._sender.address

    def keep_alive(self, block: int) -> None:
        """To be called at every look at the ledger, which ended with `block`: see `Sender.keep_alive`."""
        self._sender.keep_alive(block)

    def enrol(self, participant: str) -> Receipt:
        return self._call(None, "enrol", participant)

    def retire(self, participant: str) -> Receipt:
        return self._call(None, "retire", participant)

    def rotate(self, replacement: str, consent: Signature) -> Receipt:
        """Gives this account's number to `replacement` from the next round on; `chain.signing.sign_rotation` makes its
        consent.
        """
        return self._call(None, "rotate", replacement, _signature(consent))

    def set_pauser(self, pauser: str) -> Receipt:
        return self._call(None, "setPauser", pauser)

    def pause(self) -> Receipt:
        return self._call(None, "pause")

    def unpause(self) -> Receipt:
        return self._call(None, "unpause")

    def set_successor(self, successor: str) -> Receipt:
        """Once and for ever: no new round opens afterwards."""
        return self._call(None, "setSuccessor", successor)

    # A round's actions are done once, whoever asks again: the key says what is done.

    def open(self, round_number: int) -> Receipt:
        return self._call(f"open {round_number}", "open", round_number)

    def commit(self, round_number: int, seal: bytes) -> Receipt:
        return self._call(f"commit {round_number}", "commit", round_number, seal)

    def reveal(self, round_number: int, participant: str, metadata: Metadata) -> Receipt:
        return self._call(
            f"reveal {round_number} {participant}", "reveal", round_number, participant, _metadata(metadata)
        )

    def attest(self, round_number: int, model: Digest, verdicts: bytes) -> Receipt:
        return self._call(f"attest {round_number}", "attest", round_number, bytes(model), verdicts)

    def advance(self, round_number: int, phase: str = "") -> Receipt:
        """Closes the phase that is over; `phase` only tells the closes of one round apart."""
        return self._call(f"advance {round_number} {phase}".rstrip(), "advance", round_number)

    # Relaying: many participants' actions in one transaction. What the contract would refuse alone is skipped; `check_`
    # tells beforehand what that is now, entry by entry: the error, or None for what would be taken.

    def relay_commits(self, round_number: int, commits: Sequence[SignedCommit]) -> Receipt:
        return self._call(None, "relayCommits", round_number, _commits(commits))

    def check_commits(self, round_number: int, commits: Sequence[SignedCommit]) -> list[Reverted | None]:
        return self._check("relayCommits", round_number, _commits(commits))

    def relay_reveals(self, round_number: int, reveals: Sequence[Opening]) -> Receipt:
        return self._call(None, "relayReveals", round_number, _openings(reveals))

    def check_reveals(self, round_number: int, reveals: Sequence[Opening]) -> list[Reverted | None]:
        return self._check("relayReveals", round_number, _openings(reveals))

    def relay_attestations(
        self, round_number: int, model: Digest, verdicts: bytes, signatures: Sequence[Signature]
    ) -> Receipt:
        return self._call(
            None, "relayAttestations", round_number, bytes(model), verdicts, [*map(_signature, signatures)]
        )

    def check_attestations(
        self, round_number: int, model: Digest, verdicts: bytes, signatures: Sequence[Signature]
    ) -> list[Reverted | None]:
        return self._check("relayAttestations", round_number, bytes(model), verdicts, [*map(_signature, signatures)])

    def _call(self, key: str | None, name: str, *values: object) -> Receipt:
        return self._sender.send(key, call(self._ledger, name, *values))

    def _look(self, name: str, *values: object) -> Any:
        """What a call would return now; nothing is sent."""
        return self._sender.ask(call(self._ledger, name, *values))

    def _check(self, name: str, *values: object) -> list[Reverted | None]:
        answer = self._look(name, *values)
        return [from_revert(bytes(refusal)) if refusal else None for refusal in answer]


def _metadata(metadata: Metadata) -> tuple[object, ...]:
    return tuple(getattr(metadata, name) for name in metadata.__slots__)


def _signature(signature: Signature) -> tuple[object, ...]:
    return signature.deadline, signature.r, signature.vs


def _commits(commits: Sequence[SignedCommit]) -> list[tuple[object, ...]]:
    return [(commit.seal, _signature(commit.signature)) for commit in commits]


def _openings(reveals: Sequence[Opening]) -> list[tuple[object, ...]]:
    return [(opening.participant, _metadata(opening.metadata)) for opening in reveals]
