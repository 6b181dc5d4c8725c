"""The ledger's verbs through a relayer, with the direct call as the way around it.

A relayer is not trusted: whatever it answers, the ledger is asked whether it would still take the direct call, and if
so that is what is done. So a relayer that is down, slow or lying costs time, and never a round.
"""

import json
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from eth_account.signers.local import LocalAccount
from pydantic_core import from_json

from chain.client import LedgerClient
from chain.errors import Reverted
from chain.http_post import Poster, PostError
from chain.protocol import abi
from chain.protocol.deployment import Deployment
from chain.protocol.digest import Digest
from chain.protocol.errors import Code, ConfigError, Unavailable
from chain.protocol.seal import Metadata
from chain.sender import Receipt
from chain.signers import Signer, signer_of
from chain.signing import Signature, sign_attestation, sign_commit

GOOD_FOR = 600  # seconds that a signature is good for
AGAIN = 5.0  # seconds between looks whether something relayed has vanished in a reorganisation
MAX_ANSWER = 1 << 18  # bytes


class LeftToOthers(Reverted):
    """An account without coin did not even try: for its round it is as if the ledger had refused."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        Exception.__init__(self, reason)

    def __str__(self) -> str:
        return f"left to others: {self.reason}"


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
        if not relay.startswith(("http://", "https://")):
            raise ConfigError("relay", f"not a usable address: {relay}", "write http://HOST:PORT")
        self._relay, self._name = relay.rstrip("/"), urlsplit(relay).netloc.rpartition("@")[2]
        self._signer, self._deployment = signer_of(signer), deployment
        self._server = Poster(self._relay, {}, patience, MAX_ANSWER)
        self._brought: dict[str, tuple[Any, ...]] = {}  # by what the relayer has done: the call that does it
        self._looked, self._lock = 0.0, threading.Lock()

    def keep_alive(self, block: int) -> None:
        """Also does directly what the relayer had brought and a reorganisation has thrown out again."""
        super().keep_alive(block)
        if time.monotonic() - self._looked < AGAIN:
            return
        self._looked = time.monotonic()
        with self._lock:
            for key, call in list(self._brought.items()):
                try:
                    self._settle(key, *call)
                except Unavailable:  # no funds of its own: the relayer must do it again
                    self._ask(call[0], self._message(*call))

    def _call(self, key: str | None, name: str, *values: Any) -> Receipt:
        if name in ("open", "advance") and not self._sender.balance():
            raise LeftToOthers(f"{self.address} has no funds to {name} a round or phase")
        if key is None or name not in ("commit", "reveal", "attest"):
            return super()._call(key, name, *values)
        brought = self._ask(name, self._message(name, *values))
        if brought is None:
            return self._do(key, name, *values)
        with self._lock:
            self._brought = {key: call for key, call in self._brought.items() if call[1] == values[0]}  # of this round
            self._brought[key] = name, *values
            return self._settle(key, name, *values) or brought

    def _do(self, key: str, name: str, *values: Any) -> Receipt:
        """The direct call. Raises as `LedgerClient`; without funds, Unavailable if the ledger would take it."""
        if self._sender.balance():
            return super()._call(key, name, *values)
        self._look(name, *values)
        raise Unavailable(
            Code.L1, f"relayer {self._name}", f"it has not brought the {name}, and there are no funds here"
        )

    def _settle(self, key: str, name: str, *values: Any) -> Receipt | None:
        """Does it directly if the ledger would still take it; None if not: it is done, or can be done no more."""
        try:
            receipt = self._do(key, name, *values)
        except Reverted:
            return None
        self._brought.pop(key, None)
        return receipt

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
            _, answer = self._server.post(f"/{verb}", json.dumps(message).encode())
            found = from_json(answer)
            return Receipt(str(found["transaction"]), int(found["block"]), int(found["gas"]))
        except (PostError, ValueError, KeyError, TypeError):
            return None


def _signature(signature: Signature) -> dict[str, Any]:
    return {"deadline": signature.deadline, "r": _hex(signature.r), "vs": _hex(signature.vs)}


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
