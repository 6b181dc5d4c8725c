"""Where the local Ethereum tools are: the pinned ones of `hardhat-free-local/`, else those on PATH."""

import shutil
from pathlib import Path

from chain.protocol.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
LOCAL = ROOT / "hardhat-free-local"
MODULES = LOCAL / "node_modules"


def tool(name: str) -> Path:
    """The executable `name` (anvil, forge, ganache, node). Raises ConfigError saying how to get it."""
    # npm's launcher for the foundry tools is a Node script around this binary: call it directly, so that signals
    # arrive.
    pinned = [*MODULES.glob(f"@foundry-rs/{name}-*/bin/{name}"), MODULES / ".bin" / name]
    for path in pinned:
        if path.exists():
            return path
    found = shutil.which(name) or (shutil.which(name, path=str(ROOT / ".venv" / "bin")))
    if found is None:
        raise ConfigError(name, "not installed", f"run `make setup`, or `npm ci` in {LOCAL}")
    return Path(found)
