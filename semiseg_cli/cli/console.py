"""What the terminal shows: one result on stdout, everything else on stderr.

A command ends with `result(...)`; on its way it uses `note`, `warn` and `progress`. What may be copied (commands,
paths, names of runs) is a string, and strings are printed as they are, however narrow the terminal; rich gets tables
alone, and what may be copied from one stands in a column with `no_wrap`. Everything passes here, and names of files,
classes and metadata cannot act on a terminal: see `core.escape`. Of several processes the first talks; errors
are told by those that have them.
"""

from __future__ import annotations

import json as jsonlib
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from textwrap import fill
from typing import TYPE_CHECKING, Any

from rich.console import Console

from semiseg_cli.cli.ranks import is_main
from semiseg_cli.core.escape import printable, printable_json

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.table import Table

SCHEMA = 1
NO_BREAK = "\N{NO-BREAK SPACE}"


@dataclass
class State:
    """Of one command line. `quiet` silences notes and progress, never warnings; `answered`: the document is out."""

    arguments: list[str] = field(default_factory=list)
    quiet: bool = False
    debug: bool = False
    answered: bool = False


state = State()


class Plain(Console):
    """A console that shows text as it is written: no markup, no emoji codes, no control characters but rich's own.

    Where it cannot be written to any more (its terminal was closed, nobody reads the pipe) it falls silent: what is
    being told of, such as a run that is about to save, goes on.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except OSError:
            self.quiet = True

    def on_broken_pipe(self) -> None:
        self.quiet = True


@cache
def stderr() -> Console:
    return Plain(stderr=True)


def stdout() -> Console:
    """Tables go to pipes and files unwrapped."""
    return Plain(width=None if sys.stdout.isatty() else 200)


def result(command: str, data: Any, text: str | Table | Sequence[str | Table], json: bool) -> None:
    """The result of a command: `data` (plain values) as one JSON document, or `text`: strings, tables, or several.

    Of several processes the first alone has one; what it is handed need not be one in the others.
    """
    if not is_main():
        return
    if json:
        document({"command": command, "result": data})
        return
    for part in [text] if isinstance(text, str) or not isinstance(text, Sequence) else text:
        if isinstance(part, str):
            print(printable(part), flush=True)
        else:
            out = stdout()
            out.width = _fitted(part, out.width)
            out.print(part)


def prose(text: str) -> str:
    """Text to be read: on a terminal that is narrower than its lines, its paragraphs are filled anew.

    What stands between backticks is to be copied, and stays on one line.
    """
    width = stdout().width
    if max(map(len, text.splitlines()), default=0) <= width or not sys.stdout.isatty():
        return text
    whole = re.sub(r"`[^`]+`", lambda found: NO_BREAK.join(found[0].split()), text)
    manner: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
    filled = "\n\n".join(fill(paragraph, width, **manner) for paragraph in whole.split("\n\n"))
    return filled.replace(NO_BREAK, " ")


def percent(value: float | None) -> str:
    """A cell of a table; a dash for a number that there is none of."""
    return "-" if value is None else f"{value:.2f}"


def _fitted(table: Table, width: int) -> int:
    """Fit a table into a width, and return the one that it takes: more where its words alone are wider.

    Columns with `no_wrap` stay whole, others break between words only. Room that is left is shared by what they lack.
    """
    from rich.measure import Measurement

    console = stdout()
    options = console.options.update(width=10_000)  # to measure: wider than any cell
    least, most = list[int](), list[int]()
    for column in table.columns:
        cells = [Measurement.get(console, options, cell) for cell in (column.header, *column.cells)]
        most.append(max(cell.maximum for cell in cells))
        least.append(most[-1] if column.no_wrap else max(cell.minimum for cell in cells))
    edges = Measurement.get(console, options, table).maximum - sum(most)
    lacking, room = sum(most) - sum(least), max(width - edges - sum(least), 0)
    if lacking > room:
        for column, low, high in zip(table.columns, least, most, strict=True):
            column.width = low + room * (high - low) // lacking
    return max(width, edges + sum(least))


def document(content: dict[str, Any]) -> None:
    """Print the one JSON document of this command, unless it has been printed. What is not finite becomes null."""
    if not state.answered:
        text = jsonlib.dumps({"schema": SCHEMA, **_plain(content)}, ensure_ascii=False, allow_nan=False)
        print(printable_json(text), flush=True)
    state.answered = True


def note(text: str) -> None:
    if not state.quiet:
        _say(text)


def warn(text: str) -> None:
    _say(f"warning: {text}", style="yellow")


@contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A progress bar on a terminal, nothing elsewhere. Yields `advance(count=1)`, or `advance(done=n)` to set it.

    >>> with progress("preparing", 2) as advance:
    ...     advance()
    """
    if state.quiet or not is_main() or not stderr().is_terminal:
        yield lambda count=1, *, done=None: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr(), transient=True) as bar:
        task = bar.add_task(description, total=total)

        def advance(count: int = 1, *, done: int | None = None) -> None:
            if done is None:
                bar.advance(task, count)
            else:
                bar.update(task, completed=done)

        yield advance


def _say(text: str, style: str = "") -> None:
    if not is_main():
        return
    stderr().print(text, style=style, soft_wrap=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
