"""strace on one thread: kills the process when the thread enters a system call that writes, sends or syncs.

strace counts each kind of call by itself, so a place is (call, how often): ("fdatasync", 3).
"""

import re
import subprocess
import time
from pathlib import Path

MAIN, RESIDUAL = "main", "residual"  # the threads of a node that write
CALLS = (
    "write,pwrite64,writev,pwritev,sendto,sendmsg,fsync,fdatasync,sync_file_range,ftruncate,fallocate,"
    "rename,renameat,renameat2,unlink,unlinkat,mkdir,link,linkat,fchmod,flock"
)
CALL = re.compile(r"(\w+)\((.*)")
ATTACH = 20.0  # seconds


class Traced:
    """A thread that dies with its process when it enters `call` for the `count`-th time; 0: it does not."""

    def __init__(self, thread: int, call: str, count: int, log: Path) -> None:
        self.log = log
        command = ["strace", "-q", "-y", "-s", "0", "-p", str(thread), "-e", f"trace={CALLS}", "-o", str(log)]
        if count:
            command += ["-e", f"inject={call}:signal=KILL:when={count}"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def finish(self) -> list[tuple[str, str]]:
        """(call, what it was about) of everything that the thread did until it was gone."""
        self._process.wait(ATTACH)
        found = (CALL.match(line) for line in self.log.read_text().splitlines())
        return [(match[1], about(match[2])) for match in found if match]


def about(arguments: str) -> str:
    """What a call acts on, without what differs from run to run: the kind of file, or the socket."""
    if "socket:" in arguments:
        return "socket"
    paths = re.findall(r"[<\"](/[^>\"]*)", arguments)
    name = re.sub(r"[0-9a-f]{64}", "*", Path(paths[0]).name) if paths else ""
    name = re.sub(r"^[0-9a-f]{2}$", "a folder of blobs", name)
    return re.sub(r"^(\..*)\.[^.]*$", r"\1 in the making", name)


def until_traced(thread: int) -> None:
    """Waits, in the process of this thread, until somebody traces it."""
    deadline, status = time.monotonic() + ATTACH, Path(f"/proc/self/task/{thread}/status")
    while "TracerPid:\t0" in status.read_text():
        if time.monotonic() > deadline:
            raise TimeoutError("nobody traces this thread")
        time.sleep(0.002)
