"""What the report of one run shows, in the order of the page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from semiseg_cli.core.commands import command
from semiseg_cli.core.partitions.titles import recorded
from semiseg_cli.core.report.charts import STYLES, Chart, Series, lines, shares
from semiseg_cli.core.report.pictures import Case
from semiseg_cli.core.report.tables import by_frequency, colour_of, confusion, mistakes
from semiseg_cli.stages.apart import as_text
from semiseg_cli.stages.recorded import Recorded

LAYERS = 15  # classes of the pseudo-labels over time; the others are one layer
HEADINGS = {
    "result": "Result", "curves": "Training", "classes": "Classes", "worst": "Worst images", "settings": "Settings",
    "data": "Data and cost", "environment": "Environment",
}  # fmt: skip
Facts = list[tuple[str, str]]


def told(found: Recorded, cases: list[Case], notes: list[str]) -> dict[str, Any]:
    """What `run.html` is filled with. cases: the worst images; notes: what the reader should know of the page."""
    evaluation, last = found.evaluation, found.last
    classes = by_frequency(
        found.classes, evaluation.get("palette", []), evaluation.get("frequency", []), [(last or {}).get("iou", {})]
    )
    matrix = evaluation.get("confusion")
    curves = _curves(found)
    shown = {"curves": bool(curves), "classes": bool(classes), "worst": bool(cases)}
    config = found.config
    return {
        "kicker": f"semiseg, run {found.run.absolute().name}",
        "title": f"{found.title} on {config['data.name']}" + (f": {last['miou']:.1f} mIoU" if last else ""),
        "subtitle": _subtitle(found),
        "sections": {name: heading for name, heading in HEADINGS.items() if shown.get(name, True)},
        "tiles": _tiles(found),
        "notes": notes + _state(found),
        "curves": curves,
        "classes": classes,
        "step": last["step"] if last else 0,
        "confusion": confusion(found.classes, matrix) if matrix else None,
        "mistakes": mistakes(found.classes, matrix) if matrix else [],
        "cases": cases,
        "cases_said": "The validation images with the lowest mIoU over their own classes, worst first, with the last "
        "network. Red: wrong; grey squares: not labeled.",
        "chosen": _settings(found, chosen=True),
        "others": _settings(found, chosen=False),
        "partition": _partition(found),
        "cost": _cost(found),
        "environment": _environment(found.environment),
        "again": _again(found),
    }


def _subtitle(found: Recorded) -> str:
    config = found.config
    labels = recorded(found.partition) or config["data.labeled"] or "all labels"
    network = f"encoder {config['model.backbone']}, decoder {config['model.decoder']}"
    return f"{labels}; {network}, {found.steps:,} steps, seed {config['train.seed']}"


def _tiles(found: Recorded) -> list[tuple[str, str, str]]:
    tiles = []
    if found.last and found.best:
        tiles.append(("mIoU, last step", f"{found.last['miou']:.2f} %", f"step {found.last['step']:,}"))
        chosen = "" if found.best_by == "miou" else f", chosen by {found.best_by}"
        tiles.append(("mIoU, best step", f"{found.best['miou']:.2f} %", f"step {found.best['step']:,}{chosen}"))
        if "pixel_accuracy" in found.last:
            tiles.append(("pixel accuracy", f"{found.last['pixel_accuracy']:.1f} %", "last step"))
    if {"labeled", "unlabeled"} <= found.partition.keys():
        tiles.append(("labeled images", f"{found.partition['labeled']:,}", ""))
        tiles.append(("unlabeled images", f"{found.partition['unlabeled']:,}", _unused(found)))
    if "seconds" in found.result:
        tiles.append(("training", duration(found.result["seconds"]), found.environment.get("device", "")))
    return tiles


def _unused(found: Recorded) -> str:
    return "not used" if found.title in ("supervised", "probe") else ""


def _state(found: Recorded) -> list[str]:
    if found.result:
        best = "" if not found.best else "The best step is chosen on the same images that it is measured on; "
        return [f"{best}the last step is the fair number."] if best else []
    return [f"The run is not finished: step {found.step:,} of {found.steps:,}."]


def _curves(found: Recorded) -> list[Chart]:
    parts = sorted({name for row in found.rows for name in row if name.startswith("loss_")})
    loss = [Series("total", found.curve("loss"))]
    if len(parts) > 1:
        named = [
            Series(name.removeprefix("loss_"), found.curve(name), 1 + k % (STYLES - 1)) for k, name in enumerate(parts)
        ]
        loss += [series for series in named if any(y for _, y in series.points)]
    quality = [Series("mIoU", found.curve("miou")), Series("pixel accuracy", found.curve("pixel_accuracy"), 1)]
    kept = [
        Series("kept, of all pixels", found.curve("kept", 100)),
        Series("largest class, of the kept", found.curve("largest_class", 100), 1),
    ]
    return [
        chart
        for chart in (
            lines("loss", "Loss", loss),
            lines("miou", "mIoU on the validation images", quality, unit=" %", zero=True),
            lines("kept", "Pseudo-labels that are kept", kept, unit=" %", zero=True),
            _pseudo(found),
        )
        if chart
    ]


def _pseudo(found: Recorded) -> Chart | None:
    """The classes of the kept pseudo-labels, the most frequent at the bottom."""
    curves = found.by_class(("kept_classes", "kept_pixels"))
    palette = found.evaluation.get("palette", [])
    colours = {name: colour_of(palette, k) for k, name in enumerate(found.classes)}
    sizes = {name: sum(y for _, y in points) for name, points in curves.items()}
    ranked = sorted(curves, key=lambda name: -sizes[name])
    series = [Series(name, curves[name], colour=colours.get(name, "#808080")) for name in ranked[:LAYERS]]
    if rest := ranked[LAYERS:]:
        together = [sum(values) for values in zip(*([y for _, y in curves[name]] for name in rest), strict=True)]
        steps = [x for x, _ in curves[ranked[0]]]
        series.append(Series(f"{len(rest)} others", list(zip(steps, together, strict=True)), colour="#808080"))
    total = sum(sizes.values()) or 1.0
    said = ", ".join(f"{name} {sizes[name] / total:.0%}" for name in ranked[:6])
    return shares("pseudo", "Classes of the kept pseudo-labels", series, f"Over the whole run: {said}")


def _settings(found: Recorded, chosen: bool) -> list[tuple[str, ...]]:
    """The settings that something chose, with what it was; or those at their default."""
    rows = [(name, as_text(value), found.origins.get(name, "")) for name, value in found.config.items()]
    return [row if chosen else row[:2] for row in rows if (row[2] != "default") == chosen]


def _partition(found: Recorded) -> Facts:
    partition = found.partition
    facts = [("partition", recorded(partition)), ("protocol", partition.get("protocol") or "none")]
    facts += [(key, f"{partition[key]:,} images") for key in ("labeled", "unlabeled") if key in partition]
    if images := found.evaluation.get("images"):
        facts.append(("validation", f"{len(images):,} images with labels"))
    return [("dataset", str(found.config["data.name"])), *facts, ("fingerprint", str(partition.get("fingerprint", "")))]


def _cost(found: Recorded) -> Facts:
    facts = [
        ("device", str(found.environment.get("device", "not known"))),
        ("steps", f"{found.step:,} of {found.steps:,}"),
    ]
    for before in found.earlier:
        miou = f"mIoU {before['last']['miou']:.2f} %" if before["last"] else "not measured"
        facts.append((f"result after {before['steps']:,} steps", miou))
    if seconds := found.result.get("seconds"):
        step = seconds / max(found.steps, 1)
        each = f"{step:.3g} s" if step >= 1 else f"{1000 * step:.0f} ms"
        facts += [("training", duration(seconds)), ("a step", f"{each}, all in all")]
    if speed := [y for _, y in found.curve("images_per_second")]:
        facts.append(("speed at the end", f"{speed[-1]:.3g} images a second"))
    if memory := found.result.get("peak_memory_bytes"):
        facts.append(("memory", f"{memory / 2**30:.2f} GiB at most"))
    for name in ("last.safetensors", "best.safetensors"):
        if (found.run / name).is_file():
            facts.append((name, f"{(found.run / name).stat().st_size / 1e6:.1f} MB"))
    return facts


def _environment(environment: dict[str, Any]) -> Facts:
    return [(key, str(value)) for key, value in _flat(environment) if key != "command" and value is not None]


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """What is within a value, each with the names that lead to it."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, each in value.items():
        yield from _flat(each, f"{name}, {key}" if name else key)


def _again(found: Recorded) -> list[str]:
    typed = [found.environment["command"]] if "command" in found.environment else []
    if found.title == "probe":
        return typed
    return [*typed, command("train", "-c", found.run / "config.toml")]


def duration(seconds: float) -> str:
    """`42 s`, `12 min 5 s`, `3 h 12 min`.

    >>> duration(725)
    '12 min 5 s'
    """
    if not math.isfinite(seconds):
        return "not known"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.3g} s"
