"""NVIDIA FLARE's own FedAvg controller, timed at the server: what a round costs when training costs nothing.

The two methods that FLARE offers for simple persistence are replaced: loading makes a model of the wanted size in
memory, and saving, which ends every round, notes the time instead of writing a file. Nothing else is changed.
FLARE copies this file into the job, so it imports nothing of this repository.
"""

import json
import time
from pathlib import Path

import numpy as np
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.workflows.fedavg import FedAvg

ARRAYS = 4
MARK = "noop_seconds/"  # then the client's name: a key of its own, which FLARE's mean over the clients leaves as it is


class TimedFedAvg(FedAvg):
    """Appends one line of JSON to `log` for every round: its seconds and those of the slowest no-op."""

    def __init__(
        self, num_clients: int, num_rounds: int, parameters: int, log: str, task_check_period: float = 0.5
    ) -> None:
        super().__init__(
            num_clients=num_clients,
            num_rounds=num_rounds,
            persistor_id="",
            ignore_result_error=False,
            task_check_period=task_check_period,
        )
        self.parameters = parameters
        self.log = log
        self.last = 0.0

    def load_model(self) -> FLModel:
        """The first global model: noise, so that no compression on the way profits from zeros."""
        source = np.random.default_rng(0)
        sizes = [self.parameters // ARRAYS + (place < self.parameters % ARRAYS) for place in range(ARRAYS)]
        params = {f"array{place}": source.standard_normal(size, np.float32) for place, size in enumerate(sizes)}
        self.last = time.monotonic()
        return FLModel(params=params)

    def save_model(self, model: FLModel) -> None:
        """The end of a round, which is the start of the next."""
        now = time.monotonic()
        noops = [seconds for key, seconds in (model.metrics or {}).items() if key.startswith(MARK)]
        if len(noops) != self.num_clients:
            raise RuntimeError(f"{len(noops)} of {self.num_clients} clients took part in round {self.current_round}")
        with Path(self.log).open("a") as file:
            file.write(json.dumps({"seconds": now - self.last, "noop": max(noops)}) + "\n")
        self.last = now
