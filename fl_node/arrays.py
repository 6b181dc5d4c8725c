"""Arrays as they come: NPZ, IDX (the format of MNIST), and the sets that need no file of one's own."""

import gzip
import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from chain.protocol.errors import ConfigError
from chain.protocol.rules import DataRules
from fl_node.readers import Raw, shown, wanted_columns

IMAGES, LABELS = "-images-idx3-ubyte", "-labels-idx1-ubyte"
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
FASHION_PARTS = {"train": "train", "test": "t10k"}
# What numpy and zipfile say to an archive that is none, is damaged, encrypted, or packed in an unknown way.
BROKEN = (
    *(ValueError, TypeError, OSError, EOFError, RuntimeError, SyntaxError, struct.error, tokenize.TokenError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
BUILTIN = "builtin:breast-cancer, builtin:digits, builtin:fashion-mnist (or its parts /train and /test)"


def read_npz(path: Path, rules: DataRules, labelled: bool) -> Raw:
    """An NPZ file: `x` `[n, width]` or `[n, *shape]`, `y` `[n]` class indices or names, `id` `[n]`. No pickles."""
    try:
        with np.load(path, allow_pickle=False) as file:  # a single .npy array is no context manager: TypeError
            arrays = {name: file[name] for name in ("x", "y", "id") if name in file.files}
    except BROKEN as error:
        raise ConfigError(path, f"cannot be read as NPZ: {error}") from None
    if bare := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise ConfigError(path, f"cannot be read as NPZ: {bare[0]} is no array")
    required = ["x", *(["y"] if labelled else []), *(["id"] if rules.id else [])]
    if missing := [name for name in required if name not in arrays]:
        found = ", ".join(arrays) or "none of x, y, id"
        raise ConfigError(path, f"missing array {', '.join(missing)}", f"it has {found}")
    x = _typed(path, "x", arrays["x"], "iufb", "numbers")
    y = _typed(path, "y", arrays["y"], "iuU", "class indices or names") if "y" in arrays else None
    ids = _typed(path, "id", arrays["id"], "iuU", "text or integers") if rules.id else None
    for name, array in (("y", y), ("id", ids)):
        if array is not None and array.shape != x.shape[:1]:
            raise ConfigError(path, f"array {name} has shape {list(array.shape)}, expected {list(x.shape[:1])}")
    try:
        labels = pa.array(y) if y is not None and y.dtype.kind == "U" else y
        texts = None if ids is None else pa.array(ids.astype(str))
    except UnicodeError as error:
        raise ConfigError(path, f"y or id is no text: {error}") from None
    return Raw(_flat(path, x, rules), _names(rules, "x"), labels, texts, "y")


def _typed(path: Path, name: str, array: npt.NDArray[Any], kinds: str, expected: str) -> npt.NDArray[Any]:
    if array.dtype.kind not in kinds:
        raise ConfigError(path, f"array {name} holds {array.dtype}, expected {expected}")
    return array


def _names(rules: DataRules, array: str) -> Sequence[str]:
    return rules.features or [f"{array}[{at}]" for at in range(rules.width)]


def _flat(path: object, x: npt.NDArray[Any], rules: DataRules) -> npt.NDArray[np.float64]:
    """`[n, width]` float64. Sides of length 1 may be left out: `[n, 28, 28]` fits the shape `[1, 28, 28]`."""

    def sides(shape: Sequence[int]) -> list[int]:
        return [side for side in shape if side != 1]

    if x.ndim == 0 or sides(x.shape[1:]) not in (sides(rules.input_shape), sides((rules.width,))):
        shape = [len(x) if x.ndim else "n", *rules.input_shape]
        raise ConfigError(path, f"records have shape {list(x.shape)}, expected {shape} or {[shape[0], rules.width]}")
    return x.reshape(len(x), rules.width).astype(np.float64)


def read_idx(path: Path, rules: DataRules, labelled: bool) -> Raw:
    """`PREFIX-images-idx3-ubyte[.gz]` with `PREFIX-labels-idx1-ubyte[.gz]` beside it; labels are class indices."""
    if rules.id:
        raise ConfigError(path, f"IDX files hold no ids, the rules ask for column {shown(rules.id)}")
    images = _idx(path, dimensions=3)
    beside = labels_beside(path)
    if beside is None and labelled:
        raise ConfigError(_labels_of(path), "no such file", f"the labels of {path.name}")
    labels = None if beside is None else _idx(beside, dimensions=1).astype(np.int64)
    if beside is not None and labels is not None and len(labels) != len(images):
        raise ConfigError(beside, f"holds {len(labels)} labels for {len(images)} images")
    return Raw(_flat(path, images, rules), _names(rules, "x"), labels, None, "label")


def labels_beside(images: Path) -> Path | None:
    """The file of labels that is read with IDX images; None where there is none."""
    plain = _labels_of(images)
    return next((at for at in (plain, plain.with_name(plain.name + ".gz")) if at.is_file()), None)


def _labels_of(images: Path) -> Path:
    return images.with_name(images.name.removesuffix(".gz").replace(IMAGES, LABELS))


def _idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """One IDX file of unsigned bytes: u32be magic 0x0800 + dimensions, each side as u32be, then the bytes."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(path, f"cannot be unpacked: {error}") from None
    start = 4 + 4 * dimensions
    if len(data) < start or data[:4] != bytes((0, 0, 8, dimensions)):
        raise ConfigError(path, f"not an IDX file of unsigned bytes in {dimensions} dimensions")
    shape = [int(side) for side in np.frombuffer(data, ">u4", dimensions, 4)]
    expected = start + int(np.prod(shape, dtype=object))
    if len(data) != expected:
        problem = "truncated" if len(data) < expected else "too long"
        raise ConfigError(path, f"{problem}: its header promises {expected} bytes, there are {len(data)}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def read_builtin(name: str, rules: DataRules, labelled: bool) -> Raw:
    """The set called `builtin:<name>`. With an id column in the rules, a record's id is `<set>-<row>`."""
    if name in ("breast-cancer", "digits"):
        raw = _sklearn(name, rules)
    elif name in ("fashion-mnist", "fashion-mnist/train", "fashion-mnist/test"):
        raw = _fashion_mnist(name, rules, labelled)
    else:
        raise ConfigError(f"builtin:{name}", "no such built-in set", f"there are {BUILTIN}")
    if not rules.id:
        return raw
    ids = pa.array([f"{name}-{row}" for row in range(1, len(raw.features) + 1)])
    return Raw(raw.features, raw.columns, raw.labels, ids, raw.label_column)


def _sklearn(name: str, rules: DataRules) -> Raw:
    """Labels are class names; features are picked by name when the rules name them."""
    from sklearn import datasets  # noqa: PLC0415 - takes a second to load, and only demos and benchmarks need it

    found = datasets.load_digits() if name == "digits" else datasets.load_breast_cancer()
    names, where = [str(column) for column in found.feature_names], f"builtin:{name}"
    labels = pa.array(np.asarray(found.target_names).astype(str)[found.target])
    if not rules.features:
        return Raw(_flat(where, found.data, rules), names, labels, None, "label")
    wanted_columns(where, names, rules.model_copy(update={"id": None}), labelled=False)
    picked = found.data[:, [names.index(column) for column in rules.features]]
    return Raw(picked.astype(np.float64), rules.features, labels, None, "label")


def _fashion_mnist(name: str, rules: DataRules, labelled: bool) -> Raw:
    """Labels are class indices, in the order of the set's README; both parts together: 60,000 then 10,000 records."""
    _, _, part = name.partition("/")
    paths = [FASHION_MNIST / f"{FASHION_PARTS[one]}{IMAGES}.gz" for one in ([part] if part else FASHION_PARTS)]
    if missing := [path for path in paths if not path.is_file()]:
        raise ConfigError(missing[0], "no such file", "apt-get install -y dataset-fashion-mnist")
    without_id = rules.model_copy(update={"id": None})
    parts = [read_idx(path, without_id, labelled) for path in paths]
    if len(parts) == 1:
        return parts[0]
    features, labels = np.concatenate([one.features for one in parts]), np.concatenate([one.labels for one in parts])
    return Raw(features, parts[0].columns, labels, None, "label")
