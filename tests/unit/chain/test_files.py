"""TOML that asks for more than it is worth is refused as any other wrong file: found by fuzzing."""

from pathlib import Path

import pytest

from chain.files import load_rules, read_toml
from chain.protocol.errors import ConfigError


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 200_000 + "]" * 200_000,
        "a = " + "9" * 5000,
        "a = 1e99999999999999999999",
        ".".join(["a"] * 66) + " = 1",
        "[" + " . ".join(['"a"'] * 66) + "]",
    ],
)
def test_no_text_costs_more_than_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "federation.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=str(path)):
        read_toml(path)


def test_keys_of_some_depth_and_texts_with_many_dots_are_read(tmp_path: Path) -> None:
    path, dots = tmp_path / "a.toml", "x" * 70 + "." * 70
    path.write_text(f'a.b.c.d = "{dots}"\n')
    assert read_toml(path) == {"a": {"b": {"c": {"d": dots}}}}


@pytest.mark.parametrize("options", ["hidden = 1e999999999", "hidden = " + "[" * 70 + "1" + "]" * 70])
def test_options_beyond_all_bounds_are_named(tmp_path: Path, options: str) -> None:
    path = tmp_path / "federation.toml"
    path.write_text(f'[model]\nfactory = "mlp"\noptions = {{ {options} }}\n')
    with pytest.raises(ConfigError, match=r"model\.options"):
        load_rules(path)
