"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunsData = Annotated[
    Path | None,
    typer.Option(
        "--root",
        show_default="SEMISEG_DATA or data; where the run has it",
        help="folder of the prepared datasets",
        rich_help_panel="Data",
    ),
]
