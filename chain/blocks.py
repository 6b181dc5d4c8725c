"""Which block is meant, and how deep it lies."""

from dataclasses import dataclass
from typing import Literal

Depth = int | Literal["finalized"]  # how many blocks lie on top of one that is acted on; or the chain's own word for it


@dataclass(frozen=True, slots=True)
class Block:
    """A number alone may mean another block after a reorganisation."""

    number: int
    hash: str
    time: int  # seconds since the epoch
