"""Presets, and the layers of a command line.

A preset, semiseg.toml and --config FILE share one format: tables [data] [model] [train] [eval] [method], and for one
method alone [methods.<method>.<table>], which goes over the plain table. A table of a plug-in, e.g. [masked], counts
where the plug-in is added. A preset's first comment lines describe it.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from semiseg_cli.core.config.layers import DEFAULT_METHOD, Layer, Resolved, parse_set, resolve, strongest
from semiseg_cli.core.config.names import TYPED, Flat
from semiseg_cli.core.config.toml import flat, read_toml
from semiseg_cli.core.errors import UsageError, did_you_mean
from semiseg_cli.core.methods import METHODS
from semiseg_cli.core.methods.plugins import PLUGINS
from semiseg_cli.core.models.names import architecture, short
from semiseg_cli.core.settings import Unread

FOLDER = resources.files("semiseg_cli") / "presets"
RECIPES = resources.files("semiseg_cli") / "recipes.toml"
LOCAL = "semiseg.toml"  # in the working directory


def presets() -> dict[str, str]:
    """Name to description of every preset."""
    texts = {entry.name.removesuffix(".toml"): entry.read_text("utf-8") for entry in FOLDER.iterdir()}
    return {name: _description(texts[name]) for name in sorted(texts)}


def preset_text(name: str) -> str:
    """The file of a preset. Raises UsageError with a hint for an unknown name."""
    if name not in presets():
        raise UsageError(f"there is no preset '{name}'", fix=did_you_mean(name, presets()))
    return (FOLDER / f"{name}.toml").read_text("utf-8")


def load_preset(name: str, method: str, added: Collection[str] = ()) -> Flat:
    """A preset as the layer for a method with plug-ins. Raises UsageError with a hint for an unknown name."""
    return for_method(tomllib.loads(preset_text(name)), method, f"preset {name}", added)


def choose(kind: str, backbone: str = "") -> str:
    """The preset for a kind of dataset: the one of its name, else small.

    Of several (voc-r50, voc-dinov2-s) the one for the backbone that was asked for, deep stem or not, else one for a
    backbone of its kind in another size (dinov2_l), else the r101 one. timm's name of a network is as good as ours.
    """
    backbone = short(backbone)
    if kind in presets():
        return kind
    names = [name for name in presets() if name.startswith(f"{kind}-")]
    own = {tomllib.loads(preset_text(name))["model"]["backbone"]: name for name in names}
    alike = [name for made_for, name in own.items() if backbone.startswith(made_for.partition("_")[0] + "_")]
    usual = own.get("resnet101", "small")
    plain = backbone.removesuffix("s") if backbone.startswith("resnet") else backbone
    return own.get(plain) or min(alike, default=usual)


def for_method(tables: Mapping[str, Any], method: str, origin: str, added: Collection[str] = ()) -> Flat:
    """The layer that a file's tables are for `method` with the plug-ins `added`.

    Raises UsageError for a table of a method there is not, and for what is no table.
    """
    special = tables.get("methods", {})
    if not isinstance(special, dict) or not all(isinstance(own, dict) for own in special.values()):
        raise UsageError(f"'methods' holds a table for each method (from: {origin})", fix=f"[methods.{method}.train]")
    for name in special:
        if name not in METHODS:
            raise UsageError(f"there is no method '{name}' (from: {origin})", fix=did_you_mean(name, METHODS))
    off = PLUGINS.keys() - set(added)
    parts = ({k: v for k, v in tables.items() if k != "methods"}, special.get(method, {}))
    plain, own = (flat({k: v for k, v in part.items() if k not in off}) for part in parts)
    return plain | own


def gather(
    flags: Mapping[str, Any],
    pairs: Iterable[str] = (),
    *,
    dataset: Callable[[str], tuple[str, str]],
    config: Path | None = None,
    preset: str = "",
    directory: Path = Path(),
) -> Resolved:
    """Resolve what somebody typed: preset < the encoder's recipe < semiseg.toml < --config < flags < --set.

    flags: flat settings given as options. pairs: the texts of --set. config: the file of --config. preset: empty for
    the one that suits the dataset. directory: where semiseg.toml is looked for.
    dataset: maps the dataset's name as typed ("" for none) to its name and kind; it decides what "none" means.
    """
    paths = [*([directory / LOCAL] if (directory / LOCAL).exists() else []), *([config] if config else [])]
    files = [(str(path), read_toml(path)) for path in paths]
    typed = list(zip(TYPED, (dict(flags), parse_set(pairs)), strict=True))

    base = [*((label, flat({"method": tables.get("method", {})})) for label, tables in files), *typed]
    _, method = strongest(base, "method.name", DEFAULT_METHOD)
    _, added = strongest(base, "method.add", ())
    layers: list[Layer] = [*((label, for_method(tables, method, label, added)) for label, tables in files), *typed]
    _, asked = strongest(layers, "data.name", "")
    name, kind = dataset(asked)
    _, backbone = strongest(layers, "model.backbone", "")
    chosen = preset or choose(kind, backbone)
    if not asked:
        layers.append(("chosen: what is prepared", {"data.name": name}))
    said = load_preset(chosen, method, added)
    if not preset:
        layers = [*_recipes(backbone, said["model.backbone"]), *layers]
    return over_preset(chosen, said, layers)


def of_project(section: str, directory: Path = Path()) -> Layer:
    """What semiseg.toml says of one section, for a command that reads no more of it; empty where there is no file."""
    path = directory / LOCAL
    tables = read_toml(path) if path.exists() else {}
    return str(path), flat({section: tables.get(section, {})})


def _recipes(backbone: str, usual: str) -> list[Layer]:
    """The layer of an encoder that does not learn as `usual` does, for which the preset is, if this is one."""
    tables = tomllib.loads(RECIPES.read_text("utf-8"))
    asked = (short(backbone), *architecture(backbone).split("_"))  # vit_small_patch14_dinov2
    known = (name for name in tables if any(x.startswith(name) for x in asked) and not usual.startswith(name))
    return [(f"recipe for {name}", flat(tables[name])) for name in known]


def over_preset(name: str, preset: Mapping[str, Any], layers: Sequence[Layer]) -> Resolved:
    """Resolve `layers` over a preset. It is for all methods: what it says and this one does not read is left out."""
    said, label = dict(preset), f"preset {name}"
    while True:
        try:
            return resolve([(label, said), *layers])
        except Unread as idle:
            if idle.origin != label:
                raise
            del said[idle.setting]


def _description(text: str) -> str:
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    return " ".join(line.removeprefix("#").strip() for line in lines)
