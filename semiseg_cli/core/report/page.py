"""The page: templates, style and script put together, with nothing that a browser would have to fetch."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).with_name("templates")


def page(template: str, **told: Any) -> str:
    """A template of `templates/` filled in. What is told is escaped wherever it stands.

    A browser is told to load nothing, and to run the page's own script alone, by its hash.
    """
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    mark = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    filled = _environment().get_template(template)
    text = filled.render(style=style, script=script, script_mark=f"sha256-{mark}", **told)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")  # file names that are not UTF-8


@cache
def _environment() -> Environment:
    """It keeps the templates that it has compiled, which takes longer than to fill them in."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
