"""The relayer's HTTP side: one JSON object in, one out. It speaks to nodes, so it believes nothing.

    GET  /              {"chain_id", "ledger", "account"}
    POST /commit        {"round", "seal", "signature"}
    POST /reveal        {"round", "participant", "metadata"}          metadata: its ABI encoding
    POST /attest        {"round", "model", "verdicts", "signature"}   signature: {"deadline", "r", "vs"}

Bytes are hex with 0x. An answer comes when the item is on the ledger: 200 {"transaction", "block", "gas", "items"}, or
409 {"refused", "message"} with the ledger's error, 400 for what is no such item, 503 when the chain cannot be asked.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chain.errors import Reverted
from chain.protocol import abi
from chain.protocol.deployment import Deployment
from chain.protocol.errors import RoundledgerError
from chain.protocol.events import Opening
from chain.protocol.seal import SEAL_BYTES, Metadata
from chain.relay import Batch, Brought, Full, Item, Outcome, Relayer
from chain.signing import Signature, SignedCommit

MAX_BODY = 1 << 17  # bytes: 60,000 participants' verdicts
BODY_LIMIT = 5.0  # seconds for all of it: who sends nothing holds a connection no longer
CLOSE = {"Connection": "close"}
Handler = Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]


Hex = Annotated[str, Field(pattern="^0x([0-9a-f]{2})*$")]
Round = Annotated[int, Field(ge=1, lt=1 << 31, strict=True)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Message(Strict, ABC):
    @abstractmethod
    def item(self) -> tuple[Batch, Item]:
        """What is to be brought, and with which others. Raises ValueError for bytes of a wrong size."""


class SignatureMessage(Strict):
    deadline: Annotated[int, Field(ge=0, lt=1 << 64, strict=True)]
    r: Hex
    vs: Hex

    def signature(self) -> Signature:
        return Signature(self.deadline, _sized(self.r, 32), _sized(self.vs, 32))


class CommitMessage(Message):
    round: Round
    seal: Hex
    signature: SignatureMessage

    def item(self) -> tuple[Batch, Item]:
        return Batch("commit", self.round), SignedCommit(_sized(self.seal, SEAL_BYTES), self.signature.signature())


class RevealMessage(Message):
    round: Round
    participant: Hex
    metadata: Hex

    def item(self) -> tuple[Batch, Item]:
        participant = abi.checksum_address(_sized(self.participant, 20))
        return Batch("reveal", self.round), Opening(participant, abi.decode(Metadata, _bytes(self.metadata)))


class AttestMessage(Message):
    round: Round
    model: Hex
    verdicts: Hex
    signature: SignatureMessage

    def item(self) -> tuple[Batch, Item]:
        batch = Batch("attest", self.round, _sized(self.model, 32), _bytes(self.verdicts))
        return batch, self.signature.signature()


MESSAGES: dict[str, type[Message]] = {"commit": CommitMessage, "reveal": RevealMessage, "attest": AttestMessage}


def application(relayer: Relayer, deployment: Deployment) -> web.Application:
    """What `aiohttp.web.run_app` serves."""
    about = {"chain_id": deployment.chain_id, "ledger": deployment.address, "account": relayer.client.address}

    async def tell(_: web.Request) -> web.StreamResponse:
        return web.json_response(about)

    def bring(kind: type[Message]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                async with asyncio.timeout(BODY_LIMIT):
                    body = await request.read()
                batch, item = kind.model_validate_json(body).item()
            except TimeoutError:
                return web.json_response({"message": "the item did not arrive"}, status=408, headers=CLOSE)
            except (ValidationError, ValueError) as error:
                return web.json_response({"message": f"not such an item: {_first_line(error)}"}, status=400)
            try:
                return _answer(await relayer.bring(batch, item))
            except Full as full:
                return web.json_response({"message": str(full)}, status=503)

        return handle

    served = web.Application(client_max_size=MAX_BODY)
    served.router.add_get("/", tell)
    for verb, kind in MESSAGES.items():
        served.router.add_post(f"/{verb}", bring(kind))
    return served


def _answer(outcome: Outcome) -> web.Response:
    if isinstance(outcome, Brought):
        values = {"transaction": outcome.transaction, "block": outcome.block}
        return web.json_response(values | {"gas": outcome.gas, "items": outcome.items})
    if isinstance(outcome, Reverted):
        return web.json_response({"refused": type(outcome).__name__, "message": str(outcome)}, status=409)
    assert isinstance(outcome, RoundledgerError)  # noqa: S101 - the third kind of outcome
    return web.json_response({"message": str(outcome)}, status=503)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _sized(text: str, size: int) -> bytes:
    data = _bytes(text)
    if len(data) != size:
        raise ValueError(f"{size} bytes needed, found {len(data)}")
    return data


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
