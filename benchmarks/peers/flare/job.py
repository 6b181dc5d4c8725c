"""One FedAvg job in NVIDIA FLARE's simulator: a process for every client, no evaluation, selection or persistence.

Started by measure.py with the interpreter of FLARE's own environment, in a folder that holds copies of these files.

FLARE's intervals decide the seconds of a round, so the documented ones are set for speed unless `--defaults` is given:
- `task_request_interval`, 0.2 s instead of 2 s: how long a client rests after a task. Shorter does not help: the client
  then asks before the next round is open, and the simulator makes it sleep a fixed 0.5 s.
- `task_check_period` of the controller, 0.01 s instead of 0.5 s: how often it looks whether the round is complete.
- `launch_external_process`: the client's script in a process of its own is woken by events. In the simulator's own
  process, which is the default, both sides look for news every 0.5 s.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

import nvflare
from nvflare.job_config.api import FedJob
from nvflare.job_config.script_runner import FrameworkType, ScriptRunner
from nvflare.recipe import SimEnv
from timed_fedavg import TimedFedAvg

REQUEST_INTERVAL = 0.2
CHECK_PERIOD = 0.01


def build(nodes: int, parameters: int, rounds: int, log: str, defaults: bool) -> FedJob:
    """The job, with FLARE's intervals as they are shipped or as fast as its documentation lets one make them."""
    job = FedJob(name="overhead", min_clients=nodes)
    if defaults:
        job.to_server(TimedFedAvg(nodes, rounds, parameters, log))
    else:
        job.to_server(TimedFedAvg(nodes, rounds, parameters, log, task_check_period=CHECK_PERIOD))
        job.to_server({"server": {"task_request_interval": REQUEST_INTERVAL}})
    job.to_clients(
        ScriptRunner(
            script="client.py",
            framework=FrameworkType.NUMPY,
            launch_external_process=not defaults,
            command=f"{shlex.quote(sys.executable)} -u",
        )
    )
    return job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--parameters", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--workspace", required=True, help="folder for all that FLARE writes")
    parser.add_argument("--log", required=True, help="absolute path; gets the version, then a line for every round")
    parser.add_argument("--defaults", action="store_true", help="leave FLARE's intervals as they are shipped")
    options = parser.parse_args()
    Path(options.log).write_text(json.dumps({"version": nvflare.__version__}) + "\n")
    job = build(options.nodes, options.parameters, options.rounds, options.log, options.defaults)
    SimEnv(num_clients=options.nodes, num_threads=options.nodes, workspace_root=options.workspace).deploy(job)


if __name__ == "__main__":
    main()
