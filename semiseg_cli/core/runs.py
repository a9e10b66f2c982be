"""Run directories: where a run keeps its configuration, environment, metrics and result.

A run directory holds
    config.toml         the final configuration, each value with its origin as a comment
    environment.json    versions, device, git commit, command line
    partition.json      name, fingerprint and protocol of the labeled images, and how many there are
    metrics.jsonl       one JSON object per log line, each with its `step`
    evaluation.json     of the last evaluation: confusion matrix, frequency of the classes, mIoU of every image
    last.safetensors best.safetensors resume/   (written by the training loop)
    result.json         written at the very end: a run is finished when it has one
    result-N.json last-N.safetensors   its result and network after N steps, where it went on for longer after these
    error.log           tracebacks of what went wrong
A directory is a run if it holds a config.toml.
"""

from __future__ import annotations

import json
import platform
import re
import shlex
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from semiseg_cli import __version__
from semiseg_cli.core import files, owner
from semiseg_cli.core.config.layers import Resolved, flatten, resolve
from semiseg_cli.core.config.names import Flat
from semiseg_cli.core.config.toml import flat, read_toml, to_toml
from semiseg_cli.core.errors import CheckpointError, SemisegError, UsageError
from semiseg_cli.core.files import NETWORKS, STATE, resuming, settle, toml_value, unwritable, whole, write_text
from semiseg_cli.core.reading import TEXT, Level, parse_json, read_json, read_text
from semiseg_cli.core.settings import Config, Unread

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


class Logged(TypedDict):
    """A line of metrics.jsonl: of steps, or with a `miou` of an evaluation."""

    step: int
    miou: NotRequired[float]
    pixel_accuracy: NotRequired[float]
    iou: NotRequired[dict[str, float | None]]


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


OUTSIDE = r"[/\\\0]"  # what leads out of a folder, or names nothing
PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "safetensors")


def run_name(config: Config) -> str:
    """`<data>-<labeled>-<method>[+<plug-in>]-<backbone>-s<seed>`.

    1/8 is written 1of8, classic/183 classic-183; a list file goes by its name, a folder of lists by its last two parts.
    """
    labeled, path = config.data.labeled or "all", Path(config.data.labeled or "all")
    is_number = labeled.replace("/", "").isdecimal()
    words = labeled.replace("/", "of") if is_number else path.stem if path.suffix else "-".join(path.parts[-2:])
    name = "-".join((config.data.name, words, config.title, config.model.backbone, f"s{config.train.seed}"))
    return re.sub(OUTSIDE, "-", name)


def create_run(root: Path, name: str) -> Path:
    """A new directory `root/name`, or `name-2`, `name-3` ... if that is taken; two processes never get the same one."""
    if name != re.sub(OUTSIDE, "-", name) or name in ("", ".", ".."):
        raise UsageError(f"{name!r} is not possible as the name of a run", fix="choose its directory: -o DIR")
    number = 1
    try:
        root.mkdir(parents=True, exist_ok=True)
        while True:
            run = root / (name if number == 1 else f"{name}-{number}")
            try:
                run.mkdir()
            except FileExistsError:
                number += 1
            else:
                return run
    except OSError as error:
        fix = "choose another folder for the runs: --runs-root DIR"
        raise CheckpointError(f"cannot make a run directory in {root}", why=str(error), fix=fix) from error


def claim_run(directory: Path) -> Path:
    """`directory` itself as a new run (option -o). Raises UsageError if something is in it: nothing is overwritten."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        taken = any(path.name != owner.NAME for path in directory.iterdir())
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{directory} is not a directory", fix="choose another path for -o") from None
    except OSError as error:
        fix = "choose another path for -o"
        raise CheckpointError(f"cannot make the run directory {directory}", why=str(error), fix=fix) from error
    if taken:
        fix = f"choose another directory, or go on with it: {resuming(directory)}"
        raise UsageError(f"the run directory {directory} exists already and is not empty", fix=fix)
    return directory


def owned(run: Path) -> AbstractContextManager[None]:
    """Within it nobody else writes to the run. Raises UsageError where somebody does."""
    return owner.owned(run / owner.NAME, f"the run {run}")


def list_runs(root: Path) -> list[Path]:
    """The runs below `root`, the one written to last first."""
    runs = [path.parent for path in root.glob("*/config.toml")]
    return sorted(runs, key=lambda run: (_last_written(run), run.name), reverse=True)


def write_config(run: Path, resolved: Resolved) -> None:
    _write(run / "config.toml", to_toml(flatten(resolved.config), resolved.origins))


def read_config(run: Path) -> Flat:
    """The flat configuration of a run, a layer for `resolve`. Raises UsageError if `run` is no run directory."""
    path = run / "config.toml"
    if not path.is_file():
        raise UsageError(f"{run} is not a run", why="it holds no config.toml", fix=f"ls {shlex.quote(str(run.parent))}")
    return flat(read_toml(path))


def read_origins(run: Path) -> dict[str, str]:
    """Where each value of a run's configuration came from, as `write_config` noted it; none of a line edited since."""
    found, section = dict[str, str](), ""
    values = read_config(run)
    for line in read_text(run / "config.toml").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        name = f"{section}.{line.partition(' = ')[0]}"
        if name in values:
            written = f"{line.partition(' = ')[0]} = {toml_value(values[name])}  # "
            if line.startswith(written):
                found[name] = line.removeprefix(written)
    return found


def config_of(run: Path) -> Config:
    """The configuration of a run. What nothing reads there, and earlier versions took, is back at its default."""
    layer = dict(read_config(run))
    while True:
        try:
            return resolve([(str(run / "config.toml"), layer)]).config
        except Unread as idle:
            layer[idle.setting] = idle.default


def write_environment(run: Path, device: str, files: Mapping[str, Any] | None = None, processes: int = 1) -> None:
    """environment.json: what somebody needs to know to repeat the run. `device` is its name in words.

    files: those that its first weights are from, with their digests.
    """
    from importlib import metadata  # 20 ms, which `semiseg --help` need not pay

    environment = {
        "semiseg": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "device": device,
        "processes": processes,
        "files": dict(files or {}),
        "commit": commit(),
        "command": shlex.join(sys.argv),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    _write(run / "environment.json", json.dumps(environment, indent=2) + "\n")


def write_partition(run: Path, partition: Partition) -> None:
    counts = {"labeled": len(partition.labeled), "unlabeled": len(partition.unlabeled)}
    names = {key: getattr(partition, key) for key in ("name", "fingerprint", "protocol")}
    _write(run / "partition.json", json.dumps(names | counts, indent=2, ensure_ascii=False) + "\n")


def read_partition(run: Path) -> dict[str, Any]:
    """What `write_partition` wrote; empty for a run of an earlier version."""
    path = run / "partition.json"
    try:
        found: dict[str, Any] = read_json(path, Lists) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return found


def write_evaluation(run: Path, found: dict[str, Any]) -> None:
    _write(run / "evaluation.json", json.dumps(found, ensure_ascii=False) + "\n")


def read_evaluation(run: Path) -> dict[str, Any]:
    """What `write_evaluation` wrote; empty for a run that was not evaluated yet, or by an earlier version."""
    path = run / "evaluation.json"
    try:
        found: dict[str, Any] = read_json(path, Measured, TEXT) if path.exists() else {}
        sides = {len(found.get(key, ())) for key in ("classes", "frequency", "confusion")}
        if len(sides | {len(row) for row in found.get("confusion", ())}) > 1:
            raise ValueError("its lists do not have an entry for each class")
    except (OSError, ValueError) as error:
        raise _damaged(path, error, f"rm {shlex.quote(str(path))}") from error
    return found


def append_metrics(run: Path, row: dict[str, Any]) -> None:
    """Add one line to metrics.jsonl; `row` holds `step`."""
    path = run / "metrics.jsonl"
    with _writing(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def settle_metrics(run: Path) -> None:
    """Have all of metrics.jsonl on the disk."""
    path = run / "metrics.jsonl"
    with _writing(path):
        if path.exists():
            settle(path)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl; a last line that a crash cut short is left out, other damage is a CheckpointError."""
    path, rows = run / "metrics.jsonl", list[dict[str, Any]]()
    try:
        lines = read_text(path).split("\n")[:-1] if path.exists() else []
        for line in lines:
            rows.append(parse_json(line, Logged))
    except (OSError, ValueError) as error:
        number = len(rows) + 1
        raise _damaged(path, f"line {number}: {error}", f"sed -i {number}d {shlex.quote(str(path))}") from error
    return rows


def numbers(row: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a line of the log by name; one by class as `name/class`."""
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{before}{name}/")
        elif isinstance(value, int | float):
            yield f"{before}{name}", value


def truncate_metrics(run: Path, step: int, measured: int) -> None:
    """Drop rows after `step`, and evaluations after `measured`: a resumed run writes them again."""
    rows = [row for row in read_metrics(run) if row["step"] <= (measured if "best_miou" in row else step)]
    _write(run / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def sweep(run: Path) -> None:
    """Remove what saves that were killed have left in a run that nobody else writes to."""
    files.sweep(run, [*NETWORKS, "*.toml", "*.json", "*.jsonl", "*.html"])  # the file itself may not be there yet
    files.sweep((run / STATE).parent, [STATE.name])


def finish(run: Path, result: dict[str, Any]) -> None:
    """Mark a run as finished by writing its result.json."""
    _write(run / "result.json", json.dumps(result, indent=2) + "\n")


def read_result(run: Path) -> dict[str, Any]:
    """What `finish` wrote. Raises CheckpointError where it is damaged."""
    path = run / "result.json"
    return _result(path, f"rm {shlex.quote(str(path))} && {resuming(run)}")


def _result(path: Path, fix: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = read_json(path, Result)
    except (OSError, ValueError) as error:
        raise _damaged(path, error, fix) from error
    return found


def earlier_results(run: Path) -> list[dict[str, Any]]:
    """The results that a run had before it went on for longer, the first one first."""
    found = [_result(path, f"rm {shlex.quote(str(path))}") for path in run.glob("result-*.json")]
    return sorted(found, key=lambda result: result["steps"])


def lengthen(run: Path, resolved: Resolved) -> None:
    """Have a finished run, whose new configuration has more steps, go on. Its result and its last network are kept.

    It is unfinished at the very end, so that a crash within changes nothing that matters.
    """
    steps = read_result(run)["steps"]
    with _writing(run / "result.json"):
        write_text(run / f"result-{steps}.json", read_text(run / "result.json"), settled=True)
        with whole(run / f"last-{steps}.safetensors", settled=True) as kept:
            shutil.copyfile(run / NETWORKS[1], kept)
        write_config(run, resolved)
        (run / "result.json").unlink()


def is_run(path: Path) -> bool:
    return (path / "config.toml").is_file()


def is_finished(run: Path) -> bool:
    return (run / "result.json").exists()


@contextmanager
def recording(run: Path) -> Iterator[None]:
    """Whatever goes wrong inside is added to the run's error.log with its traceback, and raised again."""
    try:
        yield
    except Exception as error:
        if not (isinstance(error, SemisegError) and error.code == 130):  # an interruption is not an error
            path, now = run / "error.log", datetime.now().astimezone().isoformat(timespec="seconds")
            with suppress(OSError), path.open("a", encoding="utf-8") as file:  # a full disk must not hide the error
                file.write(f"{now}\n{traceback.format_exc()}\n")
                error.add_note(f"the traceback is in {path}")
        raise


def _damaged(path: Path, why: object, fix: str = "") -> CheckpointError:
    return CheckpointError(f"{path} is damaged", why=str(why), fix=fix or "put it back as it was, or remove it")


def _write(path: Path, text: str) -> None:
    with _writing(path):
        write_text(path, text)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """A disk that is full or read-only is a CheckpointError that says how the run whose file `path` is goes on."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def _last_written(run: Path) -> float:
    return max(path.stat().st_mtime for path in (run / "config.toml", run / "metrics.jsonl") if path.exists())


def commit() -> str | None:
    """The commit of the checkout this package runs from; None if it is installed, or git is not there."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
