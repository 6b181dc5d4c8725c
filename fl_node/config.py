"""`node.toml`: what one organisation's node needs to know. Private, unlike `federation.toml`. Paths are relative to
the file.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError

from chain.files import read_toml
from chain.protocol.errors import ConfigError
from chain.protocol.rules import Name, Table, explain


class NodeConfig(Table):
    """One node. `data` is a file or a built-in set, `blobs` a folder or an object store's URL, `poll` in seconds."""

    format: Literal["roundledger-node/1"]
    name: Name
    federation: Path
    deployment: Path
    rpc: Name
    blobs: Name
    data: Name
    keystore: Path
    password_file: Path
    state: Path
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    poll: Annotated[float, Field(gt=0, le=60)] = 0.1

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises ConfigError naming the file and the field."""
        try:
            config = cls.model_validate(read_toml(path))
        except ValidationError as error:
            raise ConfigError(path, explain(error)) from None
        folder = path.absolute().parent
        paths = {
            name: folder / getattr(config, name)
            for name in ("federation", "deployment", "keystore", "password_file", "state")
        }
        return config.model_copy(
            update=paths | {name: place(getattr(config, name), folder) for name in ("blobs", "data")}
        )


def place(location: str, folder: Path) -> str:
    """A URL or the name of a built-in set as it is, a path relative to `folder`."""
    return location if ":" in location else str(folder / location)
