"""The rules file: what is wrong is named, what is equal has one digest, what differs another."""

import json
import tomllib
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.files import load_rules
from chain.protocol.digest import Digest
from chain.protocol.errors import ConfigError
from chain.protocol.rules import CompressionRules, Rules, SelectionRules

FULL = """
format = "roundledger-federation/1"
name = "clinic"

[model]
factory = "mlp"
options = { hidden = [32, 16], dropout = 0.5, activation = "relu", bias = true }

[data]
classes = ["benign", "malign"]
label = "diagnosis"
id = "patient"
features = ["radius", "texture"]
shape = [2]
center = [10.5, 3]
scale = [2.5, 1]

[training]
rounds = 10
epochs = 2
batch_size = 16
learning_rate = 0.1
schedule = "linear"
momentum = 0.9
weight_decay = 0.001

[selection]
upload_rate = 0.25
warm_up = [0.75, 0.5]
channels = "output"
selection = "own"
norm = "euclidean"
budget = "channels"
scope = "model"

[compression]
bits = 8
block = 32
entry_rate = 0.5

[aggregation]
weighting = "all"
weights = "records"
server_learning_rate = 1.5
server_momentum = 0.5

[ledger]
commit_window = 60
reveal_window = 61
attest_window = 62
min_updates = 3
quorum = 0.6667

[limits]
update_bytes = 1000000
records = 5000
model_bytes = 2000000
"""
Path_ = tuple[str | int, ...]


def document(text: str = FULL) -> dict[str, Any]:
    return tomllib.loads(text, parse_float=Decimal)


def parse(text: str = FULL) -> Rules:
    return Rules.parse(document(text), "federation.toml")


def problem(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert caught.value.where == "federation.toml"
    return caught.value.problem


# --------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("upload_rate = 0.25", "upload_rate = 0", "selection.upload_rate"),
        ("upload_rate = 0.25", "upload_rate = 1.5", "selection.upload_rate"),
        ("upload_rate = 0.25", "upload_rate = -0.25", "selection.upload_rate"),
        ("upload_rate = 0.25", 'upload_rate = "0.25"', "selection.upload_rate"),
        ("upload_rate = 0.25", "upload_rate = nan", "selection.upload_rate"),
        ("upload_rate = 0.25", "upload_rate = true", "selection.upload_rate"),
        ("upload_rate = 0.25", "uploadrate = 0.25", "selection.uploadrate: unknown key"),
        ("rounds = 10", 'rounds = "10"', "training.rounds"),
        ("rounds = 10", "rounds = 10.0", "training.rounds"),
        ("rounds = 10", "rounds = true", "training.rounds"),
        ("rounds = 10", "rounds = 0", "training.rounds"),
        ("learning_rate = 0.1", 'learning_rate = "0.1"', "training.learning_rate"),
        ("learning_rate = 0.1", "learning_rate = inf", "training.learning_rate"),
        ("learning_rate = 0.1", "learning_rate = true", "training.learning_rate"),
        ("momentum = 0.9", "momentum = 1", "training.momentum"),
        ("commit_window = 60", "commit_window = 4294967296", "ledger.commit_window"),
        ("commit_window = 60", 'commit_window = "60"', "ledger.commit_window"),
        ("quorum = 0.6667", "quorum = 0.5", "ledger.quorum"),
        ("quorum = 0.6667", "quorum = 1.01", "ledger.quorum"),
        ("quorum = 0.6667", "quorum = 0.66667", "ledger.quorum"),
        ('weighting = "all"', 'weighting = "most"', "aggregation.weighting"),
        ('name = "clinic"', "name = 5", "name"),
        ('name = "clinic"', 'name = ""', "name"),
        ('name = "clinic"', 'name = "clinic"\nsecret = 1', "secret: unknown key"),
        ('"roundledger-federation/1"', '"roundledger-federation/2"', "format"),
        ("[limits]", "[limit]", "limit: unknown key"),
        ("update_bytes = 1000000", "update_bytes = 0", "limits.update_bytes"),
        ('classes = ["benign", "malign"]', 'classes = ["benign"]', "data.classes"),
        ('classes = ["benign", "malign"]', 'classes = ["benign", "benign"]', "data"),
        ('id = "patient"', 'id = "radius"', "data"),
        ("shape = [2]", "shape = [3]", "data"),
        ("center = [10.5, 3]", "center = [10.5]", "data"),
        ("center = [10.5, 3]", 'center = "10.5"', "data.center"),
        ("scale = [2.5, 1]", "scale = [2.5, 0]", "data"),
        ("scale = [2.5, 1]", "scale = 0", "data"),
        ("dropout = 0.5", "dropout = nan", "model.options"),
        ("dropout = 0.5", "dropout = 9007199254740993", "model.options"),
        ("dropout = 0.5", "dropout = 2020-01-01", "model.options"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, field: str) -> None:
    assert old in FULL
    found = problem(FULL.replace(old, new))
    assert f"{field}:" in found or f"; {field}" in found or found.startswith(field), found


@pytest.mark.parametrize("table", ["model", "data", "training"])
def test_a_missing_table_is_named(table: str) -> None:
    whole = document()
    del whole[table]
    with pytest.raises(ConfigError, match=f"^federation.toml: {table}: "):
        Rules.parse(whole, "federation.toml")


@pytest.mark.parametrize("table", ["ledger", "limits"])
def test_tables_with_defaults_may_be_missing(table: str) -> None:
    whole = document()
    del whole[table]
    assert Rules.parse(whole, "federation.toml").digest != parse().digest


def test_every_wrong_field_is_named_at_once() -> None:
    found = problem(FULL.replace("rounds = 10", "rounds = 0").replace("upload_rate = 0.25", "upload_rate = 2"))
    assert "training.rounds: " in found and "selection.upload_rate: " in found


@pytest.mark.parametrize("value", [None, [], "text", 5])
def test_a_file_that_is_no_table(value: object) -> None:
    with pytest.raises(ConfigError, match=r"^federation\.toml: file: "):
        Rules.parse(value, "federation.toml")


def test_the_file_is_named_when_it_is_no_toml(tmp_path: Path) -> None:
    path = tmp_path / "federation.toml"
    with pytest.raises(ConfigError, match="no such file"):
        load_rules(path)
    for data in (b"[model", b"\xff", b"a = 1\na = 2"):
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=str(path)):
            load_rules(path)
    path.write_text(FULL)
    assert load_rules(path) == parse()


# --------------------------------------------------------------- canonical form


def test_canonical_round_trip() -> None:
    for rules in (parse(), Rules.parse(document(FULL.split("[ledger]", maxsplit=1)[0]), "test")):
        assert Rules.from_canonical(rules.canonical(), "blob") == rules
        assert rules.digest == Digest.of(rules.canonical())
        # Every rule is in it, whether the file gave it or not.
        written = json.loads(rules.canonical())
        assert set(written) == set(Rules.model_fields)
        assert written["ledger"].keys() == {"attest_window", "commit_window", "min_updates", "quorum", "reveal_window"}


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + " ",
        lambda text: text.replace('"rounds":10', '"rounds":10.0'),
        lambda text: text.replace('"0.25"', '"0.250"'),
        lambda text: text.replace('"0.25"', "0.25"),
        lambda text: text.replace('"rounds":10', '"rounds":"10"'),
        lambda text: text.replace('"rounds":10', '"rounds":10,"rounds":10'),
        lambda text: text.replace(',"limits":{"model_bytes":2000000,"records":5000,"update_bytes":1000000}', ""),
        lambda text: json.dumps(json.loads(text)),
        lambda text: text[:-1],
        lambda text: "null",
        lambda text: "",
    ],
)
def test_only_the_canonical_form_is_read_back(change: Any) -> None:
    text = parse().canonical().decode()
    assert change(text) != text
    with pytest.raises(ConfigError, match="rules blob"):
        Rules.from_canonical(change(text).encode(), "rules blob")


def test_the_spelling_of_the_file_does_not_count() -> None:
    digest = parse().digest
    assert parse("# a comment\n" + FULL.replace("= ", "   =  ")).digest == digest
    assert parse(FULL.replace("0.25", "0.250")).digest == digest
    assert parse(FULL.replace("0.25", "25e-2")).digest == digest
    assert parse(FULL.replace("0.6667", "0.666700")).digest == digest
    assert parse(FULL.replace("learning_rate = 0.1", "learning_rate = 0.10")).digest == digest
    assert parse(FULL.replace("center = [10.5, 3]", "center = [10.50, 3.0]")).digest == digest


def shuffled(value: Any, random: Any) -> Any:
    if not isinstance(value, dict):
        return value
    keys = list(value)
    random.shuffle(keys)
    return {key: shuffled(value[key], random) for key in keys}


@given(st.randoms(use_true_random=False))
def test_the_order_of_the_file_does_not_count(random: Any) -> None:
    assert Rules.parse(shuffled(document(), random), "test").digest == parse().digest


def leaves(value: Any, path: Path_ = ()) -> list[Path_]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, (*path, key))]
    if isinstance(value, list):
        return [leaf for index, item in enumerate(value) for leaf in leaves(item, (*path, index))]
    return [path]


OTHER: dict[Any, Any] = {
    "all": "senders",
    "records": "equal",
    "own": "common",
    "euclidean": "per-entry",
    "channels": "bytes",
    "model": "layer",
    "linear": "constant",
    Decimal("0.9"): Decimal("0.8"),
    8: 4,
    True: False,
}


def another(value: Any) -> Any:
    if type(value) is not int or value == 8:
        for known, other in OTHER.items():
            if type(known) is type(value) and known == value:
                return other
    if isinstance(value, str):
        return value + "x"
    return value + Decimal("0.0001") if isinstance(value, Decimal) else value + 1


FIXED = (("format",), ("data", "shape", 0), ("selection", "channels"))
LEAVES = [leaf for leaf in leaves(document()) if leaf not in FIXED]


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: ".".join(map(str, leaf)))
def test_the_digest_depends_on_every_rule(leaf: Path_) -> None:
    whole = document()
    parent: Any = whole
    for key in leaf[:-1]:
        parent = parent[key]
    parent[leaf[-1]] = another(parent[leaf[-1]])
    changed = Rules.parse(whole, "test")
    assert changed.digest != parse().digest
    assert Rules.from_canonical(changed.canonical(), "blob") == changed


def test_the_digest_depends_on_the_shape() -> None:
    assert parse(FULL.replace("shape = [2]", "shape = [1, 2]")).digest != parse().digest


def test_the_full_example_gives_every_rule() -> None:
    given = {leaf[:2] for leaf in leaves(document())}
    written = {leaf[:2] for leaf in leaves(json.loads(parse().canonical()))}
    assert given == written


def test_quorum_in_ten_thousandths_is_exact() -> None:
    for bps in range(5001, 10_001, 7):
        assert parse(FULL.replace("0.6667", f"{bps / 10_000:.4f}")).ledger.quorum_bps == bps


def test_a_rate_of_many_digits_is_taken_as_it_stands() -> None:
    rate = "0.3333333333333333333333333334"
    assert SelectionRules(upload_rate=Decimal(rate)).rate(1) == Fraction(rate)


def test_rates_of_the_first_rounds() -> None:
    rules = parse().selection
    assert [rules.rate(number) for number in (1, 2, 3, 9)] == [
        Fraction(3, 4),
        Fraction(1, 2),
        Fraction(1, 4),
        Fraction(1, 4),
    ]


PATH = FULL.replace('channels = "output"', 'channels = "path"\nlayers = ["hidden1", "output"]')


def test_path_channels_name_their_layers_and_take_no_other_levers() -> None:
    assert parse(PATH).selection.layers == ("hidden1", "output")
    assert parse(PATH).digest != parse(PATH.replace('"hidden1", "output"', '"output", "hidden1"')).digest
    assert "layers" in problem(FULL.replace('"output"', '"path"'))
    assert "layers" in problem(FULL.replace('"output"', '"output"\nlayers = ["output"]'))
    for lever in (("own", "common"), ("euclidean", "per-entry"), ('budget = "channels"', 'budget = "bytes"')):
        assert "path channels" in problem(PATH.replace(*lever))


@pytest.mark.parametrize("bits", ["1", "5", "16", '"8"', "8.5"])
def test_bits_that_there_are_not(bits: str) -> None:
    assert "compression.bits" in problem(FULL.replace("bits = 8", f"bits = {bits}"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (2, 2**20, Decimal("0.018"))),
        ("bits = 2", (2, 2**20, Decimal("0.018"))),
        ("bits = 2\nentry_rate = 1", (2, 2**20, Decimal(1))),
        ("bits = 8", (8, 32, Decimal(1))),
        ("bits = 3\nblock = 16", (3, 16, Decimal(1))),
        ("bits = 4\nentry_rate = 0.1", (4, 32, Decimal("0.1"))),
    ],
)
def test_the_defaults_of_the_compression_follow_the_bits(text: str, expected: tuple[int, int, Decimal]) -> None:
    found = CompressionRules.model_validate(tomllib.loads(text, parse_float=Decimal))
    assert (found.bits, found.block, found.entry_rate) == expected
    assert CompressionRules.model_validate_json(found.model_dump_json()) == found
