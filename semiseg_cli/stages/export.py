"""Export a trained network: one file for other programs, and a model card that says what it is and how it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from semiseg_cli.core.errors import CheckpointError, UsageError
from semiseg_cli.core.files import network_of, write_text
from semiseg_cli.core.training.checkpoint import load_network, read_network, write
from semiseg_cli.stages.exported_graph import require_onnx, write_graph
from semiseg_cli.stages.model_card import model_card, origin_of

SUFFIXES = {"safetensors": ".safetensors", "onnx": ".onnx", "pt2": ".pt2"}


def export_network(
    checkpoint: Path, out: Path | None = None, *, format: str = "safetensors", half: bool = False
) -> dict[str, Any]:
    """Write the deployed network of a checkpoint or run, and its card beside it; the result of `semiseg export`.

    out: a file of the format's suffix, or a folder; None: a file in the working directory, named after the run.
    format: of SUFFIXES; what is no safetensors file is a graph, see `exported_graph.py`.
    half: weights of convolutions as float16 (half the size; they are computed with as float32).
    Raises CheckpointError for what is no checkpoint of a network, for a network that makes no such graph, and where
    nothing can be written; UsageError where the packages for ONNX lack.
    """
    source = network_of(checkpoint)
    suffix = SUFFIXES[format]
    if format == "onnx":
        require_onnx()
    out = _target(source, out, suffix)
    card = out.with_suffix(".md" if format == "safetensors" else f"{suffix}.md")
    tensors, meta = read_network(source)
    if half:
        tensors = {name: _halved(tensor) for name, tensor in tensors.items()}
    difference = None
    try:
        if format == "safetensors":
            write(out, tensors, meta)
        else:
            out.parent.mkdir(parents=True, exist_ok=True)
            difference = write_graph(out, load_network(source)[0], meta, half=half)
        write_text(card, model_card(out.name, tensors, meta))
    except (OSError, CheckpointError) as error:
        if isinstance(error, CheckpointError) and format != "safetensors":
            raise
        why = error.why if isinstance(error, CheckpointError) else str(error)
        raise CheckpointError(f"cannot write {out}", why=why, fix="choose another place: -o FILE") from error
    return {
        "file": str(out),
        "card": str(card),
        "format": format,
        "bytes": out.stat().st_size,
        "half": half,
        "largest_difference": difference,
        "checkpoint": str(source),
        "method": meta["method"],
        "data": meta["data"]["name"],
        "miou": meta["miou"],
        "encoder": origin_of(meta),
    }


def _target(source: Path, out: Path | None, suffix: str) -> Path:
    """The file to write. Raises UsageError for another kind of file, and where it would be the checkpoint itself."""
    run = source.parent if (source.parent / "config.toml").is_file() else None
    name = f"{run.resolve().name if run else source.stem + '-export'}{suffix}"
    if out is None or out.is_dir():
        out = (out or Path()) / name
    if out.suffix != suffix:
        raise UsageError(f"-o {out} does not name a {suffix} file or a folder", fix=f"-o {out.with_suffix(suffix)}")
    if out.resolve() == source.resolve():
        raise UsageError(f"{out} is the checkpoint itself", fix=f"-o {out.with_name(f'{out.stem}-export{suffix}')}")
    return out


def _halved(tensor: Tensor) -> Tensor:
    """float16 for convolutions; vectors (biases, batch norm) are small, and variances may be beyond its range."""
    return tensor.half() if tensor.ndim > 1 and tensor.is_floating_point() else tensor
