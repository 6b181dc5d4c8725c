"""The decoders of what a server says of the ledger: answers, logs, whole histories, reverts."""

import json
from collections.abc import Callable
from pathlib import Path

from chain import errors
from chain.http_post import Poster
from chain.protocol import abi, verdicts
from chain.protocol import events as ev
from chain.protocol.deployment import Deployment
from chain.protocol.errors import Unavailable, VerificationError
from chain.protocol.history import History
from chain.protocol.seal import Metadata
from chain.reader import LedgerReader
from chain.rpc import Rpc, RpcError
from tests.reliability import bombs
from tests.reliability.decoder import VERIFIED, Decoder, Make, always, of_bytes
from tests.reliability.of_updates import ADDRESS, BASE

ANSWER = (Unavailable, RpcError, VerificationError)
METADATA = Metadata(BASE, BASE, 1, BASE, BASE, 1, BASE, 7, 2, 1, bytes(32))
DEPLOYMENT = Deployment(
    chain_id=31337,
    genesis_block="0x" + "11" * 32,
    address=ADDRESS,
    block=1,
    bytecode_hash="0x" + "22" * 32,
    rules_digest=str(BASE),
    genesis_model=str(BASE),
)


def _vectors() -> list[ev.Log]:
    """The logs of a real contract, the oldest first."""
    found = json.loads((Path(__file__).parents[1] / "vectors" / "head.json").read_text())
    logs = [log for transaction in found["transactions"] for log in transaction["logs"]]
    return [
        ev.Log(tuple(bytes.fromhex(topic[2:]) for topic in log["topics"]), bytes.fromhex(log["data"][2:]), at)
        for at, log in enumerate(logs, start=1)
    ]


LOGS = _vectors()


def _to_bytes(log: ev.Log) -> bytes:
    """A log as bytes to be damaged: the number of topics, they, the data."""
    return bytes([len(log.topics)]) + b"".join(log.topics) + log.data


def _to_log(data: bytes) -> ev.Log:
    count = data[0] % 5 if data else 0
    topics = tuple(data[1 + 32 * at : 33 + 32 * at] for at in range(count))
    return ev.Log(topics, data[1 + 32 * count :], 7)


def _replay(data: bytes) -> object:
    """A valid history that goes on with another log: the first byte says after how many."""
    history, at = History(), data[0] % len(LOGS) if data else 0
    for log in (*LOGS[:at], _to_log(data[1:])):
        history.apply(log)
    return history


HEAD = "0x" + "11" * 28 + "00" * 4
BLOCK = {"number": "0x1", "hash": "0x" + "22" * 32, "timestamp": "0x5"}


class Canned(Poster):
    """A server that gives the same bytes to every question."""

    def __init__(self, reply: bytes) -> None:
        self._reply = reply

    def post(self, target: str, body: bytes) -> tuple[int, bytes]:
        return 200, self._reply


def _canned(reply: bytes) -> Rpc:
    rpc = Rpc("http://localhost")
    rpc._server = Canned(reply)
    return rpc


def _reply(result: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()


def _batch(*results: object) -> bytes:
    numbered = enumerate(results, start=1)
    return json.dumps([{"jsonrpc": "2.0", "id": number, "result": result} for number, result in numbered]).encode()


def _asked(ask: Callable[[LedgerReader], object]) -> Make:
    return lambda _: lambda data: ask(LedgerReader(_canned(data), DEPLOYMENT))


def _raw(log: ev.Log) -> dict[str, object]:
    topics = [f"0x{topic.hex()}" for topic in log.topics]
    return {"topics": topics, "data": f"0x{log.data.hex()}", "blockNumber": hex(log.block)}


def _answers() -> list[Decoder]:
    refusal = json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": 3, "message": "no", "data": "0x" + "11" * 36}})
    asked = {
        "logs": (lambda reader: list(reader.logs(0, 9)), _reply([_raw(log) for log in LOGS[:3]])),
        "head": (lambda reader: reader.head(1), _reply(HEAD)),
        "block": (lambda reader: reader.find(1), _reply(BLOCK)),
        "time": (LedgerReader.time, _reply(BLOCK)),
        "batch": (lambda reader: reader.read(1, 1), _batch([_raw(log) for log in LOGS[:3]], HEAD, BLOCK)),
        "number": (LedgerReader.block_number, _reply("0x10")),
    }
    deep = bombs.nested(b'{"jsonrpc": "2.0", "id": 1, "result": ')
    many = [_reply([{"topics": ["0x11"] * 100_000, "data": "0x", "blockNumber": "0x1"}]), _reply("0x" + "9" * 100_000)]
    return [
        Decoder(f"rpc {name}", _asked(ask), always(valid, refusal.encode()), ANSWER, lambda: [*deep, *many])
        for name, (ask, valid) in asked.items()
    ]


def decoders() -> list[Decoder]:
    logs = [_to_bytes(log) for log in LOGS]
    numbered = [bytes([at]) + log for at, log in enumerate(logs)]
    # Lengths of arrays and of bytes that lie: the last words of a log.
    lies = [log[:-64] + bytes(24) + b"\xff" * 8 + log[-32:] for log in logs]
    reverts = [selector + bytes(31) + b"\1" + bytes(32) for selector in errors.ERRORS]
    return [
        Decoder("verdicts", of_bytes(verdicts.decode), always(b"\1\0\2", b""), ()),
        Decoder("log", of_bytes(lambda data: ev.decode(_to_log(data))), always(*logs), VERIFIED, lambda: lies),
        Decoder("history", of_bytes(_replay), always(*numbered), VERIFIED),
        Decoder("revert", of_bytes(errors.from_revert), always(*reverts), ()),
        # Whoever calls it turns its error into one of the documented ones.
        Decoder(
            "metadata",
            of_bytes(lambda data: abi.decode(Metadata, data)),
            always(abi.encode(METADATA)),
            (abi.AbiError,),
        ),
        *_answers(),
    ]
