"""The methods that are compared: dense averaging, the compressors of the literature, and roundledger's own rules.

Every method has a server learning rate of its own, tuned as `benchmarks.accuracy --tune` does: on a seed that the
measurement does not use. The rules that `roundledger` takes by default are `DEFAULT`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from benchmarks.compressors import DGC, STC, Compressor, Dense, PowerSGD, TopK
from benchmarks.simulation import Channels, Federation, Method, Peer


@dataclass(frozen=True)
class Candidate:
    """A named way to make a method for a federation. `ours`: it goes through verified channels."""

    name: str
    make: Callable[[Federation, float], Method]
    rate: float = 1.0  # of the server
    ours: bool = False

    def method(self, federation: Federation, rate: float | None = None) -> Method:
        return self.make(federation, self.rate if rate is None else rate)


def peer(name: str, make: Callable[[], Compressor], rate: float = 1.0) -> Candidate:
    return Candidate(name, lambda _, rate: Peer(make(), rate), rate)


def channels(name: str, rules: dict[str, dict[str, Any]], rate: float = 1.0, *, residual: bool = True) -> Candidate:
    def make(federation: Federation, rate: float) -> Method:
        server = {"server_learning_rate": Decimal(str(rate))}
        own = rules | {"aggregation": rules.get("aggregation", {}) | server}
        return Channels(federation, own, residual=residual)

    return Candidate(name, make, rate, ours=True)


def rules(
    upload_rate: str, *, weighting: str = "all", bits: int = 8, entries: str = "1", **selection: Any
) -> dict[str, Any]:
    block = 2**20 if bits == 2 else 32  # with signs one scale a layer is best, so one a row costs nothing
    return {
        "selection": {"upload_rate": Decimal(upload_rate), **selection},
        "compression": {"bits": bits, "block": block, "entry_rate": Decimal(entries)},
        "aggregation": {"weighting": weighting},
    }


PER_ENTRY = {"budget": "bytes", "norm": "per-entry"}
PATHS = {"channels": "path", "layers": ["conv1", "conv2", "hidden1", "output"]}
DEFAULT = rules("0.5", weighting="root", bits=2, entries="0.018")
DENSE = "dense FedAvg"

CANDIDATES = {
    candidate.name: candidate
    for candidate in (
        peer(DENSE, Dense),
        peer("top-k 1%", lambda: TopK(0.01)),
        peer("top-k 1%, root", lambda: TopK(0.01, weighting="root")),
        peer("DGC 1%", lambda: DGC(0.01)),
        peer("PowerSGD rank 1", lambda: PowerSGD(1)),
        peer("PowerSGD rank 4", lambda: PowerSGD(4)),
        peer("STC 1%", lambda: STC(0.01)),
        peer("STC 1%, root", lambda: STC(0.01, weighting="root")),
        peer("STC 1.8%, root", lambda: STC(0.018, weighting="root")),
        channels("channels 10%, no residual", rules("0.1"), residual=False),
        channels("channels 10%", rules("0.1")),
        channels("channels 10%, common", rules("0.1", selection="common")),
        channels("paths 1%", rules("0.01", **PATHS)),
        channels("channels 10% of bytes, per entry, 3 bits, root", rules("0.1", bits=3, weighting="root", **PER_ENTRY)),
        channels("channels 50%, signs of 1.8%, all", rules("0.5", bits=2, entries="0.018")),
        channels("channels 50%, signs of 1.8%, root", DEFAULT),
        channels("channels 50%, signs of 1%, root", rules("0.5", bits=2, weighting="root", entries="0.01")),
    )
}
