"""Export a trained network: one safetensors file for other programs, and a model card that says what it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semiseg_cli.core.commands import command
from semiseg_cli.core.config.describe import describe_method
from semiseg_cli.core.errors import CheckpointError, UsageError
from semiseg_cli.core.escape import code, fenced, markdown
from semiseg_cli.core.files import network_of, write_text
from semiseg_cli.core.methods import METHODS
from semiseg_cli.core.models import build_encoder
from semiseg_cli.core.models.names import BACKBONES, DINOV3, Backbone
from semiseg_cli.core.networks import Origin
from semiseg_cli.core.ops.sizes import fit_side
from semiseg_cli.core.training.checkpoint import read_network, write

SUFFIX = ".safetensors"
DINOV3_TERMS = (
    "Derivatives are passed on under the DINOv3 License alone, with a copy of it "
    "(https://ai.meta.com/resources/models-and-libraries/dinov3-license/)"
)
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of batch norms: not parameters


def export_network(checkpoint: Path, out: Path | None = None, *, half: bool = False) -> dict[str, Any]:
    """Write the deployed network of a checkpoint or run, and `<name>.md` beside it; the result of `semiseg export`.

    out: a .safetensors file, or a folder; None: a file in the working directory, named after the run.
    half: weights of convolutions as float16 (half the size; loading makes them float32 again).
    Raises CheckpointError for what is no checkpoint of a network and where nothing can be written.
    """
    source = network_of(checkpoint)
    out = _target(source, out)
    tensors, meta = read_network(source)
    if half:
        tensors = {name: _halved(tensor) for name, tensor in tensors.items()}
    try:
        write(out, tensors, meta)
        write_text(out.with_suffix(".md"), model_card(out.name, tensors, meta))
    except (OSError, CheckpointError) as error:
        why = error.why if isinstance(error, CheckpointError) else str(error)
        raise CheckpointError(f"cannot write {out}", why=why, fix="choose another place: -o FILE") from error
    return {
        "file": str(out),
        "card": str(out.with_suffix(".md")),
        "bytes": out.stat().st_size,
        "half": half,
        "checkpoint": str(source),
        "method": meta["method"],
        "data": meta["data"]["name"],
        "miou": meta["miou"],
        "encoder": _origin(meta),
    }


def _target(source: Path, out: Path | None) -> Path:
    """The file to write. Raises UsageError for another kind of file, and where it would be the checkpoint itself."""
    run = source.parent if (source.parent / "config.toml").is_file() else None
    name = f"{run.resolve().name if run else source.stem + '-export'}{SUFFIX}"
    if out is None or out.is_dir():
        out = (out or Path()) / name
    if out.suffix != SUFFIX:
        raise UsageError(f"-o {out} does not name a {SUFFIX} file or a folder", fix=f"-o {out.with_suffix(SUFFIX)}")
    if out.resolve() == source.resolve():
        raise UsageError(f"{out} is the checkpoint itself", fix=f"-o {out.with_name(f'{out.stem}-export{SUFFIX}')}")
    return out


def _halved(tensor: Tensor) -> Tensor:
    """float16 for convolutions; vectors (biases, batch norm) are small, and variances may be beyond its range."""
    return tensor.half() if tensor.ndim > 1 and tensor.is_floating_point() else tensor


def model_card(file: str, tensors: dict[str, Tensor], meta: dict[str, Any]) -> str:
    """The card of an exported network, Markdown."""
    model, data, partition = meta["model"], meta["data"], meta["partition"]
    parameters = sum(t.numel() for name, t in tensors.items() if not name.endswith(STATISTICS))
    halved = any(tensor.dtype == torch.float16 for tensor in tensors.values())
    unlabeled = f"; with {partition['unlabeled']} unlabeled images" if partition["unlabeled"] else ""
    rows = {
        "data": f"{data['name']} ({data['kind']})",
        "licence of the data": data["licence"] or "not stated",
        "encoder": _origin(meta),
        "labels": f"{partition['name']}{unlabeled}",
        "method": f"{meta['method']}, {meta['step']} steps",
        "paper": _paper(meta["method"]),
        "mIoU": _miou(meta),
        "network": f"{model['decoder']} over {model['backbone']}, output stride {model['output_stride']}",
        "size": f"{parameters / 1e6:.2f} million parameters, {'float16 (vectors float32)' if halved else 'float32'}",
        "input": _input(meta),
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
    load = f"from semiseg_cli import load\nnet = load({json.dumps(file)})\nlabels = net(\"photo.jpg\")"
    return f"""# {markdown(file.removesuffix(SUFFIX))}

| | |
|---|---|
{table}

## Load it

{fenced(load, "python")}

`labels` is a uint8 tensor (height, width) of the indices below, `net.classes` their names. A Pillow image or an upright
uint8 array (height, width, 3) will do as well; `net(image, probabilities=True)` is float32 (classes, height, width).
The network sees the image at the size it was trained for, as in {code(command("predict", file, "photos/"))}, which
writes the same labels. {_libraries(model['backbone'])} are all it needs; `net.net` is the bare network.

## Classes

| index | class | colour |
|---|---|---|
{classes}

## Settings

{fenced(json.dumps(settings, indent=2), "json")}
"""


def _origin(meta: dict[str, Any]) -> str:
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


def _input(meta: dict[str, Any]) -> str:
    side, window = meta["data"].get("long_side", 0), meta["data"]["window"]
    multiple = _multiple(meta["model"])
    parts = ["upright RGB images, uint8"]
    parts += [f"long side at most {side} pixels, as in training"] * bool(side)
    parts += [f"seen in windows of {fit_side(window, multiple)} pixels"] * bool(window)
    parts += [f"sides brought to the nearest multiples of {multiple} pixels for the network"] * (multiple > 1)
    return "; ".join(parts)


def _multiple(model: dict[str, Any]) -> int:
    """Of the sides that a network takes; 1, that of most, for one that this version of semiseg does not know."""
    try:
        with torch.device("meta"):  # only what it states is wanted
            return build_encoder(model["backbone"], output_stride=model["output_stride"]).multiple
    except UsageError:
        return 1


def _colour(palette: list[list[int]], index: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*palette[index]) if index < len(palette) else ""
