"""The rules of a federation: what every participant agreed to before round 1.

They are written as `federation.toml`, hashed in a canonical form (RFC 8785 JSON, so comments, order and layout of the
file do not count), and that digest stands in the contract for ever.
"""

from decimal import Decimal
from fractions import Fraction
from math import isfinite
from typing import Annotated, Any, Literal, Self

import rfc8785
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from chain.protocol.digest import Digest
from chain.protocol.errors import ConfigError

DEEPEST = 64  # options within options


def _number(value: Any, info: ValidationInfo) -> Any:
    """Text and truth values are not taken for numbers; the canonical form alone writes decimals as text."""
    if isinstance(value, bool) or (isinstance(value, str) and info.mode != "json"):
        raise ValueError("Input should be a number")
    return value


def _normal(value: Decimal) -> Decimal:
    try:
        return value.normalize()
    except ArithmeticError:  # an exponent that decimals do not have
        raise ValueError("Input should be a number of a sensible size") from None


Seconds = Annotated[int, Strict(), Field(ge=1, le=2**32 - 1)]
Positive = Annotated[int, Strict(), Field(ge=1, le=2**31 - 1)]
Real = Annotated[float, BeforeValidator(_number)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
# 0.250 and 0.25 are the same rule.
Fixed = Annotated[Decimal, BeforeValidator(_number), AfterValidator(_normal)]
Rate = Annotated[Fixed, Field(gt=0, le=1)]


def _options(value: Any) -> Any:
    """Free-form options, as far as canonical JSON keeps them; decimals become floats, as the factory expects them."""
    return _plain(value, 0)


def _plain(value: Any, depth: int) -> Any:
    if depth > DEEPEST:
        raise ValueError(f"more than {DEEPEST} tables or lists in each other")
    if isinstance(value, dict):
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, Decimal):
        # 64.0 and 64 are one number in canonical JSON, so they must be one value for the factory, too.
        whole = value.is_finite() and value.adjusted() < 16 and value == value.to_integral_value()
        value = int(value) if whole else float(value)
    plain = value
    if isinstance(plain, float):
        kept = isfinite(plain)
    else:
        kept = abs(plain) < 2**53 if isinstance(plain, int) else isinstance(plain, str)
    if not kept:
        raise ValueError(f"neither text nor a number that JSON keeps: {value}")
    return plain


class Table(BaseModel):
    """One table of the file: unknown keys and wrong types are errors, nothing is coerced from text."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelRules(Table):
    """Which network: `mlp`, `cnn`, or the federation's own `module:function`, called with `options`."""

    factory: Name
    options: Annotated[dict[str, Any], BeforeValidator(_options)] = Field(default_factory=dict)


class DataRules(Table):
    """What one record looks like, the same at every node.

    Tables name their feature columns; images (NPZ, IDX) give the `shape` of one record instead. A model input is
    `(feature - center) / scale`, element by element, reshaped to `shape`.
    """

    classes: Annotated[tuple[Name, ...], Field(min_length=2)]
    label: Name = "label"
    id: Name | None = None
    features: tuple[Name, ...] = ()
    shape: tuple[Positive, ...] = ()
    center: tuple[Real, ...] | Real = 0.0
    scale: tuple[Real, ...] | Real = 1.0

    @property
    def width(self) -> int:
        """Number of features of one record."""
        width = 1
        for side in self.input_shape:
            width *= side
        return width

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.shape or (len(self.features),)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.features and not self.shape:
            raise ValueError("give `features` (column names) or `shape` (of one record)")
        if self.features and self.width != len(self.features):
            raise ValueError(f"shape {list(self.shape)} does not hold {len(self.features)} features")
        if len(set(self.features)) != len(self.features) or len(set(self.classes)) != len(self.classes):
            raise ValueError("feature and class names must differ from each other")
        if {self.label, self.id} & set(self.features) or self.label == self.id:
            raise ValueError("label, id and features must be different columns")
        for name, value in (("center", self.center), ("scale", self.scale)):
            if isinstance(value, tuple) and len(value) != self.width:
                raise ValueError(f"{name} has {len(value)} numbers for {self.width} features")
        scales = self.scale if isinstance(self.scale, tuple) else (self.scale,)
        if not all(s > 0 for s in scales):
            raise ValueError("every scale must be above 0")
        return self


class TrainingRules(Table):
    """Local training: plain SGD, the same at every node. `rounds` finalized rounds end the federation.

    `schedule`: the learning rate stays `constant`, or falls by the same step in every round, down to a last step that
    is left for the last round and for those that aborted rounds add (`linear`).
    """

    rounds: Positive
    epochs: Positive = 1
    batch_size: Positive = 32
    learning_rate: Annotated[Real, Field(gt=0, le=1000)] = 0.1
    schedule: Literal["constant", "linear"] = "constant"
    momentum: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[Real, Field(ge=0, lt=1)] = 0.0

    def rate(self, round_number: int) -> float:
        """The learning rate of a round, the first being 1."""
        left = max(self.rounds - round_number + 1, 1)
        return self.learning_rate if self.schedule == "constant" else self.learning_rate * left / self.rounds


class SelectionRules(Table):
    """Which channels go up.

    `channels`: an `output` channel is one row of a layer; a `path` is one neuron per layer, in the order of `layers`.
    `selection`: every node sends its `own` largest channels, or all send one `common` set, that of the summed norms of
    the round before. `upload_rate` is a share of all channels, or with `budget` in `bytes` of all entries; `warm_up`
    gives other rates to the first rounds. `norm`: `euclidean`, or `per-entry`, which divides it by the root of the
    channel's width. `scope`: one budget for the `model`, or one for each `layer`.
    """

    upload_rate: Rate = Decimal("0.8")
    warm_up: tuple[Rate, ...] = ()
    channels: Literal["output", "path"] = "output"
    layers: tuple[Name, ...] = ()
    selection: Literal["own", "common"] = "own"
    norm: Literal["euclidean", "per-entry"] = "euclidean"
    budget: Literal["channels", "bytes"] = "channels"
    scope: Literal["model", "layer"] = "model"

    def rate(self, round_number: int) -> Fraction:
        """The upload rate of a round, the first being 1."""
        early = round_number <= len(self.warm_up)
        return Fraction(self.warm_up[round_number - 1] if early else self.upload_rate)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.channels == "path") != bool(self.layers):
            raise ValueError("path channels, and only they, name their `layers` in order, from input to output")
        if self.channels == "path" and not self.is_plain:
            raise ValueError(
                "path channels are chosen by Euclidean norm, each node its own, in one count for the model"
            )
        return self

    @property
    def is_plain(self) -> bool:
        levers = (self.selection, self.norm, self.budget, self.scope)
        return levers == ("own", "euclidean", "channels", "model")


class CompressionRules(Table):
    """How the values of a channel are written: `bits` an entry with one scale for each `block` entries of a row.

    `entry_rate`: of all entries of the model only this share, the largest, may differ from zero in an update. With 2
    bits, signs, few entries and one scale a row are the default; with more, every entry and blocks of 32.
    """

    bits: Literal[2, 3, 4, 8] = 2
    block: Annotated[int, Strict(), Field(ge=1, le=2**31 - 1)] = 2**20
    entry_rate: Rate = Decimal("0.018")

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, given: Any) -> Any:
        return (
            {"block": 32, "entry_rate": 1} | given if isinstance(given, dict) and given.get("bits", 2) != 2 else given
        )

    @property
    def sparse(self) -> bool:
        """Whether few entries differ from zero, so that an update lists those."""
        return self.entry_rate < 1


class AggregationRules(Table):
    """How what arrives moves the model.

    `weighting`: an entry's sum is divided by the weight of `all` accepted participants (one not sent counts as zero),
    of its `senders` only, or by the `root` of the product of both. `weights`: a participant weighs as much as its
    `records`, or all weigh `equal`. The step is multiplied by `server_learning_rate`; `server_momentum` adds that
    share of the model's last move.
    """

    weighting: Literal["all", "senders", "root"] = "root"
    weights: Literal["records", "equal"] = "records"
    server_learning_rate: Annotated[Fixed, Field(gt=0, le=16, decimal_places=4)] = Decimal(1)
    server_momentum: Annotated[Fixed, Field(ge=0, lt=1, decimal_places=4)] = Decimal(0)


class LedgerRules(Table):
    """What the contract enforces. Windows are in seconds of block time."""

    commit_window: Seconds = 600
    reveal_window: Seconds = 300
    attest_window: Seconds = 300
    min_updates: Positive = 2
    quorum: Annotated[Fixed, Field(gt=Decimal("0.5"), le=1, decimal_places=4)] = Decimal("0.66")

    @property
    def quorum_bps(self) -> int:
        return int(self.quorum * 10_000)


class LimitRules(Table):
    """Size caps, checked before a byte is read."""

    update_bytes: Annotated[int, Strict(), Field(ge=1, le=2**40)] = 2**28
    model_bytes: Annotated[int, Strict(), Field(ge=1, le=2**40)] = 2**30
    records: Positive = 10_000_000  # that a participant may claim: they are its weight


class Rules(Table):
    """All rules of one federation."""

    format: Literal["roundledger-federation/1"]
    name: Name
    model: ModelRules
    data: DataRules
    training: TrainingRules
    selection: SelectionRules = SelectionRules()
    compression: CompressionRules = CompressionRules()
    aggregation: AggregationRules = AggregationRules()
    ledger: LedgerRules = LedgerRules()
    limits: LimitRules = LimitRules()

    def canonical(self) -> bytes:
        """The bytes that the rules digest covers: RFC 8785 JSON of every rule, defaults included."""
        return rfc8785.dumps(self.model_dump(mode="json"))

    @property
    def digest(self) -> Digest:
        return Digest.of(self.canonical())

    @classmethod
    def parse(cls, value: object, where: object) -> Self:
        """Checks a parsed document. Raises ConfigError naming `where` and every field that is wrong."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise ConfigError(where, explain(error)) from None

    @classmethod
    def from_canonical(cls, data: bytes, where: object) -> Self:
        """The inverse of `canonical`. Raises ConfigError when `data` is not the canonical form of valid rules."""
        try:
            rules = cls.model_validate_json(data)
        except ValidationError as error:
            raise ConfigError(where, explain(error)) from None
        if rules.canonical() != data:
            raise ConfigError(where, "not in canonical form")
        return rules


def explain(error: ValidationError) -> str:
    """Every wrong field on a line's worth of text: `training.rounds: Input should be ...`."""
    parts = []
    for item in error.errors():
        # pydantic names the branches of a union, `tuple[...]` or `constrained-int`, as if they were fields
        parts_of = (str(part) for part in item["loc"])
        field = ".".join(part for part in parts_of if "[" not in part and "constrained-" not in part) or "file"
        problem = (
            "unknown key" if item["type"] == "extra_forbidden" else item["msg"] + _found(item["type"], item["input"])
        )
        parts.append(f"{field}: {problem}")
    return "; ".join(parts)


def _found(kind: str, value: object) -> str:
    """What stood there instead, where it is sure not to be a secret (an address may have a password in it)."""
    shown = isinstance(value, bool | int | float | Decimal) or kind.startswith(
        ("literal", "int_", "float_", "decimal_")
    )
    return f", found {value!s:.40}" if shown else ""
