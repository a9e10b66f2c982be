"""`semiseg compare`: methods, encoders and numbers of labels side by side, over seeds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from semiseg_cli.cli import console, options
from semiseg_cli.cli.complete import complete_methods
from semiseg_cli.cli.options import DATA, OUTPUT, TRAIN
from semiseg_cli.core import escape
from semiseg_cli.core.config.tables import Row, table_rows
from semiseg_cli.core.errors import UsageError, counted
from semiseg_cli.core.files import write_text
from semiseg_cli.core.methods import METHODS
from semiseg_cli.core.settings import TrainConfig, doc

if TYPE_CHECKING:
    from rich.table import Table

USUAL = "supervised,unimatch"
PAGE = "compare.md"  # in the folder of the runs


def compare(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="prepared datasets, such as field or fold-0,fold-1")
    ] = "",
    labeled: Annotated[
        str, typer.Option("--labeled", "-l", help="counts or fractions, such as 6,23; empty: all", rich_help_panel=DATA)
    ] = "",
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--method", "-m", help=f"some of {' '.join(METHODS)} probe, with commas between; with a plug-in: "
            "unimatch+masked; one with settings of its own: 'unimatch train.cutmix=0'; repeatable", show_default=USUAL,
            autocompletion=complete_methods, rich_help_panel=TRAIN,
        ),
    ] = None,
    backbones: Annotated[
        str, typer.Option("--backbone", "-b", help="encoders, with commas between", rich_help_panel=TRAIN)
    ] = "",
    seeds: Annotated[
        str, typer.Option(help="of labels and training, with commas between", rich_help_panel=TRAIN)
    ] = "0,1,2",
    probe: Annotated[
        bool,
        typer.Option(
            "--probe", help="a probe of a frozen encoder besides, as `semiseg probe` trains it", rich_help_panel=TRAIN
        ),
    ] = False,
    rows: Annotated[
        str,
        typer.Option(
            metavar="METHOD", help="instead: the rows of this method's published tables, of DATA and -l if given",
            autocompletion=complete_methods, rich_help_panel=TRAIN,
        ),
    ] = "",
    steps: Annotated[int | None, typer.Option(min=1, help=doc(TrainConfig, "steps"), rich_help_panel=TRAIN)] = None,
    weights: Annotated[
        Path | None, typer.Option(help="encoder weights, for all; default: the published ones", rich_help_panel=TRAIN)
    ] = None,
    preset: options.Preset = "",
    config: options.ConfigFile = None,
    set_: options.Set = None,
    jobs: Annotated[
        int, typer.Option(min=0, help="runs at a time; 0: as many as the machine carries", rich_help_panel=TRAIN)
    ] = 0,
    device: Annotated[options.Where, options.device_option(TRAIN)] = "auto",
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="folder of the runs", rich_help_panel=OUTPUT)
    ] = Path("runs/compare"),
    root: options.Root = Path("data"),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train methods side by side on the same labels, over seeds: mean, deviation, and what is gained on the baseline.

    What a run costs is measured before the first. Runs that are done are not run again, so that an interrupted
    comparison goes on, and a larger one (more seeds, another method) takes what is there.
    """
    console.state.quiet = quiet
    from semiseg_cli.core.data.index import default_name
    from semiseg_cli.stages.compare import compare as start
    from semiseg_cli.stages.study import PROBE, Asked, study, table

    flags = {"train.steps": steps, "model.weights": weights}
    typed = tuple((name, str(value)) for name, value in flags.items() if value is not None)
    asked = Asked(root, out, device, typed, tuple(set_ or ()), config, preset)
    numbers = [_number(word) for word in _words(seeds)]
    if not numbers:
        raise UsageError("--seeds names no seed", fix="--seeds 0,1,2")
    if rows:
        if probe or backbones or methods:
            raise UsageError("--rows says what is trained, so it takes neither --method nor --backbone nor --probe")
        wanted = [row for row in table_rows(rows) if _wanted(row.data, data) and _wanted(row.labeled, labeled)]
        if not wanted:
            fix = f"semiseg methods {rows}"
            raise UsageError(f"'{rows}' has no published rows of this data and these labels", fix=fix)
        cells = table(asked, wanted if data else _there(wanted, root), numbers)
    else:
        names = [name for text in methods or [USUAL] for name in _methods(text)] + [PROBE] * probe
        if not names:
            raise UsageError("--method names no method", fix="-m supervised,unimatch")
        unread = {"--set": set_, "--config": config, "--preset": preset}
        if {*names} == {PROBE} and (given := [name for name, value in unread.items() if value]):
            fix = "-m probe with --steps, --weights and -b, or methods besides"
            raise UsageError(f"a probe takes no {' or '.join(given)}", fix=fix)
        datasets = _words(data) or [default_name(root)]
        cells = study(asked, datasets, _words(labeled) or [""], names, _words(backbones) or [""], numbers)
    found = start(cells, out, at_once=jobs, device=device, progress=console.progress, note=console.note)
    page = out / PAGE
    write_text(page, f"{markdown(found['rows'])}\n")
    console.result("compare", found | {"page": str(page)}, [_table(found["rows"]), _end(found, page)], json)
    if found["failed"]:
        raise typer.Exit(1)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _methods(text: str) -> list[str]:
    """Names with commas between; or one with settings, whose values may have commas."""
    return [text] if "=" in text else _words(text)


def _number(word: str) -> int:
    if not word.isdecimal():
        raise UsageError(f"--seeds: '{word}' is not a number", fix="--seeds 0,1,2")
    return int(word)


def _wanted(value: str, asked: str) -> bool:
    """Whether what a row has was asked for: itself, or its last part (183 of classic/183)."""
    return not asked or value in _words(asked) or value.rpartition("/")[2] in _words(asked)


def _there(rows: list[Row], root: Path) -> list[Row]:
    """The rows of datasets that are prepared; all of them where none is, of which the first then is asked for."""
    from semiseg_cli.core.data.index import prepared

    names = prepared(root)
    there = [row for row in rows if row.data in names]
    lacking = Counter(row.data for row in rows if row.data not in names)
    for data, count in lacking.items() if there else ():
        console.note(f"{counted(count, 'row')} of {data} left out: it is not prepared (semiseg prepare {data})")
    return there or rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """The result as a table in Markdown, and what it shows."""
    from semiseg_cli.stages.compared import cells_of, explained

    titles, lines = cells_of(rows)
    every = [titles, ["---"] * len(titles), *([escape.markdown(cell) for cell in line] for line in lines)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in every)
    return "\n\n".join([table, *map(escape.markdown, explained(rows))])


def _table(rows: list[dict[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from semiseg_cli.stages.compared import cells_of

    titles, lines = cells_of(rows)
    table = Table(box=None, header_style="dim", pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")  # a long name is broken, never cut
    for line in lines:
        table.add_row(*map(Text, line))
    return table


def _end(found: dict[str, Any], page: Path) -> str:
    from semiseg_cli.stages.compared import explained

    report = [f"the report: {found['report']}"] * bool(found["report"])
    return "\n".join([*explained(found["rows"]), f"as Markdown: {page}", *report])
