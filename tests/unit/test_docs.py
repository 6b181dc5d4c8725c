"""The documents name what the program has: every configuration key, every command."""

import re
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel

from benchmarks import report
from chain.protocol.rules import Rules
from fl_node import coder, update, weights
from fl_node.cli.main import app
from fl_node.config import NodeConfig
from tests.reliability import __main__ as reliability

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = re.compile(r"^\$ roundledger ([a-z]+(?: [a-z]+)?)", re.MULTILINE)


def keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += keys(inner, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


@pytest.mark.parametrize("key", keys(Rules) + keys(NodeConfig))
def test_every_configuration_key_is_documented(key: str) -> None:
    assert f"`{key}`" in (ROOT / "docs" / "configuration.md").read_text()


def test_the_readme_quotes_what_was_measured() -> None:
    readme = (ROOT / "README.md").read_text()
    _, quoted = report.sections(ROOT / "benchmarks" / "results")
    assert len(quoted) > 20
    assert report.with_quote(readme, quoted) == readme


def test_the_readme_quotes_what_reliability_found() -> None:
    readme, rows = (ROOT / "README.md").read_text(), reliability.found_rows()
    assert {row[0].split()[0] for row in rows} >= {"gas", "attacks", "damaged", "kill", "soak:"}
    assert not any(wrong for *_, wrong in rows)
    assert reliability.quoted(readme, rows) == readme


def test_the_architecture_names_the_formats_that_are_written() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    marks = [f"`0x{mark.hex()}`" for mark in (coder.FEW, coder.WITH_SECTIONS)]
    assert all(name in text for name in (*marks, update.FORMAT, weights.FORMAT))


def test_the_readme_calls_commands_that_exist() -> None:
    root = typer.main.get_command(app)
    called = COMMANDS.findall((ROOT / "README.md").read_text())
    assert len(called) >= 6
    for words in called:
        first, *rest = words.split()
        command = root.commands[first]
        assert not hasattr(command, "commands") or rest[0] in command.commands, words
