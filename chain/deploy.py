"""Deploying a ledger and pinning it: the deployment record is made from what the chain says after the fact, not from
what was sent.
"""

from pathlib import Path

from eth_account.signers.local import LocalAccount

from chain import artifacts
from chain.calls import creation
from chain.files import read_small, write_atomic
from chain.protocol.deployment import Deployment, code_hash
from chain.protocol.digest import Digest
from chain.protocol.errors import Code, ConfigError, TrustError
from chain.protocol.rules import Rules
from chain.rpc import Rpc
from chain.sender import Sender


def deploy(url: str, owner: LocalAccount, rules: Rules, genesis_model: Digest, federation: str) -> Deployment:
    """Creates the contract owned by `owner` and returns its deployment record.

    Raises TrustError when the bytecode that the chain reports is not the committed artifact's, otherwise as
    `Sender.send`.
    """
    sender, rpc = Sender(url, owner), Rpc(url)
    on_chain = (
        bytes(rules.digest),
        bytes(genesis_model),
        rules.ledger.commit_window,
        rules.ledger.reveal_window,
        rules.ledger.attest_window,
        rules.ledger.min_updates,
        rules.ledger.quorum_bps,
    )
    receipt = sender.send(None, creation(owner.address, on_chain))
    code = bytes.fromhex(rpc.call("eth_getCode", receipt.contract, hex(receipt.block))[2:])
    if not artifacts.runtime_matches(code):
        raise TrustError(Code.L1, f"bytecode of {receipt.contract}", "the committed artifact", code_hash(code))
    return Deployment(
        chain_id=int(rpc.call("eth_chainId"), 16),
        genesis_block=rpc.call("eth_getBlockByNumber", "0x0", False)["hash"],
        address=str(receipt.contract),
        block=receipt.block,
        bytecode_hash=code_hash(code),
        rules_digest=str(rules.digest),
        genesis_model=str(genesis_model),
        federation=federation,
    )


def save_deployment(deployment: Deployment, path: Path) -> None:
    write_atomic(path, deployment.to_json())


def load_deployment(path: Path) -> Deployment:
    """Raises ConfigError naming the file and the field."""
    try:
        data = read_small(path)
    except OSError as error:
        raise ConfigError(path, f"cannot read the deployment record: {error.strerror}") from None
    return Deployment.parse(data, path)
