"""The card of an exported network: what it was made from and how good it is, how it sees images, how to use it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import torch
from torch import Tensor

from semiseg_cli.core.commands import command
from semiseg_cli.core.config.describe import describe_method
from semiseg_cli.core.data.depths import levels_of
from semiseg_cli.core.errors import UsageError, counted
from semiseg_cli.core.escape import code, fenced, markdown
from semiseg_cli.core.inference.options import resolve_window
from semiseg_cli.core.inference.predictor import LARGE_PIXELS, LARGE_WINDOW
from semiseg_cli.core.methods import METHODS
from semiseg_cli.core.models import build_encoder
from semiseg_cli.core.models.names import BACKBONES, DINOV3, Backbone
from semiseg_cli.core.networks import Origin
from semiseg_cli.core.ops.sizes import fit_side
from semiseg_cli.stages import card_lines

DINOV3_TERMS = (
    "Derivatives are passed on under the DINOv3 License alone, with a copy of it "
    "(https://ai.meta.com/resources/models-and-libraries/dinov3-license/)"
)
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of batch norms: not parameters


class Seen(NamedTuple):
    """How `semiseg predict` shows photos to a network, in pixels. long_side, window: 0 for as they are, and whole."""

    long_side: int
    window: int
    step: int  # of the window
    multiple: int  # of the sides that the network takes

    @classmethod
    def by(cls, meta: dict[str, Any]) -> Seen:
        data, config = meta["data"], meta["config"]
        multiple = _multiple(meta["model"])
        window = resolve_window(config.get("eval.window", "auto"), data["window"])
        side = fit_side(window, multiple) if window else 0
        large = not side and (data.get("long_side", 0) or LARGE_PIXELS) ** 2 > LARGE_PIXELS  # then a photo may be
        step = max(1, int(round((side or fit_side(LARGE_WINDOW, multiple)) * config.get("eval.stride", 2 / 3), 6)))
        return cls(data.get("long_side", 0), side, step if side or large else 0, multiple)


def model_card(file: str, tensors: dict[str, Tensor], meta: dict[str, Any]) -> str:
    """The card of an exported network, Markdown."""
    model, data, partition, seen = meta["model"], meta["data"], meta["partition"], Seen.by(meta)
    parameters = sum(t.numel() for name, t in tensors.items() if not name.endswith(STATISTICS))
    halved = any(tensor.dtype == torch.float16 for tensor in tensors.values())
    unlabeled = f"; with {counted(partition['unlabeled'], 'unlabeled image')}" if partition["unlabeled"] else ""
    rows = {
        "data": f"{data['name']} ({data['kind']})",
        "licence of the data": data["licence"] or "not stated",
        "encoder": origin_of(meta),
        "labels": f"{partition['name']}{unlabeled}",
        "method": f"{meta['method']}, {counted(meta['step'], 'step')}",
        "paper": _paper(meta["method"]),
        "mIoU": _miou(meta),
        "network": f"{model['decoder']} over {model['backbone']}, output stride {model['output_stride']}",
        "size": f"{parameters / 1e6:.2f} million parameters, {'float16 (vectors float32)' if halved else 'float32'}",
        "input": _input(seen),
        "made with": f"semiseg {meta['version']}",
    }
    settings = {name: value for name, value in meta["config"].items() if name.startswith(("method.", "train."))}
    mark = code("".join(filter(str.isalnum, partition["fingerprint"])))
    cells = {name: markdown(value) for name, value in rows.items()}
    cells["labels"] += f"; {mark} is the sha256 of the labeled images' names"
    table = "\n".join(f"| {name} | {cell} |" for name, cell in cells.items())
    colours = (_colour(data["palette"], index) for index in range(len(data["classes"])))
    keys = zip(map(markdown, data["classes"]), colours, strict=True)
    classes = "\n".join(f"| {index} | {name} | {colour} |" for index, (name, colour) in enumerate(keys))
    name, _, suffix = file.rpartition(".")
    return f"""# {markdown(name)}

| | |
|---|---|
{table}

## Load it

{fenced(card_lines.lines(file, len(data["classes"]), seen), "python")}

{_loaded(file, model["backbone"])}

## How it sees a photo

As in {code(command("predict", file if suffix == "safetensors" else "RUN", "photos/"))} a photo is

{_steps(meta, seen, file)}

## Classes

| index | class | colour |
|---|---|---|
{classes}

## Settings

{fenced(json.dumps(settings, indent=2), "json")}
"""


def origin_of(meta: dict[str, Any]) -> str:
    """Where the encoder's first weights are from, and what that asks of whoever passes the network on."""
    origin = Origin.of(meta)
    if origin.weights in ("", "unknown"):
        return "began with weights that are not recorded" if origin.weights else "began with random weights"
    whose = "licence" if origin.licence.startswith("unknown") else "licence of the published weights"
    said = f"began with {origin.weights}; {whose}: {origin.licence or 'not stated'}"
    return said + f". {DINOV3_TERMS}" * (origin.licence == DINOV3)


def _libraries(backbone: str) -> str:
    """What loading it needs."""
    library = "" if BACKBONES.get(backbone, Backbone()).factory else "timm, "
    return f"torch, torchvision, {library}safetensors"


def _paper(method: str) -> str:
    return describe_method(method).paper if method in METHODS else "unknown to this version of semiseg"


def _miou(meta: dict[str, Any]) -> str:
    if meta["miou"] is None:
        return f"not measured at this step (semiseg eval on {meta['data']['name']})"
    chosen = "; this step was chosen on these very images" if meta["best"] else ""
    return f"{meta['miou']:.2f} % on the validation images{chosen}"


def _input(seen: Seen) -> str:
    parts = ["upright RGB images, uint8"]
    parts += [f"long side at most {seen.long_side} pixels, as in training"] * bool(seen.long_side)
    parts += [f"seen in windows of {seen.window} pixels"] * bool(seen.window)
    parts += [f"sides brought to the nearest multiples of {seen.multiple} pixels for the network"] * (seen.multiple > 1)
    return "; ".join(parts)


def _loaded(file: str, backbone: str) -> str:
    """What the lines above give, and need."""
    outcome = "`labels` is a uint8 {} (height, width) of the indices below"
    if file.endswith(".safetensors"):
        return f"""{outcome.format("tensor")}, `net.classes` their names. A Pillow image or an upright
uint8 array (height, width, 3) will do as well; `net(image, probabilities=True)` is float32 (classes, height, width).
{_libraries(backbone)} are all it needs; `net.net` is the bare network."""
    kind = "ONNX" if file.endswith(".onnx") else "a program of `torch.export`"
    return f"""{outcome.format("array")}. The file is {kind}: `image`, uint8
(batch, height, width, 3) of any size, becomes `labels`, uint8 (batch, height, width), and `probabilities`, float32
(batch, classes, height, width)."""


def _steps(meta: dict[str, Any], seen: Seen, file: str) -> str:
    """What happens to a photo, in order, as a list; for a graph, where it happens."""
    low, high = levels_of(meta["data"])
    mean, std = (", ".join(f"{value:g}" for value in meta["normalise"][key]) for key in ("mean", "std"))
    before = [f"turned upright as its EXIF says; of 16 bits a channel, the values {low} to {high} become 0 to 255"]
    if seen.long_side:
        before.append(f"reduced to a long side of {seen.long_side} pixels if it has more, each the mean of its area")
    rule = f"{seen.step} apart, the last one at the border, and probabilities are averaged where they overlap"
    if seen.window:
        before.append(f"cut into windows of {seen.window} pixels, {rule}")
    elif seen.step:
        large = fit_side(LARGE_WINDOW, seen.multiple)
        before.append(f"where it has more than {LARGE_PIXELS:,} pixels, cut into windows of {large}, {rule}")
    within = [f"divided by 255, less {mean}, divided by {std} (red, green, blue)"]
    if seen.multiple > 1:
        nearest = f"the nearest multiple of {seen.multiple} pixels (one at least, halves upwards)"
        within.append(f"each side brought to {nearest}, bilinearly with aligned corners, and the logits back")
    within.append("the softmax of the logits: probabilities")
    after = ["the likeliest class of every pixel: labels"]
    if seen.long_side:
        after.insert(0, "probabilities, not labels, enlarged to the photo's size, bilinearly between middles of pixels")
    if file.endswith(".safetensors"):
        lines = [*before, *within, *after]
    else:
        inside = "in the graph" if not seen.long_side and not seen.step else "after the graph"
        groups = (("before the graph", before), ("in the graph", within), (inside, after))
        lines = [f"{where}: {line}" for where, group in groups for line in group]
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))


def _multiple(model: dict[str, Any]) -> int:
    """Of the sides that a network takes; 1, that of most, for one that this version of semiseg does not know."""
    try:
        with torch.device("meta"):  # only what it states is wanted
            return build_encoder(model["backbone"], output_stride=model["output_stride"]).multiple
    except UsageError:
        return 1


def _colour(palette: list[list[int]], index: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*palette[index]) if index < len(palette) else ""
