"""The ledger's verbs as typed calls, for one account. Reading is `chain.reader`'s part."""

from eth_account.signers.local import LocalAccount
from web3.contract import Contract

from chain import artifacts
from chain.outbox import Outbox
from chain.protocol.deployment import Deployment
from chain.protocol.digest import Digest
from chain.protocol.seal import Metadata
from chain.sender import Receipt, Sender


class LedgerClient:
    """Write access to one deployed ledger. Every method raises the contract's error as the exception of the same name
    (`chain.errors`), Unavailable when the server does not answer, ConfigError when the account cannot pay.
    """

    def __init__(self, url: str, deployment: Deployment, account: LocalAccount, outbox: Outbox | None = None) -> None:
        self._sender = Sender(url, account, outbox=outbox)
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

    def open(self, round_number: int) -> Receipt:
        return self._call("open", round_number)

    def commit(self, round_number: int, seal: bytes) -> Receipt:
        return self._call("commit", round_number, seal)

    def reveal(self, round_number: int, participant: str, metadata: Metadata) -> Receipt:
        values = tuple(getattr(metadata, name) for name in metadata.__slots__)
        return self._call("reveal", round_number, participant, values)

    def attest(self, round_number: int, model: Digest, verdicts: bytes) -> Receipt:
        return self._call("attest", round_number, bytes(model), verdicts)

    def advance(self, round_number: int) -> Receipt:
        return self._call("advance", round_number)

    def _call(self, name: str, *values: object) -> Receipt:
        return self._sender.send(self._contract.get_function_by_name(name)(*values), f"{name} {values[0]}")
