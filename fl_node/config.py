"""`node.toml`: what one organisation's node needs to know. Private, unlike `federation.toml`. Paths are relative to
the file.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, Strict, ValidationError, model_validator

from chain.fees import CEILING
from chain.files import read_toml
from chain.protocol.errors import ConfigError
from chain.protocol.rules import Name, Table, explain

if TYPE_CHECKING:
    from chain.signers import Signer

BUILTIN = "builtin:"  # what the name of a built-in data set begins with
FULL_NODE_STATES = 64  # half of the blocks whose state a full node still knows


def _usable(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("not the name of a file")
    return path


def _several(value: object) -> object:
    """One server is written without brackets."""
    return (value,) if isinstance(value, str) else value


File = Annotated[Path, AfterValidator(_usable)]


class NodeConfig(Table):
    """One node. `data` is a file or a built-in set, `blobs` a folder or an object store's URL; `poll`,
    `replace_after` and `relay_patience` in seconds, `depth` in blocks, `max_fee` in gwei for a unit of gas.

    Its key is one of three: `keystore` with `password_file`, `key_environment`, or `remote_signer` with `address`.
    """

    format: Literal["roundledger-node/1"]
    name: Name
    federation: File
    deployment: File
    rpc: Annotated[tuple[Name, ...], BeforeValidator(_several), Field(min_length=1)]
    blobs: Name
    data: Name
    keystore: File | None = None
    password_file: File | None = None
    key_environment: Name | None = None
    remote_signer: Name | None = None
    address: Name | None = None
    state: File
    depth: Annotated[int, Strict(), Field(ge=0, le=FULL_NODE_STATES)] | Literal["finalized"] = "finalized"
    replace_after: Annotated[float, Strict(), Field(ge=1, le=86_400)] = 60.0
    max_fee: Annotated[float, Strict(), Field(gt=0, le=10**9)] = CEILING / 10**9
    relay: Name | None = None
    relay_patience: Annotated[float, Strict(), Field(gt=0, le=3_600)] = 10.0
    threads: Annotated[int, Strict(), Field(ge=1, le=256)] = 1
    poll: Annotated[float, Strict(), Field(gt=0, le=60)] = 0.1

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises ConfigError naming the file and the field."""
        try:
            config = cls.model_validate(read_toml(path))
        except ValidationError as error:
            raise ConfigError(path, explain(error)) from None
        folder = path.absolute().parent
        names = ("federation", "deployment", "keystore", "password_file", "state")
        paths = {name: folder / path for name in names if (path := getattr(config, name)) is not None}
        return config.model_copy(
            update=paths | {name: place(getattr(config, name), folder) for name in ("blobs", "data")}
        )

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        ways: tuple[tuple[str, ...], ...] = (
            ("keystore", "password_file"),
            ("key_environment",),
            ("remote_signer", "address"),
        )
        given = {way: [name for name in way if getattr(self, name) is not None] for way in ways}
        used = [way for way in ways if given[way]]
        if len(used) != 1:
            raise ValueError(
                "say what the node signs with: exactly one of `keystore` and `password_file`, `key_environment`, "
                "`remote_signer` and `address`"
            )
        if len(given[used[0]]) < len(used[0]):
            raise ValueError(f"`{used[0][0]}` and `{used[0][1]}` belong together")
        return self

    def signer(self) -> "Signer":
        """What the node signs with. Raises ConfigError, and Unavailable if a remote signer cannot be asked."""
        from chain import keys, signers  # noqa: PLC0415 - slow to load

        if self.key_environment is not None:
            return signers.from_environment(self.key_environment)
        if self.remote_signer is not None and self.address is not None:
            remote = signers.RemoteSigner(self.remote_signer, self.address)
            remote.check()
            return remote
        assert self.keystore is not None  # noqa: S101 - one of the three is given
        assert self.password_file is not None  # noqa: S101 - it belongs to the keystore
        return signers.LocalSigner(keys.unlock(self.keystore, keys.read_password(self.password_file)))

    def participant(self) -> str:
        """The address that the node acts as, without its password. Raises ConfigError."""
        from chain import keys, signers  # noqa: PLC0415 - slow to load

        if self.keystore is not None:
            return keys.address_of(self.keystore)
        if self.key_environment is not None:
            return signers.from_environment(self.key_environment).address
        assert self.address is not None  # noqa: S101 - one of the three is given
        return self.address


def place(location: str, folder: Path) -> str:
    """A URL or the name of a built-in set as it is, a path relative to `folder`."""
    return location if "://" in location or location.startswith(BUILTIN) else str(folder / location)
