"""What checkpoints say of themselves: the types of the entries, and an error that names file and entry if one lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from semiseg_cli.core.data.depths import FULL
from semiseg_cli.core.errors import CheckpointError
from semiseg_cli.core.reading import Level, Side, shaped
from semiseg_cli.core.settings import Natural, Positive, Range

ConfigMeta = TypedDict(
    "ConfigMeta",
    {"eval.window": str, "eval.stride": float, "eval.batch": int, "train.amp": str, "train.threads": Natural},
    total=False,
)


class ModelMeta(TypedDict):
    backbone: str
    decoder: str
    classes: Annotated[int, Range(1, 255)]
    output_stride: Annotated[int, Range(1, 64)]
    upsampling: NotRequired[str]


class DataMeta(TypedDict, total=False):
    name: str
    kind: str
    classes: list[str]
    palette: list[tuple[Level, Level, Level]]
    ignore: int
    window: Side
    long_side: Side
    levels: tuple[int, int]
    licence: str


class PartitionMeta(TypedDict, total=False):
    name: str
    fingerprint: str
    protocol: str
    labeled: Natural
    unlabeled: Natural


class EncoderMeta(TypedDict):
    weights: str
    licence: str


class Normalise(TypedDict):
    mean: tuple[float, float, float]
    std: tuple[Positive, Positive, Positive]


class NetworkMeta(TypedDict, total=False):
    version: str
    model: ModelMeta
    data: DataMeta
    partition: PartitionMeta
    encoder: EncoderMeta
    normalise: Normalise
    method: str
    config: ConfigMeta
    step: Natural
    miou: float | None
    best: bool


class Scores(TypedDict, total=False):
    step: Natural
    miou: float


class Since(TypedDict, total=False):
    """Of the steps since the last log line (`Meter.state`)."""

    counts: dict[str, Natural]
    steps: Natural
    seconds: float


class StateMeta(TypedDict, total=False):
    step: Natural
    partition: str
    seconds: float
    unlabeled: Natural
    waited: Natural
    best: Scores | None
    last: Scores | None
    encoder: EncoderMeta
    optimizer: dict[str, dict[str, Any]]
    since: Since


class Said(dict[str, Any]):
    """A table of a file's metadata, in which an entry that lacks is an error that names both."""

    def __init__(self, table: dict[str, Any], path: Path) -> None:
        super().__init__((key, Said(x, path) if isinstance(x, dict) else x) for key, x in table.items())
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise CheckpointError(f"{self.path} does not say its '{key}'", fix="take another checkpoint")


def said(meta: dict[str, Any], path: Path, state: bool = False) -> Said:
    """The metadata of a network, or of a resume state. CheckpointError names what is of another type."""
    try:
        shaped(meta, StateMeta if state else NetworkMeta)
        _consistent(meta)
    except ValueError as error:
        raise CheckpointError(f"{path} has damaged metadata", why=str(error), fix="take another checkpoint") from error
    return Said(meta, path)


def _consistent(meta: dict[str, Any]) -> None:
    """Raise ValueError where a network's entries contradict each other."""
    data, classes = meta.get("data", {}), meta.get("model", {}).get("classes")
    if data.get("classes") and len(data["classes"]) != classes:
        raise ValueError(f"data.classes has {len(data['classes'])} names for {classes} classes")
    low, high = data.get("levels", FULL)
    if not 0 <= low < high <= 65535:
        raise ValueError(f"data.levels is {low} to {high}")
