"""The ledger's verbs as typed calls, for one account. Reading is `chain.reader`'s part."""

import time
from collections.abc import Callable, Sequence

from eth_account.signers.local import LocalAccount
from web3.contract import Contract

from chain import artifacts
from chain.blocks import Depth
from chain.outbox import Outbox
from chain.protocol.deployment import Deployment
from chain.protocol.digest import Digest
from chain.protocol.seal import Metadata
from chain.rpc import JsonRpc
from chain.sender import REPLACE_AFTER, Receipt, Sender
from chain.signers import Signer


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
    ) -> None:
        self._sender = Sender(rpc, signer, outbox, depth, replace_after=replace_after, pause=pause)
        self._contract: Contract = self._sender.web3.eth.contract(
            address=self._sender.web3.to_checksum_address(deployment.address), abi=artifacts.load().abi
        )

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

    # A round's actions are done once, whoever asks again: the key says what is done.

    def open(self, round_number: int) -> Receipt:
        return self._call(f"open {round_number}", "open", round_number)

    def commit(self, round_number: int, seal: bytes) -> Receipt:
        return self._call(f"commit {round_number}", "commit", round_number, seal)

    def reveal(self, round_number: int, participant: str, metadata: Metadata) -> Receipt:
        values = tuple(getattr(metadata, name) for name in metadata.__slots__)
        return self._call(f"reveal {round_number} {participant}", "reveal", round_number, participant, values)

    def attest(self, round_number: int, model: Digest, verdicts: bytes) -> Receipt:
        return self._call(f"attest {round_number}", "attest", round_number, bytes(model), verdicts)

    def advance(self, round_number: int, phase: str = "") -> Receipt:
        """Closes the phase that is over; `phase` only tells the closes of one round apart."""
        return self._call(f"advance {round_number} {phase}".rstrip(), "advance", round_number)

    def _call(self, key: str | None, name: str, *values: object) -> Receipt:
        return self._sender.send(key, self._contract.get_function_by_name(name)(*values))
