"""A devnet's chain on disk, and its clock after a reload.

Anvil 1.7.1, measured. A dump holds blocks, transactions, logs and accounts; after `--load-state` the logs, receipts,
block hashes, code and storage are the same, with three exceptions, mended here and by flags in `chain.devnet_process`:

- A process writes its own genesis block into the state it loaded. From the second reload on there are two blocks 0, and
  which one answers is chance. `--timestamp` with the time of the first genesis makes them one block.
- The clock starts again at the machine's time (with `--timestamp`, at the genesis): new blocks would be older than
  their parents. So the clock is set to the later of now and the last block.
- Reads at old blocks fail unless their states are dumped too: `anvil_dumpState(true)`, of as many blocks as Anvil keeps
  (`--prune-history`; without that option it keeps all, the file grows with the square of the height, and states that
  it puts aside in `~/.foundry` stay there when it is killed).

Anvil's own `--state` writes in place, and only when it is asked to stop: a kill loses or tears it.
"""

import gzip
import json
import time
import zlib
from pathlib import Path
from typing import Any

from chain.files import write_atomic
from chain.protocol.errors import Code, ConfigError, Unavailable
from chain.rpc import Rpc


def save(rpc: Rpc, path: Path) -> None:
    """Writes Anvil's chain to `path`, whole or not at all. Transactions that wait for a block are not in it.

    Raises Unavailable if Anvil does not answer or sends no usable state, RpcError if it refuses, OSError from the disk.
    """
    try:
        content = gzip.decompress(bytes.fromhex(rpc.call("anvil_dumpState", True).removeprefix("0x")))
        _genesis(json.loads(content))
    except (AttributeError, KeyError, TypeError, ValueError, EOFError, OSError, zlib.error) as error:
        raise Unavailable(Code.L1, rpc.name, f"the devnet sent no usable state ({type(error).__name__})") from None
    write_atomic(path, content, mode=0o600)


def genesis_time(path: Path) -> int:
    """The time of block 0 of a saved chain. Raises ConfigError if the file is not one."""
    try:
        return int(_genesis(json.loads(path.read_bytes()))["timestamp"], 16)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(path, f"not a saved devnet ({type(error).__name__})", "remove it to start afresh") from None


def resume_clock(rpc: Rpc, kind: str) -> None:
    """After a reload: time goes on from the later of now and the last block. Raises Unavailable, RpcError."""
    last = int(rpc.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    moment = max(last, int(time.time()))
    if kind == "anvil":
        rpc.call("anvil_setTime", moment)
    elif moment == last:
        rpc.call("evm_setTime", moment * 1000)


def _genesis(document: Any) -> dict[str, Any]:
    """The header of block 0. Raises ValueError if the dump is not whole."""
    if not isinstance(document, dict) or not isinstance(document.get("accounts"), dict):
        raise ValueError("no accounts")
    headers: list[dict[str, Any]] = [block["header"] for block in document.get("blocks", [])]
    genesis = [header for header in headers if int(header["number"], 16) == 0]
    heights = {int(header["number"], 16) for header in headers}
    if len(genesis) != 1 or heights != set(range(int(document["best_block_number"]) + 1)):
        raise ValueError("blocks are missing")
    return genesis[0]
