"""What tells runs from others: what trained them, and the settings that are not the same in all of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from semiseg_cli.core.config.names import Flat

IN_COLUMNS = ("method.name", "method.add", "model.backbone", "data.name", "data.labeled", "train.seed")
NO_MATTER = (
    "train.workers", "train.threads", "train.cache_mb", "train.graph", "train.compile", "train.save_every",
    "train.log_every", "eval.batch", "data.pairs",
)  # fmt: skip
SHORT = 2  # settings in the name of a run


def trained_by(config: Flat, result: Mapping[str, Any]) -> str:
    """The method with its plug-ins, or a probe. result: empty for a run that is not finished."""
    if result.get("method") == "probe":
        return "probe"
    return "+".join([config["method.name"], *config.get("method.add", [])])


def told_apart(runs: Sequence[tuple[str, Flat]], beside: Collection[str] = ()) -> list[str]:
    """What trained each run, with settings, or a number, that tell it from others of its data, method, encoder, labels.

    runs: what trained them, and their configurations. beside: settings that stand beside these names anyway.
    """
    alike: dict[tuple[str, ...], list[Flat]] = {}
    for method, config in runs:
        alike.setdefault(_kind(method, config), []).append(config)
    differing = {kind: varied(members, beside) for kind, members in alike.items()}
    seen: dict[tuple[str, ...], dict[tuple[str, ...], str]] = {kind: {} for kind in alike}
    names = []
    for method, config in runs:
        kind = _kind(method, config)
        values = tuple(as_text(config[name]) for name in differing[kind])
        words = [f"{name.partition('.')[2]} {value}" for name, value in zip(differing[kind], values, strict=True)]
        short = ", ".join([method, *words[:SHORT]])
        taken = sum(each == short or each.startswith(f"{short} (") for key, each in seen[kind].items() if key != values)
        names.append(seen[kind].setdefault(values, f"{short} ({taken + 1})" if taken else short))
    return names


def varied(configs: Sequence[Flat], beside: Collection[str] = ()) -> list[str]:
    """Settings that all of these have, not all with the same value; those that change no result are left out."""
    shared = [name for name in configs[0] if all(name in config for config in configs)]
    return [
        name
        for name in shared
        if name not in (*IN_COLUMNS, *NO_MATTER, *beside) and len({as_text(config[name]) for config in configs}) > 1
    ]


def as_text(value: Any) -> str:
    """A setting's value as it would be typed."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, bool | float):
        return f"{value:.6g}" if isinstance(value, float) else str(value).lower()
    return str(value) or "none"


def _kind(method: str, config: Flat) -> tuple[str, ...]:
    return method, *(str(config[name]) for name in ("data.name", "model.backbone", "data.labeled"))
