"""The three federations that the demo and the benchmarks found: real records, written out as an organisation would
hold them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chain.protocol.errors import ConfigError
from chain.protocol.rules import DataRules
from fl_node.data import Records, load_records
from fl_node.split import split, write_csv, write_npz

ALPHA = 0.5  # Dirichlet concentration of the label skew between organisations: clearly not identically distributed
TEST_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Preset:
    """One data set as a federation: who holds it, its model and training, and how its files are written."""

    name: str
    organisation: str
    suffix: str
    write: Callable[[Path, Records, DataRules], None]
    model: str  # the [model] table
    training: str  # the [training] table, without rounds
    upload_rate: str
    compression: str
    aggregation: str
    train: str  # where the records come from
    test: str | None  # a test set of its own; None: a share is held out

    def data_rules(self) -> DataRules:
        """What a record looks like, before center and scale are known."""
        if self.name == "breast-cancer":
            from sklearn.datasets import load_breast_cancer  # noqa: PLC0415 - slow to load, and one data set needs it

            table = load_breast_cancer()
            return DataRules(
                classes=tuple(str(name) for name in table.target_names),
                label="diagnosis",
                id="patient",
                features=tuple(str(name) for name in table.feature_names),
            )
        side, limit = (8, 16.0) if self.name == "digits" else (28, 255.0)
        names = tuple(str(number) for number in range(10))
        return DataRules(classes=names, shape=(1, side, side), center=limit / 2, scale=limit / 2)

    def records(self, parts: int, seed: int) -> tuple[DataRules, list[Records], Records]:
        """The rules of the data, one set of records for each of `parts` organisations, and the held-out ones."""
        rules = self.data_rules()
        everything = load_records(self.train, rules.model_copy(update={"id": None}))
        if rules.id:
            names = tuple(f"{rules.id}-{number:04d}" for number in range(1, len(everything) + 1))
            everything = Records(everything.features, everything.labels, names, everything.source)
        held, test = split(everything, parts, ALPHA, seed, 0.0 if self.test else TEST_SHARE)
        if self.test:
            test = load_records(self.test, rules)
        if self.name == "breast-cancer":
            rules = _with_reference_ranges(rules, held)
        return rules, held, test


def _with_reference_ranges(rules: DataRules, held: Sequence[Records]) -> DataRules:
    """Center and scale of every feature, to four digits.

    A federation agrees on such constants from the literature or a pilot; the demo takes them from the training records.
    """
    features = np.concatenate([records.features for records in held])
    return rules.model_copy(
        update={
            "center": tuple(float(f"{value:.4g}") for value in features.mean(axis=0)),
            "scale": tuple(float(f"{value:.4g}") for value in features.std(axis=0)),
        }
    )


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            name="breast-cancer",
            organisation="hospital",
            suffix=".csv",
            write=write_csv,
            model='factory = "mlp"\noptions = { hidden = [32, 16] }',
            training="epochs = 4\nbatch_size = 16\nlearning_rate = 0.1",
            upload_rate="0.25",
            compression="bits = 8",
            aggregation='weighting = "all"',
            train="builtin:breast-cancer",
            test=None,
        ),
        Preset(
            name="digits",
            organisation="bank",
            suffix=".npz",
            write=write_npz,
            model='factory = "cnn"\noptions = { channels = [8, 16], hidden = [64] }',
            training="epochs = 8\nbatch_size = 16\nlearning_rate = 0.1",
            upload_rate="0.25",
            compression="bits = 8",
            aggregation='weighting = "all"',
            train="builtin:digits",
            test=None,
        ),
        Preset(
            name="fashion-mnist",
            organisation="shop",
            suffix=".npz",
            write=write_npz,
            model='factory = "cnn"\noptions = { channels = [8, 16], hidden = [64] }',
            training="epochs = 1\nbatch_size = 64\nlearning_rate = 0.05\nmomentum = 0.9",
            upload_rate="0.25",
            compression="bits = 8",
            aggregation='weighting = "all"',
            train="builtin:fashion-mnist/train",
            test="builtin:fashion-mnist/test",
        ),
    )
}


def preset(name: str) -> Preset:
    if name not in PRESETS:
        raise ConfigError("--dataset", f"unknown data set {name!r}", f"known: {', '.join(PRESETS)}")
    return PRESETS[name]


def federation_toml(chosen: Preset, data: DataRules, rounds: int, *, window: int = 60) -> str:
    """The rules file, with a comment where a newcomer would ask. `window` in seconds."""
    return f"""\
# The rules that all participants agreed to. Their digest stands in the contract: nobody can change them later.
format = "roundledger-federation/1"
name = "{chosen.name}"

[model]
{chosen.model}

[data]
label = "{data.label}"
{f'id = "{data.id}"' if data.id else "# no id column: a record is its own id"}
classes = {_toml(data.classes)}
features = {_toml(data.features)}
shape = {_toml(data.input_shape)}
# A model input is (feature - center) / scale.
center = {_toml(data.center)}
scale = {_toml(data.scale)}

[training]
rounds = {rounds}
{chosen.training}

[selection]
upload_rate = {chosen.upload_rate}  # the share of all channels that a node sends in a round

[compression]
{chosen.compression}

[aggregation]
{chosen.aggregation}

[ledger]
commit_window = {window}  # seconds; a phase ends early once everybody has acted
reveal_window = {window}
attest_window = {window}
min_updates = 2
quorum = 0.66  # share of the roster that must attest the same model
"""


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def node_toml(name: str, data: str, *, rpc: str, seat: int) -> str:
    return f"""\
# One organisation's node. Private: federation.toml is what is shared.
format = "roundledger-node/1"
name = "{name}"
federation = "federation.toml"
deployment = "deployment.json"
rpc = "{rpc}"
blobs = "blobs"
data = "{data}"
keystore = "keys/node-{seat}.json"
password_file = "keys/node-{seat}.password"
state = "state/node-{seat}"
depth = 0  # a local chain has no reorganisations; on a real one leave this out: a node then acts on final blocks only
"""
