"""Key files: only the right password opens them, and nothing that is said about them tells a secret."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from chain import keys
from chain.protocol.errors import ConfigError

PASSWORD = "correct horse"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A key file whose kdf costs next to nothing."""
    keys.create(tmp_path / "key.json", PASSWORD, "pbkdf2", work=1)
    return tmp_path / "key.json"


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(("kdf", "work"), [("pbkdf2", 1), ("scrypt", 2)])
def test_create_unlock_givesTheSameAddress(tmp_path: Path, kdf: keys.Kdf, work: int) -> None:  # noqa: N802
    path = tmp_path / "new" / "key.json"
    address = keys.create(path, PASSWORD, kdf, work)
    assert json.loads(path.read_text())["crypto"]["kdf"] == kdf
    assert keys.address_of(path) == address == keys.unlock(path, PASSWORD).address
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_create_default_is_the_standard_scrypt(tmp_path: Path) -> None:
    keys.create(tmp_path / "key.json", PASSWORD)
    crypto = json.loads((tmp_path / "key.json").read_text())["crypto"]
    assert crypto["kdf"] == "scrypt"
    assert crypto["kdfparams"]["n"] == 1 << 18


def test_create_never_overwrites(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="already exists"):
        keys.create(path, "other", "pbkdf2", work=1)
    assert path.read_bytes() == before


def test_create_refuses_an_empty_password(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="empty"):
        keys.create(tmp_path / "key.json", "")
    assert not list(tmp_path.iterdir())


def test_create_leaves_nothing_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot be written|already exists"):
        keys.create(tmp_path / "file" / "key.json", PASSWORD, "pbkdf2", work=1)


def test_unlock_wrong_password_says_only_that(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        keys.unlock(path, "a wrong guess")
    assert str(caught.value) == f"{path}: wrong password"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_repr_of_an_account_shows_no_key(path: Path) -> None:
    account = keys.unlock(path, PASSWORD)
    assert account.key.hex() not in repr(account) + str(account) + str(vars(account).get("_address"))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such key file"),
        (b"", "not JSON"),
        (b"\xff\xfe{", "not JSON"),
        (b"[" * 60_000, "not JSON"),
        (b"3", "not a key file"),
        (b"{}", "not a key file of version 3"),
        (b'{"version": 4}', "not a key file of version 3"),
        (b'{"version": 3}', "no valid address"),
        (b" " * (keys.MAX_FILE + 1), "not a key file"),
    ],
)
def test_unlock_names_what_is_wrong_with_the_file(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "key.json"
    if content is not None:
        path.write_bytes(content)
    for read in (keys.address_of, lambda file: keys.unlock(file, PASSWORD)):
        with pytest.raises(ConfigError, match=problem):
            read(path)


def test_unlock_detects_a_changed_address(path: Path) -> None:
    edit(path, address=Account.create().address)
    with pytest.raises(ConfigError, match="not that of its key"):
        keys.unlock(path, PASSWORD)


@pytest.mark.parametrize(
    "crypto",
    [
        {},
        {"kdf": "scrypt", "kdfparams": {"n": 1 << 40, "r": 8, "p": 1}},
        {"kdf": "pbkdf2", "kdfparams": {"c": 1 << 40}},
        {"kdf": "pbkdf2", "kdfparams": {"c": 1}},
        {"kdf": "md5", "kdfparams": {"c": 1}},
        {"kdf": "scrypt", "kdfparams": {"n": "many", "r": 8, "p": 1, "salt": "00", "dklen": 32}},
        {"kdf": "scrypt", "kdfparams": {"n": 3, "r": 8, "p": 1, "salt": "00", "dklen": 32}, "ciphertext": "zz"},
        7,
    ],
)
def test_unlock_survives_damaged_parameters(path: Path, crypto: object) -> None:
    edit(path, crypto=crypto)
    with pytest.raises(ConfigError) as caught:
        keys.unlock(path, PASSWORD)
    assert PASSWORD not in str(caught.value)


def test_unlock_every_cut_file_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ConfigError):
            keys.unlock(path, PASSWORD)


def test_unlock_reads_the_vector_of_the_standard(tmp_path: Path) -> None:
    """Web3 Secret Storage Definition, pbkdf2 test vector, with its address added."""
    path = tmp_path / "key.json"
    key = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"
    document = {
        "address": Account.from_key(key).address,
        "Crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
            "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
            "kdf": "pbkdf2",
            "kdfparams": {
                "c": 262144,
                "dklen": 32,
                "prf": "hmac-sha256",
                "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
            },
            "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
        },
        "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
        "version": 3,
    }
    path.write_text(json.dumps(document))
    assert keys.unlock(path, "testpassword").key.hex().removeprefix("0x") == key


def test_read_password_takes_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes("pässword with spaces \r\nsecond line\n".encode())
    path.chmod(0o600)
    assert keys.read_password(path) == "pässword with spaces "


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o777])
def test_read_password_refuses_a_file_open_to_others(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "password"
    path.write_text(PASSWORD)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        keys.read_password(path)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(("content", "problem"), [(b"", "empty"), (b"\nx", "empty"), (b"\xff\n", "UTF-8")])
def test_read_password_refuses_unusable_content(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=problem):
        keys.read_password(path)


def test_read_password_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        keys.read_password(tmp_path / "password")
