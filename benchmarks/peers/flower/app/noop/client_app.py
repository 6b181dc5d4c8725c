"""The client: sends back what it was sent, with a tiny number added.

Flower's object store keeps equal arrays once and does not send them again. Training never returns what came in, so a
no-op has to change every array too, each client and each round in its own way.
"""

import time

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

TINY = 1e-3

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Change the arrays without training, and say how long that took."""
    arrays = message.content["arrays"].to_numpy_ndarrays()
    step = TINY * (1 + int(context.node_config["partition-id"])) * int(message.content["config"]["server-round"])
    start = time.monotonic()
    changed = [array.copy() for array in arrays]
    for array in changed:
        np.add(array, step, out=array)
    seconds = time.monotonic() - start
    metrics = MetricRecord({"num-examples": 1, "seconds": seconds})
    content = RecordDict({"arrays": ArrayRecord(numpy_ndarrays=changed), "metrics": metrics})
    return Message(content=content, reply_to=message)
