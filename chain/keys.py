"""A participant's key in an encrypted file (Web3 Secret Storage, version 3): the format of geth and of other wallets.

Neither the key nor the password is ever in a message, a log or a `repr`. `LocalAccount` shows only its address.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any, Literal

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import is_hex_address, to_checksum_address
from pydantic_core import from_json

from chain.files import sync_folder
from chain.protocol.errors import ConfigError

Kdf = Literal["scrypt", "pbkdf2"]
MAX_FILE = 1 << 16
MAX_SCRYPT_MEMORY = 1 << 30  # bytes; the standard cost takes 256 MiB
MAX_SCRYPT_FACTOR = 64  # r and p, of which wallets write at most 8: with a small n they cost time and no memory
MAX_PBKDF2_ROUNDS = 10_000_000
MAX_DERIVED = 64  # bytes of derived key; all wallets write 32


def create(path: Path, password: str, kdf: Kdf = "scrypt", work: int | None = None) -> str:
    """Makes a new key, writes it to `path` (mode 0600), returns its checksummed address.

    scrypt, geth's standard (n = 262144), is the default: it takes 0.6 s and 256 MiB, once at the start of a node, and
    a stolen file then costs an attacker 256 MiB for every guess. pbkdf2 (1,000,000 rounds) takes 0.2 s and next to no
    memory: for many keys on a small machine. `work` is n or the number of rounds; small values are for tests.
    Raises ConfigError if `path` exists, the password is empty, or the file cannot be written.
    """
    if not password:
        raise ConfigError(path, "the password is empty")
    account = Account.create()
    document = json.dumps(Account.encrypt(account.key, password, kdf, work)).encode()
    try:
        _write_new(path, document)
    except FileExistsError:
        raise ConfigError(path, "already exists", "a key is never overwritten; choose another name") from None
    except OSError as error:
        raise ConfigError(path, f"cannot be written: {error.strerror}") from None
    return str(account.address)


def address_of(path: Path) -> str:
    """The checksummed address that the file claims, without the password. Raises ConfigError naming what is wrong.

    Only `unlock` proves the claim.
    """
    address = _load(path).get("address")
    if not isinstance(address, str) or not is_hex_address(address):
        raise ConfigError(path, "no valid address in the key file")
    return str(to_checksum_address(address))


def unlock(path: Path, password: str) -> LocalAccount:
    """The account of a key file. Raises ConfigError: no such file, not a key file, wrong version, wrong password."""
    claimed = address_of(path)
    document = _load(path)
    _check_cost(path, document)
    try:
        account: LocalAccount = Account.from_key(Account.decrypt(document, password))
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, AssertionError) as error:
        # eth-keyfile's errors are of these classes; their text may quote the file, so only the known one is passed on.
        if str(error) == "MAC mismatch":
            raise ConfigError(path, "wrong password") from None
        raise ConfigError(path, "damaged: cannot be decrypted") from None
    if account.address != claimed:
        raise ConfigError(path, "damaged: the address in the file is not that of its key")
    return account


def read_password(path: Path) -> str:
    """The first line of a password file. Raises ConfigError if it is missing, empty, or readable by others."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                raise ConfigError(path, "the password file is open to other users", f"chmod 600 {path}")
            line = file.readline(MAX_FILE)
    except OSError as error:
        raise ConfigError(path, f"cannot read the password file: {error.strerror}") from None
    try:
        password = line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigError(path, "the password is not UTF-8") from None
    if not password:
        raise ConfigError(path, "the first line, the password, is empty")
    return password


def _write_new(path: Path, data: bytes) -> None:
    """Durable once it returns. Raises FileExistsError instead of replacing a file, OSError as the system does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE + 1)
        document = from_json(text) if len(text) <= MAX_FILE else None
    except FileNotFoundError:
        raise ConfigError(path, "no such key file") from None
    except OSError as error:
        raise ConfigError(path, f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConfigError(path, "not a key file: not JSON") from None
    if not isinstance(document, dict):
        raise ConfigError(path, "not a key file")
    if document.get("version") != 3:
        raise ConfigError(path, "not a key file of version 3")
    # Older wallets write "Crypto".
    return {key.lower(): value for key, value in document.items()}


def _check_cost(path: Path, document: dict[str, Any]) -> None:
    """A foreign file must not be able to take all memory or run for ever."""
    try:
        crypto = document["crypto"]
        parameters = crypto["kdfparams"]
        if crypto["kdf"] == "scrypt":
            affordable = 128 * parameters["n"] * parameters["r"] * parameters["p"] <= MAX_SCRYPT_MEMORY
            affordable = affordable and max(parameters["r"], parameters["p"]) <= MAX_SCRYPT_FACTOR
        else:
            affordable = parameters["c"] <= MAX_PBKDF2_ROUNDS
        affordable = affordable and parameters["dklen"] <= MAX_DERIVED
    except (KeyError, TypeError):
        raise ConfigError(path, "not a key file: parameters are missing") from None
    if not affordable:
        raise ConfigError(path, "the key file asks for more work than is allowed")
