"""Where the local Ethereum tools are: the pinned ones of `hardhat-free-local/`, else those on PATH."""

import shutil
from pathlib import Path

from chain.protocol.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
LOCAL = ROOT / "hardhat-free-local"
MODULES = LOCAL / "node_modules"


def tool(name: str) -> Path:
    """The executable `name` (anvil, forge, ganache, node). Raises ConfigError saying how to get it."""
    # The platform's own package, not npm's launcher, which is a Node script around it: signals must arrive.
    pinned = [*MODULES.glob(f"@foundry-rs/{name}-*/bin/{name}"), MODULES / ".bin" / name]
    for path in pinned:
        if path.exists():
            return path
    found = shutil.which(name) or (shutil.which(name, path=str(ROOT / ".venv" / "bin")))
    if found is None:
        raise ConfigError(name, "not installed", f"run `make setup`, or `npm ci` in {LOCAL}")
    return Path(found)
