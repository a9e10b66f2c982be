"""The configuration of a run: layers of settings, weakest first, each value remembering where it came from.

Layers: defaults, the method's own defaults, preset, semiseg.toml, --config FILE, command line, --set. A layer is a
label (which becomes the origin) and a flat dict of dotted names such as `train.lr`, with `method.name` and
`method.<setting>` for the method. `method.add` lists the plug-ins that are added to it; each then has a section of its
own name. `presets.gather` makes the layers of a command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from semiseg_cli.core.config.names import SECTIONS, Flat, typed
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.methods.plugins import load_plugins
from semiseg_cli.core.settings import BadSetting, Config, TrainConfig, Unread

DEFAULT_METHOD = "unimatch"

Layer = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Resolved:
    """A final configuration and, per dotted name, the layer each value came from."""

    config: Config
    origins: dict[str, str]


def resolve(layers: Sequence[Layer], load_method: Callable[[str], Any] | None = None) -> Resolved:
    """Merge layers (weakest first) over the defaults and the method's defaults; check names, types and ranges.

    `load_method` maps a method's name to its class (`Settings`, `defaults`, `check`, `unread`); else the registry.
    Raises UsageError for an unknown name and BadSetting for a value that does not fit.
    """
    origin, name = strongest(layers, "method.name", DEFAULT_METHOD)
    method = (load_method or _registered)(name)
    plugins = load_plugins(strongest(layers, "method.add", ())[1], name, method)
    sections = {"method": method.Settings, **{plugin: cls.Settings for plugin, cls in plugins.items()}, **SECTIONS}
    values, origins = _merge([(f"method {name}", method.defaults), *layers], sections)
    try:
        made = {s: cls(**{f.name: values[f"{s}.{f.name}"] for f in fields(cls)}) for s, cls in sections.items()}
        own = {plugin: made.pop(plugin) for plugin in plugins}
        config = Config(method_name=name, plugins=own, **made)
        method.check(config)
        _refuse_unread(config, method)
        for plugin, cls in plugins.items():
            cls.check(own[plugin], config)
    except BadSetting as bad:
        bad.set_by(origins.get(bad.setting, ""))
        raise
    return Resolved(config, {**origins, "method.name": origin})


def _refuse_unread(config: Config, method: Any) -> None:
    """Raise Unread for a setting of `train` that the method does not read, and that is not as it would be unsaid."""
    for name, where in method.unread(config.method).items():
        default = method.defaults.get(f"train.{name}", getattr(TrainConfig, name))
        if (value := getattr(config.train, name)) != default:
            raise Unread(f"train.{name}", value, default, where)


def _merge(layers: Sequence[Layer], sections: Mapping[str, type]) -> tuple[Flat, dict[str, str]]:
    """Every setting of the sections, and the layer it came from.

    A layer that sets train.batch above the layer that set train.lr scales lr by the ratio of the batches. Of
    train.steps and train.epochs, a layer that sets one takes back what weaker layers said of the other.
    """
    values: Flat = {f"{s}.{f.name}": f.default for s, cls in sections.items() for f in fields(cls)}
    origins = dict.fromkeys(["method.add", *values], "default")
    lr_batch = values["train.batch"]
    for label, layer in layers:
        found = typed(layer, sections, label)
        values |= found
        origins |= dict.fromkeys(found, label)
        if "train.lr" in layer:
            lr_batch = values["train.batch"]
        for one, other in (("train.steps", "train.epochs"), ("train.epochs", "train.steps")):
            if one in layer and other not in layer and values[one]:
                values[other], origins[other] = 0, f"{label}, by {one}"
    if values["train.batch"] != lr_batch:
        values["train.lr"] *= values["train.batch"] / lr_batch
        origins["train.lr"] += f", scaled from batch {lr_batch} to {values['train.batch']}"
    return values, origins


def strongest(layers: Sequence[Layer], name: str, default: Any) -> tuple[str, Any]:
    """The last layer with a setting that must be known before the others, and its value."""
    for label, layer in reversed(layers):
        if name in layer:
            return label, typed({name: layer[name]}, SECTIONS, label)[name]
    return "default", default


def with_steps(config: Config, images: int) -> Config:
    """`config` with the steps that its epochs are: epochs * floor(images / batch), a pass being one step at least.

    images: the length of the unlabeled list, or of the labeled one where there is no other. A configuration that has
    steps stays as it is.
    """
    train = config.train
    steps = train.steps or train.epochs * max(images // train.batch, 1)
    return replace(config, train=replace(train, steps=steps))


def settled(resolved: Resolved, config: Config) -> Resolved:
    """`resolved` as it was decided in the end. The origin of a value that is another in `config` says so, and of what.

    Such are a decoder that was `auto`, threads that were 0, steps that epochs came to.
    """
    said, now = flatten(resolved.config), flatten(config)
    chosen = {name: f"chosen: {said[name]!r} ({resolved.origins[name]})" for name in now if now[name] != said[name]}
    return Resolved(config, resolved.origins | chosen)


def flatten(config: Config) -> Flat:
    """Every setting by its dotted name, `method.name` first."""
    flat: Flat = {"method.name": config.method_name, "method.add": tuple(config.plugins)}
    for section, part in _parts(config).items():
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


def refuse_changes(config: Config, overrides: Mapping[str, Any]) -> None:
    """Raise UsageError if `overrides` (a layer as typed) would change `config`: a resumed run goes on as it was."""
    old = flatten(config)
    new = typed(overrides, {section: type(part) for section, part in _parts(config).items()}, "command line")
    changed = [f"{name} was {old[name]!r}, now {value!r}" for name, value in new.items() if old[name] != value]
    if changed:
        fix = "resume without these options, or start a new run with --init from its last.safetensors"
        raise UsageError("a resumed run cannot change its settings", why="; ".join(changed), fix=fix)


def _parts(config: Config) -> dict[str, Any]:
    return {"method": config.method, **config.plugins, **{section: getattr(config, section) for section in SECTIONS}}


def _registered(name: str) -> Any:
    from semiseg_cli.core.methods import load_method  # imports torch

    return load_method(name)
