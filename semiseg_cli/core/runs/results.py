"""What a run says of its images and of what it came to: partition.json, evaluation.json, result.json."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from semiseg_cli.core.files import resuming
from semiseg_cli.core.reading import TEXT, Level, read_json
from semiseg_cli.core.runs.disk import damaged, write

if TYPE_CHECKING:
    from semiseg_cli.core.data.spec import Partition


class Lists(TypedDict, total=False):
    """partition.json."""

    name: str
    fingerprint: str
    protocol: str
    labeled: int
    unlabeled: int


class Measured(TypedDict):
    """evaluation.json. frequency: in percent of the labeled pixels; confusion: pixels, rows are the truth."""

    step: int
    classes: list[str]
    palette: list[tuple[Level, Level, Level]]
    frequency: list[float]
    confusion: list[list[int]]
    images: dict[str, float]  # mIoU over an image's own classes, by id


class Scores(TypedDict):
    step: int
    miou: float


class Result(TypedDict):
    """result.json."""

    run: str | None
    method: str
    partition: str
    steps: int
    seconds: float
    last: Scores | None
    best: Scores | None


def write_partition(run: Path, partition: Partition) -> None:
    counts = {"labeled": len(partition.labeled), "unlabeled": len(partition.unlabeled)}
    names = {key: getattr(partition, key) for key in ("name", "fingerprint", "protocol")}
    write(run / "partition.json", json.dumps(names | counts, indent=2, ensure_ascii=False) + "\n")


def read_partition(run: Path) -> dict[str, Any]:
    """What `write_partition` wrote; empty for a run of an earlier version."""
    path = run / "partition.json"
    try:
        found: dict[str, Any] = read_json(path, Lists) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    return found


def write_evaluation(run: Path, found: dict[str, Any]) -> None:
    write(run / "evaluation.json", json.dumps(found, ensure_ascii=False) + "\n")


def read_evaluation(run: Path) -> dict[str, Any]:
    """What `write_evaluation` wrote; empty for a run that was not evaluated yet, or by an earlier version."""
    path = run / "evaluation.json"
    try:
        found: dict[str, Any] = read_json(path, Measured, TEXT) if path.exists() else {}
        sides = {len(found.get(key, ())) for key in ("classes", "frequency", "confusion")}
        if len(sides | {len(row) for row in found.get("confusion", ())}) > 1:
            raise ValueError("its lists do not have an entry for each class")
    except (OSError, ValueError) as error:
        raise damaged(path, error, f"rm {shlex.quote(str(path))}") from error
    return found


def finish(run: Path, result: dict[str, Any]) -> None:
    """Mark a run as finished by writing its result.json."""
    write(run / "result.json", json.dumps(result, indent=2) + "\n")


def read_result(run: Path) -> dict[str, Any]:
    """What `finish` wrote. Raises CheckpointError where it is damaged."""
    path = run / "result.json"
    return _result(path, f"rm {shlex.quote(str(path))} && {resuming(run)}")


def _result(path: Path, fix: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = read_json(path, Result)
    except (OSError, ValueError) as error:
        raise damaged(path, error, fix) from error
    return found


def earlier_results(run: Path) -> list[dict[str, Any]]:
    """The results that a run had before it went on for longer, the first one first."""
    found = [_result(path, f"rm {shlex.quote(str(path))}") for path in run.glob("result-*.json")]
    return sorted(found, key=lambda result: result["steps"])
