"""A comparison of methods, encoders and numbers of labels: what it will cost, its runs, and what they say together."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from semiseg_cli.core import runs
from semiseg_cli.core.data.cores import cores
from semiseg_cli.core.errors import DataError, Interrupted
from semiseg_cli.core.files import write_text
from semiseg_cli.core.machine import free_memory
from semiseg_cli.core.owner import NAME as OWNER
from semiseg_cli.core.owner import owned
from semiseg_cli.core.partitions.protocols import recognise
from semiseg_cli.core.spread import spread
from semiseg_cli.core.training.distributed import join
from semiseg_cli.stages.compared import grouped
from semiseg_cli.stages.jobs import Job, run_jobs
from semiseg_cli.stages.progress import Progress, silent
from semiseg_cli.stages.report import COMPARISON, report_or_note
from semiseg_cli.stages.study import Cell, result_of

SPARE = 1.3  # times what a run's steps take is what it is given: evaluations, pictures, another moment
CONTEXT = 2**30  # bytes that a process takes on a GPU beside its tensors, rounded up
MOST = 4  # processes on one GPU
METRIC = {"mIoU": "miou", "boundary F-score": "boundary_f"}  # of a row: its name in what `semiseg eval` answers

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
    """Run what is not done of these cells, and put all together: a row per method, encoder and number of labels.

    at_once: runs at a time; 0: as many as the machine carries.
    A run that fails is told, stops no other, and has no part in its row. Raises DataError where none can be begun,
    Interrupted after those at work have saved: the same calls go on.
    """
    open_cells = [cell for cell in cells if result_of(cell.run) is None]
    if len(open_cells) < len(cells):
        note(f"{len(cells) - len(open_cells)} of {len(cells)} runs are done")
    failed: dict[str, str] = {}
    cuda = join(device).device.type == "cuda"
    folder.mkdir(parents=True, exist_ok=True)
    with owned(folder / OWNER, str(folder)), _stoppable(folder):
        if open_cells:
            costs = _costs(open_cells, progress)
            together = at_once or carried(max((x["peak_memory_bytes"] for x in costs.values()), default=0), cuda)
            together = min(together, len(open_cells))
            _foretell(open_cells, costs, together, note)
            failed = _run(open_cells, folder, together, cuda, progress, note)
        rows = published(cells) if cells[0].row else grouped(cells)
    found = {"folder": str(folder), "runs": len(cells), "failed": failed, "rows": rows}
    kept = {"rows": rows, "failed": failed, "runs": [cell.run.name for cell in cells]}
    write_text(folder / COMPARISON, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    return found | {"report": report_or_note([folder], note)}


@contextmanager
def _stoppable(folder: Path) -> Iterator[None]:
    """SIGTERM is an interrupt as Ctrl-C is; either becomes Interrupted."""
    before = None
    with suppress(ValueError):  # not the main thread
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        why = f"the runs at work have saved, in {folder}"
        raise Interrupted("the comparison was stopped", why=why, fix="the same command goes on with it") from None
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _costs(cells: Sequence[Cell], progress: Progress) -> dict[str, Any]:
    """What a run costs, by a dry run of each way to train on each encoder; of a probe it is not known."""
    first = {_kind(cell): cell for cell in reversed(cells) if cell.words[0] == "train"}
    costs: dict[str, Any] = {}
    with progress("measuring what a run costs", len(first)) as advance:
        for kind in dict.fromkeys(_kind(cell) for cell in cells if _kind(cell) in first):
            costs[kind] = _answer([*first[kind].words, *first[kind].place, "--dry-run", "--quiet"])["cost"]
            advance()
    return costs


def _kind(cell: Cell) -> str:
    return f"{cell.title} on {cell.backbone}, {cell.steps} steps"


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
    hours = 0.0
    for kind in dict.fromkeys(map(_kind, cells)):
        count = sum(_kind(cell) == kind for cell in cells)
        if kind not in costs:
            note(f"{kind}: {count} runs of minutes")
            continue
        each, memory = costs[kind]["estimated_hours"], costs[kind]["peak_memory_bytes"]
        hours += count * each
        note(f"{kind}: {count} runs of {60 * each:.1f} minutes and {memory / 2**30:.1f} GiB")
    time = f"{60 * hours / together:.0f} minutes" if hours / together < 2 else f"{hours / together:.1f} hours"
    note(f"{len(cells)} runs, {together} at a time: about {time} if they do not slow each other, without evaluations")


def _run(
    cells: Sequence[Cell], folder: Path, together: int, cuda: bool, progress: Progress, note: Note
) -> dict[str, str]:
    """Run the cells; why each of those that failed did, by its directory."""
    jobs = {str(cell.run): cell for cell in cells}
    failed: dict[str, str] = {}
    shown, total = 0, sum(cell.steps for cell in cells)
    with progress("steps of all runs", total) as advance:

        def watch() -> None:
            nonlocal shown
            done = sum(map(_steps_done, cells))
            advance(max(done - shown, 0))
            shown = max(done, shown)

        def ended(job: Job, code: int) -> None:
            result = result_of(jobs[job.name].run)
            if code or result is None:
                failed[job.name] = _last_line(job.log)
                note(f"{job.name} failed ({code}): {failed[job.name]}; all it said: {job.log}")
            elif result.get("last"):
                note(f"{job.name}: mIoU {result['last']['miou']:.2f}")

        threads = {} if cuda else {"OMP_NUM_THREADS": str(max(cores() // together, 1))}
        run_jobs([_job(cell, folder) for cell in cells], together, environment=threads, watch=watch, ended=ended)
    return failed


def _job(cell: Cell, folder: Path) -> Job:
    """What begins a run, or goes on with one that was stopped."""
    begun = (cell.run / "resume").is_dir()
    new = (*cell.words, *cell.place, "--out", str(cell.run))
    words = ("train", str(cell.run), "--resume") if begun else new
    if not begun and cell.run.is_dir():  # it was stopped before its first save
        with runs.owned(cell.run):
            shutil.rmtree(cell.run)
    return Job(str(cell.run), (*words, "--json"), folder / "logs" / f"{cell.run.name}.log")


def _steps_done(cell: Cell) -> int:
    if runs.is_finished(cell.run):  # not read: this is asked of every run twice a second
        return cell.steps
    return max((int(row["step"]) for row in runs.read_metrics(cell.run)), default=0)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "")


def published(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """A row per row of a paper's table: what is printed there, what ours came to, and why the two do not compare."""
    rows = []
    for group in dict.fromkeys(cell.group for cell in cells):
        members = [cell for cell in cells if cell.group == group]
        done = [(cell, found) for cell in members if (found := result_of(cell.run)) and found.get("last")]
        table = members[0].row
        assert table is not None
        row: dict[str, Any] = {
            "row": table.title, "labeled": table.labeled, "metric": table.metric, "published": table.published,
            "command": table.command, "evaluation": table.evaluation, "runs": len(done), "asked": len(members),
            "differs": _differs(members[0]),
        }  # fmt: skip
        if done:
            row["last"] = asdict(spread([_measured(cell, found) for cell, found in done]))
            row["best"] = asdict(spread([found["best"]["miou"] for _, found in done]))
        rows.append(row)
    return rows


def _measured(cell: Cell, found: dict[str, Any]) -> float:
    """The number of a row: the run's own, or what its `semiseg eval` says, in percent."""
    row = cell.row
    assert row is not None
    if not row.evaluate:
        return float(found["last"]["miou"])
    words = ["eval", str(cell.run / "last.safetensors"), *row.evaluate.split(), *cell.place]
    return float(_answer(words)[METRIC[row.metric]])


def _differs(cell: Cell) -> list[str]:
    """Why a run of a row is not what the paper's was."""
    row = cell.row
    assert row is not None
    partition = runs.read_partition(cell.run)
    reasons = [row.remark] * bool(row.remark)
    if partition and row.data in ("voc", "cityscapes") and not recognise(partition.get("fingerprint", "")):
        reasons.append(f"labels of our own, not the published list (semiseg split {row.data} --fetch unimatch)")
    typed = cell.words[len(row.words) + 2 :]  # after the row's own and the seed
    if typed:
        reasons.append(f"trained with {shlex.join(typed)}")
    if row.published is None:
        reasons.append("the paper has no number")
    return reasons
