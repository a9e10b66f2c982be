"""The rows of a paper's tables beside what their runs came to here, and why the two do not compare."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from semiseg_cli.core.errors import SemisegError
from semiseg_cli.core.partitions.protocols import recognise
from semiseg_cli.core.runs.results import read_partition
from semiseg_cli.core.spread import spread
from semiseg_cli.stages.study import Cell, result_of

METRIC = {"mIoU": "miou", "boundary F-score": "boundary_f"}  # of a row: its name in what `semiseg eval` answers
Ask = Callable[[Sequence[str]], Any]  # a command of this program: its result


def published(cells: Sequence[Cell], ask: Ask) -> list[dict[str, Any]]:
    """A row per row of a paper's table: what is printed there, what ours came to, and why the two do not compare.

    ask: runs `semiseg eval` where the number is not the mIoU of the run itself; what goes wrong then is such a reason.
    """
    rows = []
    for group in dict.fromkeys(cell.group for cell in cells):
        members = [cell for cell in cells if cell.group == group]
        differs = _differs(members[0])
        done = [(cell, found) for cell in members if (found := result_of(cell)) and found.get("last")]
        table = members[0].row
        assert table is not None
        row: dict[str, Any] = {
            "row": members[0].title, "labeled": table.labeled, "metric": table.metric, "published": table.published,
            "command": table.command, "evaluation": table.evaluation, "runs": len(done), "asked": len(members),
            "differs": differs,
        }  # fmt: skip
        try:
            if done:
                row["last"] = asdict(spread([_measured(cell, found, ask) for cell, found in done]))
            if done and not table.evaluate:
                row["best"] = asdict(spread([found["best"]["miou"] for _, found in done]))
        except SemisegError as error:
            differs.append(f"not measured here: {error}" + f" ({error.why})" * bool(error.why))
        rows.append(row)
    return rows


def _measured(cell: Cell, found: dict[str, Any], ask: Ask) -> float:
    """The number of a row: the run's own, or what its `semiseg eval` says, in percent."""
    row = cell.row
    assert row is not None
    if not row.evaluate:
        return float(found["last"]["miou"])
    network, earlier = cell.run / "last.safetensors", cell.run / f"last-{found['steps']}.safetensors"
    words = ["eval", str(earlier if earlier.is_file() else network), *row.evaluate.split(), *cell.place]
    return float(ask(words)[METRIC[row.metric]])


def _differs(cell: Cell) -> list[str]:
    """Why a run of a row is not what the paper's was."""
    row = cell.row
    assert row is not None
    partition = read_partition(cell.run)
    reasons = [row.remark] * bool(row.remark)
    if partition and row.data in ("voc", "cityscapes") and not recognise(partition.get("fingerprint", "")):
        reasons.append(f"labels of our own, not the published list (semiseg split {row.data} --fetch unimatch)")
    typed = cell.words[len(row.words) + 2 :]  # after the row's own and the seed
    if typed:
        reasons.append(f"trained with {shlex.join(typed)}")
    if row.published is None:
        reasons.append("the paper has no number")
    return reasons
