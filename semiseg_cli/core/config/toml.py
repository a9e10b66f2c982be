"""Settings as TOML, a table for each section: files that are read and written, and one to start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from semiseg_cli.core.config.describe import Setting, describe_method
from semiseg_cli.core.config.names import SECTIONS, Flat
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.escape import one_line
from semiseg_cli.core.files import toml_value
from semiseg_cli.core.methods import METHODS
from semiseg_cli.core.methods.plugins import PLUGINS
from semiseg_cli.core.reading import read_toml as read_toml_tables
from semiseg_cli.core.settings import hints

HEADER = """\
# Settings of semiseg, read from the working directory as semiseg.toml, or with --config FILE.
# Remove the # before a setting to fix its value; those left as they are come from the method and the preset
# (semiseg presets), not from here. Options such as --batch and --set are stronger than this file.
# [methods.NAME.train] and the like hold for one method only. What applies in the end: semiseg config show
"""


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises UsageError naming the file if it is absent or broken."""
    try:
        found: dict[str, Any] = read_toml_tables(path)
        return found
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}", fix="check the path") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as TOML", why=str(error)) from error


def flat(tables: Mapping[str, Any]) -> Flat:
    """TOML tables as one layer; an entry outside a table keeps its bare name, which `resolve` then refuses."""
    layer: Flat = {}
    for section, table in tables.items():
        if isinstance(table, dict):
            layer |= {f"{section}.{key}": value for key, value in table.items()}
        else:
            layer[section] = table
    return layer


def to_toml(flat: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    """A flat configuration as TOML tables, with each value's origin as a comment where there is one."""
    tables: dict[str, list[str]] = {}
    for name, value in flat.items():
        section, _, key = name.partition(".")
        comment = f"  # {one_line(origins[name])}" if name in origins else ""
        tables.setdefault(section, []).append(f"{key} = {toml_value(value)}{comment}\n")
    return "\n".join(f"[{section}]\n{''.join(lines)}" for section, lines in tables.items())


def settings_template(method: str) -> str:
    """TOML of all settings with their defaults for `method`, its own included. UsageError for one there is not."""
    found = describe_method(method)
    name = Setting("name", "str", method, "method: " + ", ".join(METHODS))
    add = Setting("add", "str", (), "plug-ins, each with a table of settings of its own: " + ", ".join(PLUGINS))
    tables = {"method": [name, add, *found.settings]}
    for section, cls in SECTIONS.items():
        changed = {field.name: found.changes.get(f"{section}.{field.name}", field.default) for field in fields(cls)}
        tables[section] = [Setting.of(key, hints(cls)[key], default) for key, default in changed.items()]
    return "\n".join([HEADER, *(f"[{section}]\n{''.join(map(_lines, each))}" for section, each in tables.items())])


def _lines(setting: Setting) -> str:
    """A bare type, which the default shows, is left out."""
    allowed = f" ({setting.allowed})" if " " in setting.allowed else ""
    return f"# {setting.meaning}{allowed}\n#{setting.name} = {toml_value(setting.default)}\n"
