"""The configuration of a run: layers of settings, weakest first, each value remembering where it came from.

Layers: defaults, the method's own defaults, preset, semiseg.toml, --config FILE, command line, --set. A layer is a
label (which becomes the origin) and a flat dict of dotted names such as `train.lr`, with `method.name` and
`method.<setting>` for the method. `method.add` lists the plug-ins that are added to it; each then has a section of its
own name. `core/presets.py` gathers the layers of a command line.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated as Doc
from typing import Any

from semiseg_cli.core.config.coerce import coerce, describe
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.files import toml_value
from semiseg_cli.core.methods.extras import EXTRAS, load_extras
from semiseg_cli.core.settings import (
    BadSetting,
    Config,
    DataConfig,
    EvalConfig,
    ModelConfig,
    TrainConfig,
    doc,
    hints,
    require,
)

__all__ = [
    "BadSetting", "Config", "DataConfig", "Doc", "EvalConfig", "ModelConfig", "Resolved", "TrainConfig", "diff", "doc",
    "flat", "flatten", "from_toml", "parse_set", "read_toml", "refuse_changes", "require", "resolve", "to_toml",
    "with_steps",
]  # fmt: skip

SECTIONS: dict[str, type] = {"data": DataConfig, "model": ModelConfig, "train": TrainConfig, "eval": EvalConfig}
DEFAULT_METHOD = "unimatch"

Flat = dict[str, Any]
Layer = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Resolved:
    """A final configuration and, per dotted name, the layer each value came from."""

    config: Config
    origins: dict[str, str]


def resolve(layers: Sequence[Layer], load_method: Callable[[str], Any] | None = None) -> Resolved:
    """Merge layers (weakest first) over the defaults and the method's defaults; check names, types and ranges.

    `load_method` maps a method's name to its class (`Settings`, `defaults`, `check`); the registry's by default.
    A layer that sets train.batch above the layer that set train.lr scales lr by the ratio of the batches. Of
    train.steps and train.epochs, a layer that sets one takes back what weaker layers said of the other.
    Raises UsageError for an unknown name and BadSetting for a value that does not fit.
    """
    names = [(label, layer["method.name"]) for label, layer in layers if "method.name" in layer]
    origin, method_name = names[-1] if names else ("default", DEFAULT_METHOD)
    method = (load_method or _registered)(method_name)
    extras = load_extras(added_in(layer for _, layer in layers), method_name, method)
    sections = {"method": method.Settings, **{name: extra.Settings for name, extra in extras.items()}, **SECTIONS}
    types = _types(sections)
    values: Flat = {f"{s}.{f.name}": f.default for s, cls in sections.items() for f in fields(cls)}
    origins = dict.fromkeys(["method.add", *values], "default")
    lr_batch = values["train.batch"]
    for label, layer in [(f"method {method_name}", method.defaults), *layers]:
        for name, value in layer.items():
            values[name] = _typed(name, value, types, label)
            origins[name] = label
        if "train.lr" in layer:
            lr_batch = values["train.batch"]
        for one, other in (("train.steps", "train.epochs"), ("train.epochs", "train.steps")):
            if one in layer and other not in layer and values[one]:
                values[other], origins[other] = 0, f"{label}, by {one}"
    if values["train.batch"] != lr_batch:
        values["train.lr"] *= values["train.batch"] / lr_batch
        origins["train.lr"] += f", scaled from batch {lr_batch} to {values['train.batch']}"
    try:
        built = {s: cls(**{f.name: values[f"{s}.{f.name}"] for f in fields(cls)}) for s, cls in sections.items()}
        own = {section: built.pop(section) for section in extras}
        config = Config(method_name=method_name, extras=own, **built)
        method.check(config)
        for name, extra in extras.items():
            extra.check(own[name], config)
    except BadSetting as bad:
        raise BadSetting(bad.setting, bad.value, bad.allowed, origins.get(bad.setting, "")) from None
    return Resolved(config, {**origins, "method.name": origin})


def with_steps(config: Config, images: int) -> Config:
    """`config` with the steps that its epochs are: epochs * floor(images / batch), a pass being one step at least.

    images: the length of the unlabeled list, or of the labeled one where there is no other. A configuration that has
    steps stays as it is.
    """
    train = config.train
    steps = train.steps or train.epochs * max(images // train.batch, 1)
    return replace(config, train=replace(train, steps=steps))


def flatten(config: Config) -> Flat:
    """Every setting by its dotted name, `method.name` first."""
    flat: Flat = {"method.name": config.method_name, "method.add": tuple(config.extras)}
    parts = {"method": config.method, **config.extras, **{section: getattr(config, section) for section in SECTIONS}}
    for section, part in parts.items():
        flat |= {f"{section}.{field.name}": getattr(part, field.name) for field in fields(part)}
    return flat


def parse_set(pairs: Iterable[str]) -> Flat:
    """`["train.lr=5e-4"]` as a layer; values stay text until `resolve` knows their types."""
    layer: Flat = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--set {pair!r} is not of the form name=value", fix="--set train.lr=5e-4")
        layer[name.strip()] = value.strip()
    return layer


def diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Names whose values differ between two flat configurations; a name one side lacks counts as None there."""
    names = [*old, *(name for name in new if name not in old)]
    return {name: (old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)}


def refuse_changes(config: Config, overrides: Mapping[str, Any]) -> None:
    """Raise UsageError if `overrides` (a layer as typed) would change `config`: a resumed run goes on as it was."""
    old = flatten(config)
    own = {name: type(settings) for name, settings in config.extras.items()}
    types = _types({"method": type(config.method), **own, **SECTIONS})
    changed = diff(old, old | {name: _typed(name, value, types, "command line") for name, value in overrides.items()})
    if changed:
        lines = "; ".join(f"{name} was {before!r}, now {after!r}" for name, (before, after) in changed.items())
        fix = "resume without these options, or start a new run with --init from its last.safetensors"
        raise UsageError("a resumed run cannot change its settings", why=lines, fix=fix)


def to_toml(flat: Mapping[str, Any], origins: Mapping[str, str] | None = None) -> str:
    """A flat configuration as TOML tables, with each value's origin as a comment if `origins` is given.

    None is written as the text "none", which reads back as None where a setting allows it.
    """
    tables: dict[str, list[str]] = {}
    for name, value in flat.items():
        section, _, key = name.partition(".")
        comment = f"  # {origins[name]}" if origins and name in origins else ""
        tables.setdefault(section, []).append(f"{key} = {toml_value(value)}{comment}")
    return "\n".join(f"[{section}]\n" + "\n".join(lines) + "\n" for section, lines in tables.items())


def from_toml(text: str) -> Flat:
    """The flat configuration that `to_toml` wrote."""
    return flat(tomllib.loads(text))


def flat(tables: Mapping[str, Any]) -> Flat:
    """TOML tables as one layer; an entry outside a table keeps its bare name, which `resolve` then refuses."""
    layer: Flat = {}
    for section, table in tables.items():
        if isinstance(table, dict):
            layer |= {f"{section}.{key}": value for key, value in table.items()}
        else:
            layer[section] = table
    return layer


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises UsageError naming the file if it is absent or broken."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}", fix="check the path") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} cannot be read as TOML", why=str(error)) from error


def _registered(name: str) -> Any:
    from semiseg_cli.core.methods import load_method  # imports torch

    return load_method(name)


def added_in(layers: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The plug-ins that the strongest layer with a `method.add` names."""
    names: tuple[str, ...] = ()
    for layer in layers:
        if "method.add" in layer:
            names = _typed("method.add", layer["method.add"], {"method.add": tuple[str, ...]}, "")
    return names


def _types(sections: Mapping[str, type]) -> Flat:
    """The type of every setting by its dotted name, given the Settings of every section."""
    names = {f"{section}.{name}": hint for section, cls in sections.items() for name, hint in hints(cls).items()}
    return {"method.name": str, "method.add": tuple[str, ...], **names}


def _typed(name: str, value: Any, types: Mapping[str, Any], origin: str) -> Any:
    section = name.partition(".")[0]
    if section in EXTRAS and all(known.partition(".")[0] != section for known in types):
        what = f"'{name}' is a setting of a plug-in that is not added (from: {origin})"
        raise UsageError(what, fix=f"--add {section}")
    if name not in types:
        raise UsageError(f"there is no setting '{name}' (from: {origin})", fix=_closest(name, types))
    try:
        return coerce(value, types[name])
    except ValueError:
        raise BadSetting(name, value, describe(types[name]), origin) from None


def _closest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the same or a similar last part, within its section if that exists."""
    settings = [tuple(setting.split(".")) for setting in known]
    section, _, last = name.rpartition(".")
    pool = [s for s in settings if s[0] == section] or settings
    close = [".".join(s) for s in settings if s[1] == last]
    if not close:
        tails = {tail: f"{head}.{tail}" for head, tail in pool}
        close = [tails[tail] for tail in difflib.get_close_matches(last, tails, n=1, cutoff=0.6)]
    if close:
        return f"did you mean {' or '.join(repr(setting) for setting in close)}?"
    if pool is settings:
        return f"settings are named section.name; sections: {', '.join(dict.fromkeys(s[0] for s in settings))}"
    return f"settings of {section}: {', '.join(s[1] for s in pool)}"
