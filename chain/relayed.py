"""The ledger's verbs through a relayer, with the direct call as the way around it.

A relayer is not trusted: whatever it answers, the ledger is asked whether it would still take the direct call, and if
so that is what is done. So a relayer that is down, slow or lying costs time, and never a round.
"""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any

from eth_account.signers.local import LocalAccount
from pydantic import BaseModel, ConfigDict, Field

from chain.answers import NUMBER
from chain.client import LedgerClient
from chain.errors import Reverted
from chain.flight import NoFunds
from chain.http_post import Poster, PostError
from chain.protocol import abi
from chain.protocol.deployment import Deployment
from chain.protocol.digest import Digest
from chain.protocol.errors import Code, Unavailable
from chain.protocol.seal import Metadata
from chain.rpc import address
from chain.sender import Receipt
from chain.signers import Signer, signer_of
from chain.signing import Signature, sign_attestation, sign_commit

GOOD_FOR = 600  # seconds that a signature is good for
MAX_ANSWER = 1 << 18  # bytes


class LeftToOthers(Reverted):
    """An account without coin did not even try: for its round it is as if the ledger had refused."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        Exception.__init__(self, reason)

    def __str__(self) -> str:
        return f"left to others: {self.reason}"


class Brought(BaseModel):
    """What a relayer answers that says it has brought an item."""

    model_config = ConfigDict(strict=True)

    transaction: Annotated[str, Field(max_length=66)]
    block: Annotated[int, Field(ge=0, lt=1 << NUMBER)]
    gas: Annotated[int, Field(ge=0, lt=1 << NUMBER)]


class RelayedClient(LedgerClient):
    """A `LedgerClient` that has its commits, reveals and attestations brought by the relayer at `relay`, if that does
    so within `patience` seconds; everything else, and everything that the relayer fails to do, it does itself.

    An account without any coin can take part all the same: it waits for its relayer, and leaves it to others to open
    rounds and to close phases.
    """

    def __init__(
        self,
        relay: str,
        patience: float,
        rpc: Any,
        deployment: Deployment,
        signer: LocalAccount | Signer,
        *options: Any,
    ) -> None:
        super().__init__(rpc, deployment, signer, *options)
        self._name, self._target, authorization = address("relay", relay)
        self._signer, self._deployment = signer_of(signer), deployment
        self._server = Poster(self._name, authorization, patience, MAX_ANSWER)

    def keep_alive(self, block: int) -> None:
        """What this account cannot pay for is the relayer's."""
        with suppress(NoFunds):
            super().keep_alive(block)

    def _call(self, key: str | None, name: str, *values: Any) -> Receipt:
        if key is None or name not in ("commit", "reveal", "attest"):
            return self._itself(key, name, *values)
        brought = self._ask(name, self._message(name, *values))
        try:
            return self._directly(key, name, *values)
        except Reverted:  # it is done, or can be done no more
            if brought is None:
                raise
            return brought

    def _itself(self, key: str | None, name: str, *values: Any) -> Receipt:
        """What a relayer does not do."""
        try:
            return super()._call(key, name, *values)
        except NoFunds:
            if name in ("open", "advance"):
                raise LeftToOthers(f"{self.address} has no funds to {name} a round or phase") from None
            raise

    def _directly(self, key: str, name: str, *values: Any) -> Receipt:
        """What the relayer has not done, or only says so. Raises as `LedgerClient`; without funds, Unavailable if the
        ledger would take it.
        """
        try:
            return super()._call(key, name, *values)
        except NoFunds:
            self._look(name, *values)
            reason = f"it has not brought the {name}, and there are no funds here"
            raise Unavailable(Code.L1, self._name, reason) from None

    def _message(self, name: str, round_number: int, *values: Any) -> dict[str, Any]:
        """What the relayer is told; signed, where the ledger wants that."""
        by = self._signer, self._deployment, round_number
        deadline = int(time.time()) + GOOD_FOR
        if name == "commit":
            signed = sign_commit(*by, values[0], deadline)
            return {"round": round_number, "seal": _hex(signed.seal), "signature": _signature(signed.signature)}
        if name == "reveal":
            participant, metadata = values
            encoded = abi.encode(Metadata(*metadata))
            return {"round": round_number, "participant": participant.lower(), "metadata": _hex(encoded)}
        model, verdicts = values
        signature = sign_attestation(*by, Digest(model), verdicts, deadline)
        about = {"round": round_number, "model": _hex(model), "verdicts": _hex(verdicts)}
        return about | {"signature": _signature(signature)}

    def _ask(self, verb: str, message: Mapping[str, Any]) -> Receipt | None:
        """What the relayer says it has done; None if it has not, for whatever reason."""
        try:
            _, answer = self._server.post(f"{self._target.rstrip('/')}/{verb}", json.dumps(message).encode())
            brought = Brought.model_validate_json(answer)
        except (PostError, ValueError):
            return None
        return Receipt(brought.transaction, brought.block, brought.gas)


def _signature(signature: Signature) -> dict[str, Any]:
    return {"deadline": signature.deadline, "r": _hex(signature.r), "vs": _hex(signature.vs)}


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
