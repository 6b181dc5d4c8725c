"""Who signs: a key in the environment, or a signing server over real HTTP, honest and otherwise."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_account.signers.local import LocalAccount

from chain.client import LedgerClient
from chain.protocol.errors import ConfigError, Unavailable
from chain.signers import LocalSigner, RemoteSigner, from_environment
from fl_node.config import NodeConfig
from tests.integration.conftest import MAKE
from tests.integration.harness import Federation, Nodes, invoke
from tests.integration.serving import Handler, serving

Change = Callable[[str, Any], Any]
LISTED = [{"address": "0x" + "66" * 20, "storageKeys": []}]
TYPED = {
    "types": {
        "EIP712Domain": [{"name": "name", "type": "string"}, {"name": "chainId", "type": "uint256"}],
        "Vote": [{"name": "round", "type": "uint32"}, {"name": "model", "type": "bytes32"}],
    },
    "primaryType": "Vote",
    "domain": {"name": "roundledger", "chainId": 31337},
    "message": {"round": 7, "model": "0x" + "ab" * 32},
}


@contextlib.contextmanager
def signing_server(
    account: LocalAccount, seen: list[Any], ask: Change = lambda _, params: params, chain_id: int | None = None
) -> Iterator[str]:
    """web3signer's three methods for one key. `ask` changes what it believes that it was asked."""

    class Signer(Handler):
        def do_POST(self) -> None:
            request = json.loads(self.body())
            seen.append(request)
            self.answer(json.dumps({"jsonrpc": "2.0", "id": request["id"], **self.answer_to(request)}).encode())

        def answer_to(self, request: dict[str, Any]) -> dict[str, Any]:
            method, params = request["method"], ask(request["method"], request["params"])
            if method == "eth_accounts":
                return {"result": [account.address.lower()]}
            if method == "eth_signTypedData":
                return {"result": account.sign_typed_data(full_message=params[1]).signature.to_0x_hex()}
            fields = {name: value for name, value in params[0].items() if name != "from"}
            fields |= {"chainId": hex(chain_id)} if chain_id else {}
            return {"result": account.sign_transaction({"type": 2, **fields}).raw_transaction.to_0x_hex()}

    with serving(Signer) as url:
        yield url


def use(config: Path, key: str) -> None:
    """Replaces the keystore of a node.toml."""
    lines = [line for line in config.read_text().split("\n") if not line.startswith(("keystore", "password_file"))]
    config.write_text("\n".join([*lines, key]))


# ----------------------------------------------------------------- the signers


def test_every_signer_signs_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deterministic signatures (RFC 6979): the same bytes from memory, environment and server."""
    account: LocalAccount = Account.create()
    monkeypatch.setenv("NODE_KEY", account.key.to_0x_hex())
    fields = {"chainId": 31337, "nonce": 3, "gas": 60_000, "value": 0, "data": b"\1\2"}
    fields |= {"to": account.address, "maxFeePerGas": 10**10, "maxPriorityFeePerGas": 0}
    with signing_server(account, []) as url:
        signers = [LocalSigner(account), from_environment("NODE_KEY"), RemoteSigner(url, account.address)]
        assert {signer.address for signer in signers} == {account.address}
        assert len({signer.sign_transaction(fields) for signer in signers}) == 1
        assert len({signer.sign_transaction(fields | {"data": "0x0102"}) for signer in signers}) == 1
        (signature,) = {signer.sign_typed(TYPED) for signer in signers}
    assert Account.recover_message(encode_typed_data(full_message=TYPED), signature=signature) == account.address


@pytest.mark.parametrize("text", ["", "not a key SECRET", "12" * 31, "00" * 32, "ff" * 32])
def test_environment_without_a_key_names_the_variable_and_not_what_it_holds(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NODE_KEY", text)
    with pytest.raises(ConfigError, match=r"\$NODE_KEY: .*64 hex digits") as caught:
        from_environment("NODE_KEY")
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("nonce", "0x9"), ("to", "0x" + "66" * 20), ("value", "0x1"), ("data", "0xee"), ("maxFeePerGas", "0xffffffffffff"),
     ("maxPriorityFeePerGas", "0xfff"), ("gas", "0xfffff"), ("accessList", LISTED)],
)  # fmt: skip
def test_remote_signer_that_signs_another_transaction_is_found(field: str, value: Any) -> None:
    account: LocalAccount = Account.create()

    def another(method: str, params: Any) -> Any:
        return [params[0] | {field: value}] if method == "eth_signTransaction" else params

    fields = {"chainId": 31337, "nonce": 3, "gas": 60_000, "value": 0, "data": b"\1\2"}
    fields |= {"to": account.address, "maxFeePerGas": 10**10, "maxPriorityFeePerGas": 0}
    said = f"remote signer .*: (it signed {field} |its answer is no signed)"
    with signing_server(account, [], another) as url, pytest.raises(ConfigError, match=said):
        RemoteSigner(url, account.address).sign_transaction(fields)


def test_remote_signer_of_another_account_or_chain_is_found() -> None:
    account, other = Account.create(), Account.create()
    fields = {"chainId": 31337, "nonce": 3, "gas": 60_000, "value": 0, "data": b""}
    fields |= {"to": account.address, "maxFeePerGas": 10**10, "maxPriorityFeePerGas": 0}
    with signing_server(other, []) as url:
        remote = RemoteSigner(url, account.address)
        with pytest.raises(ConfigError, match=f"it has no key for {account.address}"):
            remote.check()
        for sign in (lambda: remote.sign_transaction(fields), lambda: remote.sign_typed(TYPED)):
            with pytest.raises(ConfigError, match=f"it signed as {other.address} instead of {account.address}"):
                sign()
    said = r"it signed chainId 5 instead of 31337 \(check its key and its chain id\)"
    with signing_server(account, [], chain_id=5) as url, pytest.raises(ConfigError, match=said):
        RemoteSigner(url, account.address).sign_transaction(fields)


def test_remote_signer_that_signs_other_typed_data_is_found() -> None:
    account: LocalAccount = Account.create()
    other = TYPED | {"message": {"round": 8, "model": "0x" + "ab" * 32}}

    def another(method: str, params: Any) -> Any:
        return [params[0], other] if method == "eth_signTypedData" else params

    with signing_server(account, [], another) as url, pytest.raises(ConfigError, match="something else than was asked"):
        RemoteSigner(url, account.address).sign_typed(TYPED)


def test_remote_signer_that_is_down_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"remote signer http://127.0.0.1:1: not available: cannot connect"):
        RemoteSigner("http://127.0.0.1:1/SECRET", Account.create().address).check()


# -------------------------------------------------------------------- the node


def test_node_takes_part_with_a_remote_signer_and_with_a_key_in_the_environment(
    federation: MAKE, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, seen = federation(2, rounds=1, commit_window=120, reveal_window=120, attest_window=120), []
    first, second = made.accounts
    monkeypatch.setenv("ROUNDLEDGER_KEY", second.key.to_0x_hex())
    with signing_server(first, seen) as url:
        use(made.config(1), f'remote_signer = "{url}"\naddress = "{first.address}"')
        use(made.config(2), 'key_environment = "ROUNDLEDGER_KEY"')
        for path in (made.folder / "keys").glob("node-*"):
            path.unlink()
        nodes.start(made.config(1), made.config(2))
        for name in ("node-1", "node-2"):
            assert nodes.wait("done", name).round == 1
    assert {request["method"] for request in seen} == {"eth_accounts", "eth_signTransaction"}
    assert made.audit()[0] == 0
    everything = "".join(path.read_text() for path in (made.folder.parent / "logs").rglob("*") if path.is_file())
    assert second.key.hex() not in everything


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "exactly one of"),
        ('key_environment = "A"\nkeystore = "k"\npassword_file = "p"', "exactly one of"),
        ('keystore = "keys/node-1.json"', "`keystore` and `password_file` belong together"),
        ('remote_signer = "http://127.0.0.1:1"', "`remote_signer` and `address` belong together"),
        ('remote_signer = "http://127.0.0.1:1"\naddress = "0x12"', "not an address"),
        ('key_environment = "ROUNDLEDGER_NO_SUCH_KEY"', "$ROUNDLEDGER_NO_SUCH_KEY: not set"),
    ],
)
def test_node_without_exactly_one_key_says_what_to_write(federation: MAKE, key: str, said: str) -> None:
    made: Federation = federation(2)
    use(made.config(1), key)
    done = invoke("node", "run", "--config", made.config(1))
    assert (done.code, said in done.said) == (2, True), done.said


def test_participant_is_known_without_its_password(federation: MAKE, monkeypatch: pytest.MonkeyPatch) -> None:
    made = federation(2)
    monkeypatch.setenv("ROUNDLEDGER_KEY", made.accounts[0].key.to_0x_hex())
    keystore = 'keystore = "keys/node-1.json"\npassword_file = "keys/none"'
    remote = f'remote_signer = "http://127.0.0.1:1"\naddress = "{made.address(1)}"'
    plain = made.config(1).read_text()
    for key in (keystore, 'key_environment = "ROUNDLEDGER_KEY"', remote):
        made.config(1).write_text(plain)
        use(made.config(1), key)
        assert NodeConfig.load(made.config(1)).participant() == made.address(1)


def test_client_signs_through_the_server(federation: MAKE) -> None:
    made, seen = federation(2, enrolled=[1]), []
    with signing_server(made.owner, seen) as url:
        client = LedgerClient(made.url, made.deployment, RemoteSigner(url, made.owner.address))
        client.enrol(made.address(2))
    assert made.address(2) in made.history().members
    assert [request["method"] for request in seen] == ["eth_signTransaction"]
