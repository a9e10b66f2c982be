"""A comparison of methods, encoders and numbers of labels: what it will cost, its runs, and what they say together."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from semiseg_cli.core import runs
from semiseg_cli.core.data.cores import cores
from semiseg_cli.core.errors import DataError, Interrupted, counted
from semiseg_cli.core.files import STATE, write_text
from semiseg_cli.core.machine import free_memory
from semiseg_cli.core.owner import NAME as OWNER
from semiseg_cli.core.owner import holder, owned
from semiseg_cli.core.runs.log import read_metrics
from semiseg_cli.core.stopping import asking
from semiseg_cli.core.training.distributed import join
from semiseg_cli.stages.compared import grouped, overall
from semiseg_cli.stages.jobs import Job, run_jobs
from semiseg_cli.stages.progress import Progress, silent
from semiseg_cli.stages.published_rows import published
from semiseg_cli.stages.report import COMPARISON, report_or_note
from semiseg_cli.stages.study import Cell, result_of

SPARE = 1.3  # times what a run's steps take is what it is given: evaluations, pictures, another moment
CONTEXT = 2**30  # bytes that a process takes on a GPU beside its tensors, rounded up
MOST = 4  # processes on one GPU
WAIT = 1.0  # seconds between looks at a run that an earlier comparison began

Note = Callable[[str], None]


def compare(
    cells: Sequence[Cell],
    folder: Path,
    *,
    at_once: int = 0,
    device: str = "auto",
    progress: Progress = silent,
    note: Note = lambda line: None,
) -> dict[str, Any]:
    """Run what is not done of these cells, and put all together: a row per dataset, number of labels, method, encoder.

    at_once: runs at a time; 0: as many as the machine carries.
    A run that fails is told, stops no other, and has no part in its row. Raises DataError where none can be begun,
    Interrupted after those at work have saved: the same calls go on.
    """
    failed: dict[str, str] = {}
    cuda = join(device).device.type == "cuda"
    folder.mkdir(parents=True, exist_ok=True)
    with owned(folder / OWNER, str(folder)), _stoppable(folder):
        every = list({cell.run: cell for cell in cells}.values())
        _await(every, note)
        open_cells = [cell for cell in every if result_of(cell) is None]
        if len(open_cells) < len(every):
            note(f"{len(every) - len(open_cells)} of {counted(len(every), 'run')} are done")
        if open_cells:
            costs = _costs(open_cells, progress)
            together = at_once or carried(max((x["peak_memory_bytes"] for x in costs.values()), default=0), cuda)
            together = min(together, len(open_cells))
            _foretell(open_cells, costs, together, note)
            failed = _run(open_cells, folder, together, cuda, progress, note)
        rows = published(cells, _answer) if cells[0].row else grouped(cells)
    found = {"folder": str(folder), "runs": len(every), "failed": failed, "rows": rows, "overall": overall(rows)}
    kept = {"rows": rows, "failed": failed, "runs": [cell.run.name for cell in every]}
    kept["titles"] = {cell.run.name: cell.title for cell in every if not cell.row}
    write_text(folder / COMPARISON, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    return found | {"report": report_or_note([folder], note)}


@contextmanager
def _stoppable(folder: Path) -> Iterator[None]:
    """What stops a run (SIGTERM, a terminal that closes) interrupts as Ctrl-C does, and becomes Interrupted."""
    try:
        before = {number: signal.signal(number, signal.default_int_handler) for number in asking()}
    except ValueError:  # not the main thread
        before = {}
    try:
        yield
    except KeyboardInterrupt:
        why = f"the runs at work have saved, in {folder}"
        raise Interrupted("the comparison was stopped", why=why, fix="the same command goes on with it") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _await(cells: Sequence[Cell], note: Note) -> None:
    """Until no process has one of these runs: those of a comparison that was killed go on without it."""
    for cell in cells:
        if who := holder(cell.run / OWNER):
            note(f"{cell.run} is being trained by {who}, which an earlier comparison left; waiting for it")
        while holder(cell.run / OWNER):
            time.sleep(WAIT)


def _costs(cells: Sequence[Cell], progress: Progress) -> dict[str, Any]:
    """What a step costs, by the pace of runs: a dry run of each. Of a probe it is not known."""
    costs, first = dict[str, Any](), dict[str, Cell]()
    for cell in cells:
        if cell.words[0] == "train":
            first.setdefault(cell.pace, cell)
    with progress("measuring what a run costs", len(first)) as advance:
        for pace, cell in first.items():
            costs[pace] = _answer([*cell.words, *cell.place, "--dry-run", "--quiet"])["cost"]
            advance()
    return costs


def _answer(words: Sequence[str]) -> Any:
    """The result of a command of this program. Raises DataError with what it said where it fails."""
    command = [sys.executable, "-m", "semiseg_cli", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip()
        raise DataError(f"semiseg {words[0]} fails", why=said.removeprefix("error: "))
    return json.loads(done.stdout)["result"]


def carried(memory: int, cuda: bool) -> int:
    """Runs at a time that the machine carries: a core each, or a share of the GPU, and memory for all of them.

    memory: bytes that the steps of the largest take.
    """
    if cuda:
        import torch

        free, _ = torch.cuda.mem_get_info()
        return max(1, min(MOST, int(free // (SPARE * memory + CONTEXT))))
    return max(1, min(cores(), int(free_memory() // (SPARE * memory)) if memory else cores()))


def _foretell(cells: Sequence[Cell], costs: dict[str, Any], together: int, note: Note) -> None:
    hours, kinds = 0.0, dict[tuple[str, str], list[Cell]]()
    several = len({cell.data for cell in cells}) > 1
    for cell in cells:
        data = f", {cell.data}" if several and not cell.row else ""
        kind = f"{cell.title} on {cell.backbone}{data}, {cell.steps} steps"
        kinds.setdefault((kind, cell.pace), []).append(cell)
    for (kind, pace), members in kinds.items():
        count, cost = counted(len(members), "run"), costs.get(pace)
        if cost is None:
            note(f"{kind}: {count} of minutes")
            continue
        each = cost["step_ms"] * members[0].steps / 3.6e6
        hours += len(members) * each
        note(f"{kind}: {count} of {60 * each:.1f} minutes and {cost['peak_memory_bytes'] / 2**30:.1f} GiB")
    hours /= together
    time = counted(max(round(60 * hours), 1), "minute") if hours < 2 else f"{hours:.1f} hours"
    many = f"{counted(len(cells), 'run')}, {together} at a time"
    note(f"{many}: about {time} if they do not slow each other, without evaluations")


def _run(
    cells: Sequence[Cell], folder: Path, together: int, cuda: bool, progress: Progress, note: Note
) -> dict[str, str]:
    """Run the cells; why each of those that failed did, by its directory."""
    jobs = {str(cell.run): cell for cell in cells}
    failed, seen = dict[str, str](), dict[Path, tuple[int, int]]()
    shown, total = 0, sum(cell.steps for cell in cells)
    with progress("steps of all runs", total) as advance:

        def watch() -> None:
            nonlocal shown
            done = sum(_steps_done(cell, seen) for cell in cells)
            advance(max(done - shown, 0))
            shown = max(done, shown)

        def ended(job: Job, code: int) -> None:
            result = result_of(jobs[job.name])
            if code or result is None:
                failed[job.name] = _last_line(job.log, code)
                note(f"{job.name} failed ({code}): {failed[job.name]}; all it said: {job.log}")
            elif result.get("last"):
                note(f"{job.name}: mIoU {result['last']['miou']:.2f}")

        threads = {} if cuda else {"OMP_NUM_THREADS": str(max(cores() // together, 1))}
        run_jobs([_job(cell, folder) for cell in cells], together, environment=threads, watch=watch, ended=ended)
    return failed


def _job(cell: Cell, folder: Path) -> Job:
    """What begins a run, or goes on with one that was stopped."""
    begun = (cell.run / STATE).is_file()
    words = ("train", str(cell.run), "--resume") if begun else (*cell.words, "--out", str(cell.run))
    if not begun and cell.run.is_dir():  # it was stopped before its first save
        with runs.owned(cell.run):
            shutil.rmtree(cell.run)
    return Job(str(cell.run), (*words, *cell.place, "--json"), folder / "logs" / f"{cell.run.name}.log")


def _steps_done(cell: Cell, seen: dict[Path, tuple[int, int]]) -> int:
    """This is asked of every run twice a second: `seen` keeps the size of its log, and the step that it had then."""
    if runs.is_finished(cell.run):
        return cell.steps
    log = cell.run / "metrics.jsonl"
    size = log.stat().st_size if log.exists() else 0
    if seen.get(cell.run, (0, 0))[0] != size:
        seen[cell.run] = size, max((int(row["step"]) for row in read_metrics(cell.run)), default=0)
    return seen.get(cell.run, (0, 0))[1]


def _last_line(log: Path, code: int) -> str:
    """What a process said last; of one that was killed, by what."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}" + " (out of memory?)" * (code == -signal.SIGKILL)
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "")
