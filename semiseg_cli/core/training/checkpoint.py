"""Files of a run: deployed networks and resume states. Safetensors with JSON metadata, written atomically."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from semiseg_cli.core.errors import CheckpointError, Diverged, few
from semiseg_cli.core.files import unwritable, whole
from semiseg_cli.core.models import build_segmenter, known
from semiseg_cli.core.models.segmenter import Segmenter
from semiseg_cli.core.networks import Origin
from semiseg_cli.core.reading import parse_json
from semiseg_cli.core.tensors import read_tensors
from semiseg_cli.core.training.finite import state_of, unfinite
from semiseg_cli.core.training.metadata import said
from semiseg_cli.core.training.meter import Meter
from semiseg_cli.core.training.optimizers import at_rest

SCHEMA = 1
LARGE = 100  # MB of an encoder that is not made before it is known to be there
SINCE = "since"  # the last log line: what a state has of the log
KEY = "semiseg"  # the one metadata entry; its value is a JSON document
NETWORK = ("backbone", "decoder", "classes", "output_stride")  # what the metadata of a network say under "model"


def write(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write tensors and metadata so that `path` is either the old file or the whole new one.

    Raises CheckpointError when the disk is full or read-only, Diverged for numbers that are not finite; the previous
    file survives.
    """
    if names := unfinite(tensors):
        why = f"nor are {len(names) - 1} other tensors"
        raise Diverged(f"{path} is not written: {names[0]} is not finite", why=why)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path, settled=True) as new:
            on_host = {key: value.detach().to("cpu").contiguous() for key, value in tensors.items()}
            save_file(on_host, new, metadata={KEY: json.dumps(meta)})
    except (OSError, SafetensorError) as error:
        raise unwritable(path, error, " (the previous state was kept)") from error


def read(path: Path, device: str | torch.device = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file written by `write`. Raises CheckpointError for anything else."""
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file", fix="semiseg runs lists the runs; a run holds best.safetensors")
    try:
        tensors, metadata = read_tensors(path)
        meta = parse_json(metadata.get(KEY, "null"))
        if not isinstance(meta, dict) or meta.get("schema") != SCHEMA:
            raise CheckpointError(
                f"{path} is a safetensors file, but not a semiseg checkpoint of schema {SCHEMA}",
                fix="encoder weights go to: semiseg train --weights FILE",
            )
    except (OSError, ValueError) as error:
        why = f"truncated, damaged or not a safetensors file of semiseg ({error})"
        raise CheckpointError(f"cannot read {path}", why=why, fix="take another checkpoint") from error
    return {name: tensor.to(device) for name, tensor in tensors.items()}, meta


def save_network(path: Path, net: nn.Module, meta: dict[str, Any]) -> None:
    """Save a deployed network. `meta` names model, data, partition, normalisation, method, config, step and mIoU."""
    write(path, net.state_dict(), {"schema": SCHEMA, **meta})


def read_network(path: Path, device: str | torch.device = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Like `read`, for a deployed network: the resume state of a run is refused as well."""
    tensors, meta = read(path, device)
    if _is_state(tensors):
        why = "it is a resume state, which only semiseg train --resume reads"
        network = path.parent.parent / "last.safetensors"
        raise CheckpointError(f"{path} is not a network", why=why, fix=f"name the run's network: {network}")
    model = meta.get("model")
    lacks = [key for key in NETWORK if not isinstance(model, dict) or key not in model]
    if lacks:
        why = f"its metadata do not say its {', '.join(lacks)}"
        fix = "semiseg runs lists the runs; a run holds best.safetensors"
        raise CheckpointError(f"{path} is not a network", why=why, fix=fix)
    return tensors, said(meta, path)


def _is_state(tensors: Iterable[str]) -> bool:
    return any(name.startswith("train/") for name in tensors)


def load_network(path: Path, device: str | torch.device = "cpu") -> tuple[Segmenter, dict[str, Any]]:
    """The network of a checkpoint in eval mode, and its metadata. Everything it needs stands in the file."""
    tensors, meta = read_network(path, device)
    model = meta["model"]
    held, said = sum(x.numel() * x.element_size() for x in tensors.values()) / 1e6, known(model["backbone"])
    if said and said.megabytes > LARGE and held < said.megabytes / 4:  # before gigabytes are taken for it
        why = f"its tensors have {held:.0f} MB, those of {model['backbone']} {said.megabytes}"
        raise CheckpointError(f"{path} does not fit this network", why=why, fix="take another checkpoint")
    net = build_segmenter(
        model["backbone"], model["decoder"], model["classes"], output_stride=model["output_stride"],
        upsampling=model.get("upsampling", "bilinear"),
    ).to(device)  # fmt: skip
    fit(net, tensors, path, "take another checkpoint of its run, or the version of semiseg that wrote it")
    net.encoder.origin = Origin.of(meta)
    return net.eval(), meta


def fit(net: nn.Module, tensors: dict[str, Tensor], path: Path, fix: str) -> None:
    """Load tensors into a network strictly; CheckpointError says what does not fit, in few words, and the fix."""
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        expected = net.state_dict()
        shapes = {name: tuple(tensor.shape) for name, tensor in expected.items()}
        misfits = {
            "missing": [name for name in expected if name not in tensors],
            "unexpected": [name for name in tensors if name not in expected],
            "of another shape": [
                f"{name} {tuple(tensor.shape)} instead of {shapes[name]}"
                for name, tensor in tensors.items()
                if name in shapes and tuple(tensor.shape) != shapes[name]
            ],
        }
        why = "; ".join(f"{len(names)} {what}: {few(names, 3)}" for what, names in misfits.items() if names)
        raise CheckpointError(f"{path} does not fit this network", why=why or str(error), fix=fix) from error


def save_state(
    path: Path, train: nn.Module, optimizer: torch.optim.Optimizer, meta: dict[str, Any], meter: Meter | None = None
) -> None:
    """Everything a run needs to go on as if it had never stopped, in one file: networks, optimiser, clock, meter."""
    scalars: dict[str, dict[str, Any]] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if not isinstance(value, Tensor):
                scalars.setdefault(str(index), {})[key] = value
    sums, since = (meter or Meter()).state()
    tensors = state_of(train, optimizer) | {f"{SINCE}/{name}": value for name, value in sums.items()}
    write(path, tensors, {"schema": SCHEMA, **meta, "optimizer": scalars, SINCE: since})


def load_state(
    path: Path, train: nn.Module, optimizer: torch.optim.Optimizer, meter: Meter | None = None
) -> dict[str, Any]:
    """Put a saved state back in place; returns its metadata. Learning rates follow from the clock, not from here.

    Raises CheckpointError, with a new run as the way out, for a file that is damaged or not the state of this run.
    """
    fix = _new_run(path.parent.parent)
    try:
        tensors, meta = read(path)
        meta = said(meta, path, state=True) if _is_state(tensors) else {}
    except CheckpointError as error:
        error.fix = fix
        raise
    if not _is_state(tensors) or not isinstance(meta.get("optimizer"), dict):
        why = "it holds no networks in training, or nothing of an optimiser"
        raise CheckpointError(f"{path} is not a resume state", why=why, fix=fix)
    if names := unfinite(tensors):  # as earlier versions could write them
        raise CheckpointError(f"{path} holds numbers that are not finite", why=f"in {names[0]}", fix=fix)
    states = _optimizer_states(tensors, meta["optimizer"], optimizer, path, fix)
    fit(train, {k.removeprefix("train/"): v for k, v in tensors.items() if k.startswith("train/")}, path, fix)
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    at_rest(optimizer)  # states from before have nothing of what a warm-up had left out
    if meter is not None:
        sums = {k.removeprefix(f"{SINCE}/"): v for k, v in tensors.items() if k.startswith(f"{SINCE}/")}
        try:
            meter.load(sums, meta.get(SINCE, {}), optimizer.param_groups[0]["params"][0].device)
        except ValueError as error:
            raise CheckpointError(f"{path} is damaged", why=str(error), fix=fix) from error
    return meta


def _optimizer_states(
    tensors: Mapping[str, Tensor], scalars: Mapping[str, Any], optimizer: torch.optim.Optimizer, path: Path, fix: str
) -> dict[int, dict[str, Any]]:
    """What the optimiser knows of each parameter, by its number. CheckpointError for another optimiser's."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = {str(number): number for number in range(len(params))}
    known = {"step", "exp_avg", "exp_avg_sq"} if "betas" in optimizer.defaults else {"momentum_buffer"}
    states: dict[int, dict[str, Any]] = {numbers[n]: dict(x) for n, x in scalars.items() if n in numbers}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, number, key = [*name.split("/", 2), ""][:3]
            like = params[numbers[number]] if number in numbers else None
            if like is None or key not in known or tensor.shape != (() if key == "step" else like.shape):
                why = f"{name} {tuple(tensor.shape)} is nothing that the optimiser of this run has"
                raise CheckpointError(f"{path} does not fit this run", why=why, fix=fix)
            if key != "step":  # fused optimisers walk through both in memory order: NHWC must stay NHWC
                tensor = torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)
            states.setdefault(numbers[number], {})[key] = tensor
    return states


def _new_run(run: Path) -> str:
    """What is left where the state of a run cannot be used: the same settings anew, from its last network if any."""
    options = {"-c": run / "config.toml", "--init": run / "last.safetensors"}
    given = [word for option, file in options.items() if file.is_file() for word in (option, str(file))]
    origin = " from its last network" if "--init" in given else ""
    return f"a new run{origin}: {shlex.join(['semiseg', 'train', *given])}"
