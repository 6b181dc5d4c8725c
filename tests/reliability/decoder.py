"""What the fuzzer knows of a decoder, and ways to make one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chain.protocol.errors import ConfigError, VerificationError

Decode = Callable[[bytes], object]
Make = Callable[[Path], Decode]
Seeds = Callable[[Path], Sequence[bytes]]

VERIFIED = (VerificationError,)
FILE = (ConfigError,)


@dataclass(frozen=True)
class Decoder:
    """`make(folder)` gives the decoder, in a folder of its own; `seeds(folder)` encodings to be damaged, the first of
    them valid; `documented` the errors that it may raise, all others being escapes; `bombs()` inputs made to cost
    much more than their size; `memory` how many bytes it may take.
    """

    name: str
    make: Make
    seeds: Seeds
    documented: tuple[type[Exception], ...]
    bombs: Callable[[], Sequence[bytes]] = tuple
    memory: int = 256 << 20


def of_bytes(decode: Decode) -> Make:
    return lambda _: decode


def of_file(name: str, read: Callable[[Path], object]) -> Make:
    """A decoder that reads what it is given from a file."""

    def make(folder: Path) -> Decode:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)

        def decode(data: bytes) -> object:
            path.write_bytes(data)
            path.chmod(0o600)
            return read(path)

        return decode

    return make


def always(*seeds: bytes) -> Seeds:
    return lambda _: seeds


def written(write: Callable[[Path], object]) -> Seeds:
    """The seed that a writer leaves in a file."""

    def seeds(folder: Path) -> Sequence[bytes]:
        path = folder / "seed"
        path.unlink(missing_ok=True)
        write(path)
        return [path.read_bytes()]

    return seeds
