"""A settings file to start from: every setting with its meaning and its default, commented out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from semiseg_cli.core.config.coerce import spelled
from semiseg_cli.core.config.describe import describe_method
from semiseg_cli.core.config.layers import SECTIONS
from semiseg_cli.core.files import toml_value
from semiseg_cli.core.methods import METHODS
from semiseg_cli.core.methods.extras import EXTRAS
from semiseg_cli.core.settings import doc, hints

HEADER = """\
# Settings of semiseg, read from the working directory as semiseg.toml, or with --config FILE.
# Remove the # before a setting to fix its value; those left as they are come from the method and the preset
# (semiseg presets), not from here. Options such as --batch and --set are stronger than this file.
# [methods.NAME.train] and the like hold for one method only. What applies in the end: semiseg config show
"""


def settings_template(method: str) -> str:
    """TOML of all settings with their defaults for `method`, its own included. UsageError for one there is not."""
    name = [
        ("name", method, "method: " + ", ".join(METHODS)),
        ("add", (), "plug-ins, each with a table of settings of its own: " + ", ".join(EXTRAS)),
    ]
    found = describe_method(method)
    own = [(s.name, s.default, _with_range(s.meaning, s.allowed)) for s in found.settings]
    tables = {"method": [*name, *own], **{section: list(_section(cls)) for section, cls in SECTIONS.items()}}
    for changed, default in found.changes.items():
        section, key = changed.split(".")
        tables[section] = [(k, default if k == key else value, meaning) for k, value, meaning in tables[section]]
    parts = [HEADER]
    for section, rows in tables.items():
        lines = [f"# {meaning}\n#{key} = {toml_value(value)}" for key, value, meaning in rows]
        parts.append(f"[{section}]\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _section(cls: type) -> Iterator[tuple[str, object, str]]:
    for field in fields(cls):
        yield field.name, field.default, _with_range(doc(cls, field.name), spelled(hints(cls)[field.name]))


def _with_range(meaning: str, allowed: str) -> str:
    """A bare type, which the default shows, is left out."""
    return f"{meaning} ({allowed})" if " " in allowed else meaning
