"""From the images and labels of a benchmark to its records, on all cores, going on where an earlier run stood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from semiseg_cli.core.data.cores import on_all_cores
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.sources.benchmark import Task, convert, is_current
from semiseg_cli.core.sources.classes import Classes
from semiseg_cli.core.sources.copies import Refusal, refuse
from semiseg_cli.core.sources.journal import Journal
from semiseg_cli.stages.progress import Progress


def convert_all(
    tasks: Sequence[Task],
    journal: Journal,
    known: Mapping[str, Record],
    classes: Classes,
    *,
    fix: str,
    progress: Progress,
    jpg: bool = False,
) -> dict[str, Record]:
    """The record of every task, by id; `known` ones are taken as they are, and journaled ones if nothing has changed.

    fix: what to try where files cannot be used. Raises DataError that lists all of these.
    """
    records = dict(known)
    for task in tasks:
        if (done := journal.done.get(task.id)) and is_current(task, done):
            records[task.id] = done
    left = [task for task in tasks if task.id not in records]
    with progress(f"preparing {journal.folder.name}", len(tasks)) as advance:
        advance(len(tasks) - len(left))

        def one(task: Task) -> Record | Refusal:
            result = convert(task, journal.folder, jpg=jpg)
            if isinstance(result, Record):
                journal.add(task.part, result)
            advance()
            return result

        results = on_all_cores(one, left)
    refuse([each for each in results if isinstance(each, Refusal)], classes, fix)
    records |= {each.id: each for each in results if isinstance(each, Record)}
    return {task.id: records[task.id] for task in tasks}
