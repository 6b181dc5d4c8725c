"""Who signs for an account: a key in this process, or a signing server that keeps it.

A key is never in a message, a log or a `repr`.

Both give the same two things: a signed transaction (EIP-1559), and a signature over typed data (EIP-712).
"""

import os
from collections.abc import Mapping
from typing import Any, Protocol

import rlp
from coincurve import PrivateKey
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_keys.exceptions import BadSignature
from eth_utils.address import is_checksum_address, to_checksum_address
from eth_utils.exceptions import ValidationError
from hexbytes import HexBytes
from rlp.exceptions import RLPException

from chain.protocol.errors import ConfigError, Unavailable
from chain.protocol.keccak import keccak
from chain.rpc import Rpc, RpcError

# What a server's answer may make the libraries raise: it is text from outside.
_SENSELESS = (
    ValueError, TypeError, KeyError, AttributeError, IndexError, ValidationError, RLPException, BadSignature
)  # fmt: skip
_TYPE = b"\2"  # of a transaction: EIP-1559
# In the order in which they are encoded.
_FIELDS = ("chainId", "nonce", "maxPriorityFeePerGas", "maxFeePerGas", "gas", "to", "value", "data")


class Signer(Protocol):
    """Signs for one account. Raises ConfigError when it cannot, and the user can mend that; Unavailable."""

    @property
    def address(self) -> str:
        """Checksummed (EIP-55)."""

    def sign_transaction(self, fields: Mapping[str, Any]) -> bytes:
        """The signed transaction, as it is sent. `fields`: chainId, nonce, gas, value, data, maxFeePerGas,
        maxPriorityFeePerGas, and `to` unless it creates a contract.
        """

    def sign_typed(self, document: Mapping[str, Any]) -> bytes:
        """65 bytes (r, s, v) over typed data: `types`, `primaryType`, `domain`, `message`, as EIP-712 writes them."""


class LocalSigner:
    """A key in this process's memory."""

    def __init__(self, account: LocalAccount) -> None:
        self.account, self._key = account, PrivateKey(bytes(account.key))

    @property
    def address(self) -> str:
        return str(self.account.address)

    def sign_transaction(self, fields: Mapping[str, Any]) -> bytes:
        """As EIP-1559 writes it, in a quarter of the time that eth-account takes for the same bytes."""
        values: list[Any] = [*(_packed(fields.get(name)) for name in _FIELDS), []]  # no access list
        signature = self._key.sign_recoverable(keccak(_TYPE + rlp.encode(values)), hasher=None)
        r, s, parity = (int.from_bytes(part) for part in (signature[:32], signature[32:64], signature[64:]))
        return _TYPE + bytes(rlp.encode([*values, parity, r, s]))

    def sign_typed(self, document: Mapping[str, Any]) -> bytes:
        return bytes(self.account.sign_typed_data(full_message=dict(document)).signature)


def from_environment(name: str) -> LocalSigner:
    """The key in an environment variable (64 hex digits). Raises ConfigError, without what the variable holds."""
    text = os.environ.get(name)
    if not text:
        raise ConfigError(f"${name}", "not set", "it must hold the participant's private key, 64 hex digits")
    try:
        return LocalSigner(Account.from_key(bytes.fromhex(text.strip().removeprefix("0x"))))
    except (ValueError, ValidationError):
        raise ConfigError(f"${name}", "not a private key", "64 hex digits, with or without 0x") from None


class RemoteSigner:
    """A signing server that speaks web3signer's JSON-RPC. Its answers are checked: who signed, and what."""

    def __init__(self, url: str, address: str) -> None:
        self._rpc, self._address = Rpc(url), address
        if not is_checksum_address(address):
            raise ConfigError("address", f"not an address in EIP-55 spelling: {address}")

    @property
    def address(self) -> str:
        return self._address

    def check(self) -> None:
        """Raises ConfigError unless the server has the account's key, Unavailable if it cannot be asked."""
        accounts = self._ask("eth_accounts")
        known = [str(account).lower() for account in accounts] if isinstance(accounts, list) else []
        if self.address.lower() not in known:
            raise self._problem(f"it has no key for {self.address}", f"it has {', '.join(known) or 'none'}")

    def sign_transaction(self, fields: Mapping[str, Any]) -> bytes:
        asked = {key: _hex(value) for key, value in fields.items() if key != "type"}
        answer = self._ask("eth_signTransaction", {"from": self.address, **asked})
        try:
            raw = bytes.fromhex(answer.removeprefix("0x"))
            signed, signer = decode(raw), Account.recover_transaction(raw)
        except _SENSELESS:
            raise self._problem("its answer is no signed transaction (EIP-1559)") from None
        self._check_signer(signer)
        for name in _FIELDS:
            wanted = _plain(fields.get(name))
            if signed[name] != wanted:
                raise self._problem(f"it signed {name} {signed[name]!r} instead of {wanted!r}")
        return raw

    def sign_typed(self, document: Mapping[str, Any]) -> bytes:
        answer = self._ask("eth_signTypedData", self.address, dict(document))
        try:
            signature = bytes.fromhex(answer.removeprefix("0x"))
            signer = Account.recover_message(encode_typed_data(full_message=dict(document)), signature=signature)
        except _SENSELESS:
            raise self._problem("its answer is no signature of the typed data") from None
        self._check_signer(signer)
        return signature

    def _check_signer(self, signer: str) -> None:
        if signer != self.address:
            raise self._problem(f"it signed as {signer} instead of {self.address}, or something else than was asked")

    def _ask(self, method: str, *params: Any) -> Any:
        try:
            return self._rpc.call(method, *params)
        except RpcError as error:
            raise self._problem(f"it refused {method}: {error.message}", "see the signer's own log") from None
        except Unavailable as error:
            raise Unavailable(error.code, f"remote signer {self._rpc.name}", error.reason) from None

    def _problem(self, problem: str, hint: str = "check its key and its chain id") -> ConfigError:
        return ConfigError(f"remote signer {self._rpc.name}", problem, hint)


def signer_of(account: LocalAccount | Signer) -> Signer:
    """A key in memory as a signer."""
    return LocalSigner(account) if isinstance(account, LocalAccount) else account


def decode(raw: bytes) -> dict[str, Any]:
    """The fields of a signed EIP-1559 transaction; None for what is empty. Raises ValueError and the like for other
    bytes.
    """
    found = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
    if found["type"] != 2 or found["accessList"]:
        raise ValueError("not a plain EIP-1559 transaction")
    return {name: _plain(found[name]) for name in _FIELDS}


def _plain(value: Any) -> Any:
    """One spelling of a field: numbers as they are, addresses checksummed, data as bytes, nothing as None."""
    if isinstance(value, int):
        return value
    if not value or value == "0x":
        return None
    data = bytes.fromhex(value[2:]) if isinstance(value, str) else bytes(value)
    return to_checksum_address(data) if len(data) == 20 else data


def _packed(value: Any) -> int | bytes:
    """A field as it is encoded: a whole number or bytes, which may come as hex."""
    if value is None:
        return b""
    return bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else value


def _hex(value: Any) -> Any:
    return hex(value) if isinstance(value, int) else "0x" + value.hex() if isinstance(value, bytes) else value
