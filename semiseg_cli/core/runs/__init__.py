"""Run directories: their names, who owns them, their configuration, and how they go on.

A run directory holds
    config.toml         the final configuration, each value with its origin as a comment
    environment.json    versions, device, git commit, command line                              (`environment.py`)
    partition.json      name, fingerprint and protocol of the labeled images, how many there are    (`results.py`)
    metrics.jsonl       one JSON object per log line, each with its `step`                              (`log.py`)
    evaluation.json     of the last evaluation: confusion matrix, frequency of the classes, mIoU of every image
    last.safetensors best.safetensors resume/   (written by the training loop)
    result.json         written at the very end: a run is finished when it has one
    result-N.json last-N.safetensors   its result and network after N steps, where it went on for longer after these
    error.log           tracebacks of what went wrong
A directory is a run if it holds a config.toml.
"""

from __future__ import annotations

import re
import shlex
import shutil
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from semiseg_cli.core import files, owner
from semiseg_cli.core.config.layers import Resolved, flatten, resolve
from semiseg_cli.core.config.names import Flat
from semiseg_cli.core.config.toml import flat, read_toml, to_toml
from semiseg_cli.core.errors import CheckpointError, SemisegError, UsageError
from semiseg_cli.core.files import NETWORKS, STATE, resuming, toml_value, whole, write_text
from semiseg_cli.core.reading import read_text
from semiseg_cli.core.runs.disk import write, writing
from semiseg_cli.core.runs.results import read_result
from semiseg_cli.core.settings import Config, Unread

OUTSIDE = r"[/\\\0]"  # what leads out of a folder, or names nothing


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
    write(run / "config.toml", to_toml(flatten(resolved.config), resolved.origins))


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


def sweep(run: Path) -> None:
    """Remove what saves that were killed have left in a run that nobody else writes to."""
    files.sweep(run, [*NETWORKS, "*.toml", "*.json", "*.jsonl", "*.html"])  # the file itself may not be there yet
    files.sweep((run / STATE).parent, [STATE.name])


def lengthen(run: Path, resolved: Resolved) -> None:
    """Have a finished run, whose new configuration has more steps, go on. Its result and its last network are kept.

    It is unfinished at the very end, so that a crash within changes nothing that matters.
    """
    steps = read_result(run)["steps"]
    with writing(run / "result.json"):
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


def _last_written(run: Path) -> float:
    return max(path.stat().st_mtime for path in (run / "config.toml", run / "metrics.jsonl") if path.exists())
