"""The client of the NVIDIA FLARE measurement: trains nothing, changes every array a little, says how long that took.

The change depends on the client and on the round, so that no two updates are equal and nothing can be cached or
de-duplicated. FLARE copies this file into the job, so it imports nothing of this repository.
"""

import time

import numpy as np
import nvflare.client as flare


def main() -> None:
    flare.init()
    site = flare.get_site_name()
    number = int(site.rpartition("-")[2])
    while flare.is_running():
        model = flare.receive()
        if model is None:
            break
        started = time.monotonic()
        change = np.float32(1e-4 * number * (model.current_round + 1))
        params = {name: array + change for name, array in model.params.items()}
        seconds = time.monotonic() - started
        flare.send(flare.FLModel(params=params, metrics={f"noop_seconds/{site}": seconds}))


if __name__ == "__main__":
    main()
