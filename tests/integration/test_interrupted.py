"""Ctrl-C in the first second: while the command imports, where an exception may be swallowed."""

from pathlib import Path

import pytest

from tests.integration.harness import command

SWALLOWED = """
import signal, sys

class Interrupting:  # looks for no module itself
    def find_spec(self, name, *_):
        if name == {name!r}:
            try:
                signal.raise_signal(signal.SIGINT)
            except BaseException:
                pass

sys.meta_path.insert(0, Interrupting())
"""


@pytest.mark.parametrize("module", ["typer", "fl_node.cli.relay", "numpy"])
def test_ctrl_c_is_heard_in_the_middle_of_any_import(module: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SWALLOWED.format(name=module))
    done = command("demo", "--dir", tmp_path / "demo", environment={"PYTHONPATH": str(tmp_path)})
    assert (done.code, done.out, done.err) == (130, "", "")
    assert not (tmp_path / "demo" / "keys").exists()
