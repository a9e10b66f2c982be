"""`report.html`: of a run in its directory, or of several and of a comparison beside them. Nothing ever needs it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from semiseg_cli import __version__
from semiseg_cli.core import runs
from semiseg_cli.core.commands import command
from semiseg_cli.core.errors import CheckpointError, DataError, SemisegError, UsageError
from semiseg_cli.core.files import write_text
from semiseg_cli.core.reading import read_json, shaped
from semiseg_cli.core.report.page import page
from semiseg_cli.core.report.pictures import Case
from semiseg_cli.stages import report_comparison, report_run
from semiseg_cli.stages.compared import cells_of, explained, grouped
from semiseg_cli.stages.progress import Progress, silent
from semiseg_cli.stages.recorded import Recorded
from semiseg_cli.stages.report_comparison import PAGE
from semiseg_cli.stages.study import Cell

COMPARISON = "compare.json"  # what `semiseg compare` leaves in the folder of its runs
WORST = 6  # images of a run
Note = Callable[[str], None]


def report(
    sources: Sequence[Path],
    *,
    out: Path | None = None,
    root: Path | None = None,
    device: str = "auto",
    progress: Progress = silent,
    note: Note = lambda line: None,
) -> dict[str, Any]:
    """Write the page of these runs; returns its path, the runs and its size in bytes.

    sources: run directories, or folders of them. out: the file, which gets `.html` where it does not end so, because
    browsers show others as text; None: `report.html` in the run, or in the folder that all of the runs are in. A run of
    an earlier version is evaluated first. What cannot be shown (pictures of data that is gone) is left out, and said on
    the page.
    Raises UsageError where there is no run, CheckpointError for a damaged one, DataError where it cannot be written.
    """
    if out and out.suffix not in (".html", ".htm") and not out.is_dir():
        out = out.with_name(f"{out.name}.html")
    paths = list(dict.fromkeys(run for source in sources for run in _runs_in(source)))
    if len(paths) == 1 and runs.is_run(sources[0]):
        target, text = out or paths[0] / PAGE, _of_run(paths[0], root, device, progress)
    else:
        target = out or Path(os.path.commonpath([path.absolute().parent for path in paths])) / PAGE
        target = Path(os.path.relpath(target)) if not sources[0].is_absolute() and not out else target
        text = _of_several(paths, sources, target, note)
    try:
        write_text(target, text)
    except OSError as error:
        raise DataError(f"cannot write {target}", why=str(error), fix="another file: -o FILE") from error
    return {"page": str(target), "runs": [str(path) for path in paths], "bytes": len(text.encode())}


def report_or_note(sources: Sequence[Path], note: Note, **how: Any) -> str | None:
    """The same for a command whose work is done, which nothing here may spoil: what goes wrong is told in a line."""
    try:
        return str(report(sources, note=note, **how)["page"])
    except Exception as error:  # whatever it is
        note(f"no report: {' '.join(str(error).split()) or type(error).__name__}; the runs are complete without it")
        return None


def _runs_in(source: Path) -> list[Path]:
    """A run itself, or the runs of a folder, those of the last comparison alone if there was one."""
    if runs.is_run(source):
        return [source]
    kept = _comparison(source)
    found = [source / Path(name).name for name in kept["runs"]] if kept else sorted(runs.list_runs(source))
    found = [run for run in found if runs.is_run(run)]
    if not found:
        fix = command("runs", runs=source if source.is_dir() else source.parent)
        raise UsageError(f"there is no run in {source}", why="no config.toml is there", fix=fix)
    return found


class Spread(TypedDict):
    mean: float
    deviation: float | None


class Gain(Spread):
    half: float | None
    over: str
    each: NotRequired[list[float]]


class Group(TypedDict):
    """A row of `compared.grouped`."""

    data: NotRequired[str]
    labeled: str
    method: str
    backbone: str
    runs: int
    asked: int
    last: NotRequired[Spread]
    best: NotRequired[Spread]
    gain: NotRequired[Gain]
    seconds: NotRequired[float]
    peak_memory_bytes: NotRequired[int | None]


class Printed(TypedDict):
    """A row of a paper's table, as `published_rows` has it."""

    row: str
    labeled: str
    published: float | None
    differs: list[str]
    metric: NotRequired[str]
    last: NotRequired[Spread]


class Compared(TypedDict):
    """compare.json. rows: as `compare` returns them, all of a kind; runs: names of directories beside it, and titles:
    what the rows call these."""

    rows: list[dict[str, Any]]
    failed: dict[str, str]
    runs: list[str]
    titles: NotRequired[dict[str, str]]


def _comparison(folder: Path) -> dict[str, Any]:
    file = folder / COMPARISON
    try:
        found: dict[str, Any] = read_json(file, Compared) if file.exists() else {}
        rows = found.get("rows", [])
        shaped(rows, list[Printed] if rows and "published" in rows[0] else list[Group], "rows")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {file}", why=str(error), fix=f"rm {shlex.quote(str(file))}") from error
    return found


def _of_run(run: Path, root: Path | None, device: str, progress: Progress) -> str:
    found, notes = Recorded.of(run), list[str]()
    cases: list[Case] = []
    if found.last:
        try:
            from semiseg_cli.stages import report_pictures  # torch

            if not found.evaluation:
                report_pictures.evaluated(run, root, device, progress)
                found = Recorded.of(run)
            cases = report_pictures.worst(run, found.evaluation["images"], WORST, root, device, progress)
        except SemisegError as error:
            notes.append(f"Without pictures: {error}" + f" ({error.why})" * bool(error.why))
    return page("run.html", **report_run.told(found, cases, notes), **_made())


def _of_several(paths: Sequence[Path], sources: Sequence[Path], target: Path, note: Note) -> str:
    """A run that is damaged is left out, and told."""
    found = list[Recorded]()
    for path in paths:
        try:
            found.append(Recorded.of(path))
        except (CheckpointError, UsageError) as error:
            note(f"left out: {error}" + f" ({error.why})" * bool(error.why))
    if not found:
        raise UsageError("none of these runs can be read")
    kept = _comparison(sources[0]) if len(sources) == 1 else {}
    rows = kept["rows"] if kept else _rows(found)
    table: dict[str, Any] | None = None
    if rows:
        names, lines = cells_of(rows)
        table = {"titles": names, "lines": lines, "said": explained(rows), "words": "published" in rows[0]}
        table["left"] = names.index("last") - 1 if "last" in names else 0
    told = report_comparison.told(found, table, kept.get("failed", {}), target, kept.get("titles", {}))
    return page("comparison.html", **told, **_made())


def _rows(found: Sequence[Recorded]) -> list[dict[str, Any]]:
    """A row for each group of finished runs, as `semiseg compare` has it."""
    titles = report_comparison.titles(found)
    cells = [_cell(title, run) for title, run in zip(titles, found, strict=True) if run.result.get("last")]
    return grouped(cells) if cells else []


def _cell(title: str, run: Recorded) -> Cell:
    config = run.config
    return Cell(
        title, str(config["model.backbone"]), str(config["data.name"]), str(config["data.labeled"] or "all"),
        int(config["train.seed"]), run.steps, (), (), run.run, partition=run.partition.get("fingerprint", ""),
    )  # fmt: skip


def _made() -> dict[str, str]:
    return {"version": __version__, "made": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")}
