"""The ledger's verbs as typed calls, for one account. Reading is `chain.reader`'s part."""

from collections.abc import Sequence

from eth_account.signers.local import LocalAccount
from web3.contract import Contract

from chain import artifacts
from chain.errors import Reverted, from_revert
from chain.protocol.deployment import Deployment
from chain.protocol.digest import Digest
from chain.protocol.events import Opening
from chain.protocol.seal import Metadata
from chain.sender import Receipt, Sender
from chain.signing import Signature, SignedCommit


class LedgerClient:
    """Write access to one deployed ledger. Every method raises the contract's error as the exception of the same name
    (`chain.errors`), Unavailable when the server does not answer, ConfigError when the account cannot pay.
    """

    def __init__(self, url: str, deployment: Deployment, account: LocalAccount) -> None:
        self._sender = Sender(url, account)
        self._contract: Contract = self._sender.web3.eth.contract(
            address=self._sender.web3.to_checksum_address(deployment.address), abi=artifacts.load().abi
        )

    @property
    def address(self) -> str:
        return self._sender.address

    def enrol(self, participant: str) -> Receipt:
        return self._call("enrol", participant)

    def retire(self, participant: str) -> Receipt:
        return self._call("retire", participant)

    def rotate(self, replacement: str, consent: Signature) -> Receipt:
        """Gives this account's number to `replacement` from the next round on; `chain.signing.sign_rotation` makes its
        consent.
        """
        return self._call("rotate", replacement, _signature(consent))

    def set_pauser(self, pauser: str) -> Receipt:
        return self._call("setPauser", pauser)

    def pause(self) -> Receipt:
        return self._call("pause")

    def unpause(self) -> Receipt:
        return self._call("unpause")

    def set_successor(self, successor: str) -> Receipt:
        """Once and for ever: no new round opens afterwards."""
        return self._call("setSuccessor", successor)

    def open(self, round_number: int) -> Receipt:
        return self._call("open", round_number)

    def commit(self, round_number: int, seal: bytes) -> Receipt:
        return self._call("commit", round_number, seal)

    def reveal(self, round_number: int, participant: str, metadata: Metadata) -> Receipt:
        return self._call("reveal", round_number, participant, _metadata(metadata))

    def attest(self, round_number: int, model: Digest, verdicts: bytes) -> Receipt:
        return self._call("attest", round_number, bytes(model), verdicts)

    def advance(self, round_number: int) -> Receipt:
        return self._call("advance", round_number)

    # Relaying: many participants' actions in one transaction. What the contract would refuse alone is skipped; `check_`
    # tells beforehand what that is now, entry by entry: the error, or None for what would be taken.

    def relay_commits(self, round_number: int, commits: Sequence[SignedCommit]) -> Receipt:
        return self._call("relayCommits", round_number, _commits(commits))

    def check_commits(self, round_number: int, commits: Sequence[SignedCommit]) -> list[Reverted | None]:
        return self._check("relayCommits", round_number, _commits(commits))

    def relay_reveals(self, round_number: int, reveals: Sequence[Opening]) -> Receipt:
        return self._call("relayReveals", round_number, _openings(reveals))

    def check_reveals(self, round_number: int, reveals: Sequence[Opening]) -> list[Reverted | None]:
        return self._check("relayReveals", round_number, _openings(reveals))

    def relay_attestations(
        self, round_number: int, model: Digest, verdicts: bytes, signatures: Sequence[Signature]
    ) -> Receipt:
        return self._call("relayAttestations", round_number, bytes(model), verdicts, [*map(_signature, signatures)])

    def check_attestations(
        self, round_number: int, model: Digest, verdicts: bytes, signatures: Sequence[Signature]
    ) -> list[Reverted | None]:
        return self._check("relayAttestations", round_number, bytes(model), verdicts, [*map(_signature, signatures)])

    def _call(self, name: str, *values: object) -> Receipt:
        return self._sender.send(self._contract.get_function_by_name(name)(*values))

    def _check(self, name: str, *values: object) -> list[Reverted | None]:
        answer = self._sender.ask(self._contract.get_function_by_name(name)(*values))
        return [from_revert(bytes(refusal)) if refusal else None for refusal in answer]


def _metadata(metadata: Metadata) -> tuple[object, ...]:
    return tuple(getattr(metadata, name) for name in metadata.__slots__)


def _signature(signature: Signature) -> tuple[object, ...]:
    return signature.deadline, signature.r, signature.vs


def _commits(commits: Sequence[SignedCommit]) -> list[tuple[object, ...]]:
    return [(commit.seal, _signature(commit.signature)) for commit in commits]


def _openings(reveals: Sequence[Opening]) -> list[tuple[object, ...]]:
    return [(opening.participant, _metadata(opening.metadata)) for opening in reveals]
