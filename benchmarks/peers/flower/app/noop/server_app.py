"""The server: federated averaging over all nodes, with a note of the time at the end of every round."""

import json
import time
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

ARRAYS = 4

app = ServerApp()


class Laps:
    """Appends a line to a file at the start (round 0) and at the end of every round: the time, the longest no-op."""

    def __init__(self, path: Path, nodes: int) -> None:
        self.path = path
        self.nodes = nodes
        self.noops: list[float] = []  # of the current round, in seconds

    def collect(self, replies: list[RecordDict], weighted_by_key: str) -> MetricRecord:
        """Stand in for the weighted mean of the metrics: the longest no-op is what counts."""
        self.noops = [float(reply["metrics"]["seconds"]) for reply in replies]
        return MetricRecord({"seconds": max(self.noops)})

    def note(self, server_round: int, arrays: ArrayRecord) -> None:
        """Stand in for the evaluation of the new model, which Flower calls last in a round."""
        now = time.monotonic()
        if server_round and len(self.noops) != self.nodes:  # Flower averages what is left
            raise RuntimeError(f"round {server_round}: {len(self.noops)} of {self.nodes} nodes replied")
        line = {"round": server_round, "time": now, "noop": max(self.noops, default=0.0)}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.noops = []


def model(parameters: int) -> ArrayRecord:
    """Four arrays of random numbers, which neither compress nor equal one another."""
    random = np.random.default_rng(0)
    sizes = [parameters // ARRAYS] * ARRAYS
    return ArrayRecord(numpy_ndarrays=[random.standard_normal(size, dtype=np.float32) for size in sizes])


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds."""
    config = context.run_config
    nodes = int(config["nodes"])
    laps = Laps(Path(str(config["laps"])), nodes)
    strategy = FedAvg(
        fraction_evaluate=0.0,
        min_train_nodes=nodes,
        min_available_nodes=nodes,
        train_metrics_aggr_fn=laps.collect,
    )
    strategy.start(
        grid=grid,
        initial_arrays=model(int(config["parameters"])),
        num_rounds=int(config["rounds"]),
        timeout=float(config["timeout"]),
        evaluate_fn=laps.note,
    )
