"""The settings by their dotted names: their types, also under old names, and a hint for a name that none has."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from semiseg_cli.core.config.coerce import coerce, describe
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.methods.plugins import PLUGINS
from semiseg_cli.core.settings import BadSetting, DataConfig, EvalConfig, ModelConfig, TrainConfig, hints

Flat = dict[str, Any]  # settings, or what belongs to them, by dotted names such as train.lr

TYPED = ("command line", "--set")  # the origins that are no files
SECTIONS: dict[str, type] = {"data": DataConfig, "model": ModelConfig, "train": TrainConfig, "eval": EvalConfig}


def types_of(sections: Mapping[str, type]) -> Flat:
    """The type of every setting, given the Settings of every section."""
    types = {f"{section}.{name}": hint for section, cls in sections.items() for name, hint in hints(cls).items()}
    return {"method.name": str, "method.add": tuple[str, ...], **types}


def typed(layer: Mapping[str, Any], sections: Mapping[str, Any], origin: str) -> Flat:
    """The settings of a layer as values of their types, under their names of today.

    sections: the Settings of every section. Raises UsageError for a name that none of them has, BadSetting for a value
    that does not fit.
    """
    types, found = types_of(sections), {}
    renamed = {f"{s}.{old}": f"{s}.{now}" for s, cls in sections.items() for old, now in cls.renamed.items()}
    retired = {f"{s}.{name}": value for s, cls in sections.items() for name, value in cls.retired.items()}
    for given, value in layer.items():
        name = given if given in types else renamed.get(given, given)
        if name == "train.class_weights" and isinstance(value, Mapping):
            value = ",".join(f"{key}={weight}" for key, weight in value.items())  # a table of TOML
        if name in types:
            found[name] = _value(given, value, types[name], origin)
        elif name in retired:
            _refuse_retired(name, value, retired[name], origin)
        else:
            raise _unknown(name, types, origin)
    return found


def _value(name: str, value: Any, kind: Any, origin: str) -> Any:
    try:
        return coerce(value, kind)
    except ValueError:
        fix = "" if origin in TYPED else f"another {name.partition('.')[2]} in {origin}"  # --set comes too late for it
        raise BadSetting(name, value, describe(kind), origin, fix) from None


def _refuse_retired(name: str, value: Any, now: Any, origin: str) -> None:
    if _value(name, value, type(now), origin) != now:
        why = f"the setting is gone: every run is as with {now} (from: {origin})"
        raise UsageError(f"{name} = {value} is not possible any more", why=why, fix=f"leave {name} out")


def _unknown(name: str, known: Iterable[str], origin: str) -> UsageError:
    settings = [tuple(setting.split(".")) for setting in known]
    section = name.partition(".")[0]
    if section in PLUGINS and section not in {setting[0] for setting in settings}:
        what = f"'{name}' is a setting of a plug-in that is not added (from: {origin})"
        return UsageError(what, fix=f"--add {section}")
    return UsageError(f"there is no setting '{name}' (from: {origin})", fix=_closest(name, settings))


def _closest(name: str, settings: list[tuple[str, ...]]) -> str:
    """A hint for an unknown name: the same or a similar last part, within its section if that exists."""
    if within := [setting[1] for setting in settings if setting[0] == name]:
        return f"[{name}] is a table of settings: {', '.join(within)}"
    section, _, last = name.rpartition(".")
    pool = [setting for setting in settings if setting[0] == section] or settings
    close = [".".join(setting) for setting in settings if setting[1] == last]
    if not close:
        tails = {tail: f"{head}.{tail}" for head, tail in pool}
        close = [tails[tail] for tail in difflib.get_close_matches(last, tails, n=1, cutoff=0.6)]
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    if pool is settings:
        return f"settings are named section.name; sections: {', '.join(dict.fromkeys(s[0] for s in settings))}"
    return f"settings of {section}: {', '.join(s[1] for s in pool)}"
