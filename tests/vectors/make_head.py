"""Writes head.json: the logs of two little rounds on a real contract, and the head after each.

Run `python tests/vectors/make_head.py`. The contract runs on Anvil with a fixed clock and Anvil's own accounts, so the
file comes out the same every time. Every log bears the head that folding gives (computed here, log by log); every
transaction bears what the contract itself answered after it, and the two must agree or nothing is written.
"""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from web3 import Web3
from web3.exceptions import Web3RPCError

from chain import artifacts
from chain.toolchain import tool

START = 1_800_000_000
HOUR = 3600
GENESIS, MODEL = b"\x01" * 32, b"\x02" * 32
DEADLINE = START + 1_000_000
SUCCESSOR = "0x00000000000000000000000000000000000000A2"
SIGNED = {
    "Commit": "uint32 round,bytes28 seal,uint64 deadline",
    "Attestation": "uint32 round,bytes32 model,bytes verdicts,uint64 deadline",
    "Rotation": "address participant,address replacement,uint64 deadline",
}
RULES = (b"\x03" * 32, GENESIS, HOUR, HOUR, HOUR, 2, 6667)


@contextmanager
def anvil() -> Iterator[Web3]:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [tool("anvil"), "--silent", "--port", str(port), "--timestamp", str(START - 1), "--hardfork", "shanghai"]
    )
    try:
        web3 = Web3(Web3.HTTPProvider(f"http://127.0.0.1:{port}"))
        limit = time.monotonic() + 20
        while not web3.is_connected():
            if time.monotonic() > limit:
                raise TimeoutError("Anvil does not answer")
            time.sleep(0.05)
        yield web3
    finally:
        process.terminate()
        process.wait()


class Recorder:
    """Sends calls one by one at fixed times and keeps their logs with the head after each."""

    def __init__(self, web3: Web3) -> None:
        self.web3 = web3
        self.time = START
        self.head = bytes(28)
        self.transactions: list[dict[str, Any]] = []
        self.names = {
            bytes(keccak(text=_signature(entry))): entry["name"]
            for entry in artifacts.load().abi
            if entry["type"] == "event"
        }

    def deploy(self, owner: str) -> None:
        artifact = artifacts.load()
        factory = self.web3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
        receipt = self._send(factory.constructor(owner, RULES), owner)
        self.contract = self.web3.eth.contract(address=receipt["contractAddress"], abi=artifact.abi)
        self._keep("constructor", receipt)

    def call(self, name: str, sender: str, *arguments: Any) -> None:
        self._keep(name, self._send(self.contract.functions[name](*arguments), sender))

    def sign(self, account: LocalAccount, name: str, values: tuple[Any, ...]) -> tuple[int, bytes, bytes]:
        """By eth_account's EIP-712, in the short form of EIP-2098; the last value is the deadline."""
        chain_id, place = self.web3.eth.chain_id, self.contract.address
        domain = {"name": "roundledger", "version": "1", "chainId": chain_id, "verifyingContract": place}
        fields = [dict(zip(("type", "name"), field.split(), strict=True)) for field in SIGNED[name].split(",")]
        message = dict(zip((field["name"] for field in fields), values, strict=True))
        signed = account.sign_typed_data(domain, {name: fields}, message)
        vs = signed.s | (signed.v - 27) << 255
        return values[-1], signed.r.to_bytes(32, "big"), vs.to_bytes(32, "big")

    def sleep(self, seconds: int) -> None:
        self.time += seconds

    def _send(self, call: Any, sender: str) -> Any:
        self.time += 1
        self.web3.provider.make_request("evm_setNextBlockTimestamp", [self.time])  # type: ignore[arg-type]
        try:
            transaction = call.transact({"from": sender, "gas": 6_000_000})
        except Web3RPCError as error:
            raise RuntimeError(f"{call.fn_name}: {error}") from error
        receipt = self.web3.eth.wait_for_transaction_receipt(transaction)
        assert receipt["status"] == 1, call
        return receipt

    def _keep(self, name: str, receipt: Any) -> None:
        logs = []
        for log in receipt["logs"]:
            topics = [bytes(topic) for topic in log["topics"]]
            self.head = bytes(keccak(self.head + bytes(4) + b"".join(topics) + bytes(log["data"])))[:28]
            logs.append(
                {
                    "event": self.names[topics[0]],
                    "topics": ["0x" + topic.hex() for topic in topics],
                    "data": "0x" + bytes(log["data"]).hex(),
                    "head": "0x" + self.head.hex(),
                }
            )
        answered = bytes(self.contract.functions.head().call())
        assert answered == self.head, f"{name}: the contract says {answered.hex()}, the logs give {self.head.hex()}"
        self.transactions.append({"call": name, "logs": logs, "contractHead": "0x" + answered.hex()})


def _signature(entry: dict[str, Any]) -> str:
    def kind(part: dict[str, Any]) -> str:
        if part["type"].startswith("tuple"):
            array = part["type"].removeprefix("tuple")
            return "(" + ",".join(kind(inner) for inner in part["components"]) + ")" + array
        return str(part["type"])

    return f"{entry['name']}({','.join(kind(part) for part in entry['inputs'])})"


def play(run: Recorder) -> None:
    """One round that is finalized, one that is aborted, one that is relayed, and what else there is to do."""
    operator, alice, bob, carol, heir = list(run.web3.eth.accounts)[:5]
    run.deploy(operator)
    for participant in (alice, bob, carol):
        run.call("enrol", operator, participant)
    run.call("open", alice, 1)

    def metadata(who: str) -> tuple[Any, ...]:
        digest = [bytes(keccak(text=f"{who} {field}")) for field in range(5)]
        return (GENESIS, digest[0], 4096, digest[1], digest[2], 600, digest[3], 74, 8, 1 << 57, digest[4])

    for who in (alice, bob):
        run.call("commit", who, 1, run.contract.functions.sealOf(1, who, metadata(who)).call())
    run.sleep(HOUR)
    run.call("advance", carol, 1)
    for who in (alice, bob):
        run.call("reveal", who, 1, who, metadata(who))
    for who in (alice, bob, carol):
        run.call("attest", who, 1, MODEL, b"\x01\x01")

    run.call("retire", operator, carol)
    run.call("open", bob, 2)
    run.call("transferOwnership", operator, heir)
    run.call("acceptOwnership", heir)
    run.call("enrol", heir, carol)
    run.sleep(HOUR)
    run.call("advance", carol, 2)
    play_relayed(run, heir)


def play_relayed(run: Recorder, owner: str) -> None:
    """A rotated key, a pause, a round of which all but two votes are relayed, and the successor named meanwhile."""
    alice, bob, carol = list(run.web3.eth.accounts)[1:4]
    dan, new = (Account.from_key(keccak(text=name)) for name in ("dan", "alice's new key"))
    run.call("enrol", owner, dan.address)
    run.call("rotate", alice, new.address, run.sign(new, "Rotation", (alice, new.address, DEADLINE)))
    run.call("setPauser", owner, owner)
    run.call("pause", owner)
    run.call("unpause", owner)
    run.call("open", bob, 3)

    def metadata(who: str) -> tuple[Any, ...]:
        digest = [bytes(keccak(text=f"{who} {field} 3")) for field in range(5)]
        return (MODEL, digest[0], 8192, digest[1], digest[2], 700, digest[3], 74, 9, 1 << 58, digest[4])

    commits = []
    for key in (dan, new, dan):  # the third is skipped
        seal = run.contract.functions.sealOf(3, key.address, metadata(key.address)).call()
        commits.append((seal, run.sign(key, "Commit", (3, seal, DEADLINE))))
    run.call("relayCommits", owner, 3, commits)
    run.sleep(HOUR)
    run.call("advance", bob, 3)
    run.call("setSuccessor", owner, SUCCESSOR)
    run.call("relayReveals", owner, 3, [(key.address, metadata(key.address)) for key in (dan, new)])
    model, verdicts = b"\x04" * 32, b"\x01\0\0\x01"
    run.call("attest", bob, 3, b"\x05" * 32, verdicts)
    votes = [run.sign(key, "Attestation", (3, model, verdicts, DEADLINE)) for key in (dan, new)]
    run.call("relayAttestations", owner, 3, model, verdicts, votes)
    run.call("attest", carol, 3, model, verdicts)


def main() -> None:
    with anvil() as web3:
        run = Recorder(web3)
        play(run)
        vectors = {
            "formatVersion": 3,
            "chainId": str(web3.eth.chain_id),
            "contract": run.contract.address,
            "start": "0x" + bytes(28).hex(),
            "transactions": run.transactions,
        }
    path = Path(__file__).with_name("head.json")
    path.write_text(json.dumps(vectors, indent=1) + "\n", "utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
