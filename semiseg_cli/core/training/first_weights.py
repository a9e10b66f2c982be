"""What the networks of a run start from: weights of an encoder, or a whole network of another run."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from semiseg_cli.core.errors import CheckpointError, UsageError
from semiseg_cli.core.models import load_encoder, starts_random
from semiseg_cli.core.networks import Origin
from semiseg_cli.core.ops.sizes import fit_side
from semiseg_cli.core.settings import BadSetting, Config, ModelConfig
from semiseg_cli.core.training.checkpoint import fit, read_network


def thawed(config: Config, init: Path | None, note: Callable[[str], None]) -> Config:
    """The configuration of a new run, without model.freeze_bn where its encoder starts from random weights.

    Batch norms frozen before they saw an image would pass everything on as it is (mean 0, variance 1) to the end.
    Not for a run that goes on: what its norms have seen is in its state.
    Raises BadSetting where the whole encoder would stay random.
    """
    model = config.model
    random = init is None and starts_random(model.backbone, model.weights)
    if model.freeze_encoder and random:
        allowed = "false where the encoder starts from random weights: they would stay so"
        fix = "--weights FILE, --init CHECKPOINT, or --set model.freeze_encoder=false"
        raise BadSetting("model.freeze_encoder", True, allowed, fix=fix)
    if not (model.freeze_bn and random):
        return config
    note("model.freeze_bn is off: the encoder starts from random weights, and its batch norms have seen no image yet")
    return replace(config, model=replace(model, freeze_bn=False))


def preparation(
    config: Config, classes: int, init: Path | None, bare: bool, note: Callable[[str], None]
) -> Callable[[Any], None]:
    """What happens to every fresh network: weights unless `bare`, told of once.

    Of several networks the first starts as `init` whole, the others with its encoder: two students must not be alike.
    """
    told: set[str] = set()

    def fill(net: Any) -> None:
        if init is not None:
            tensors, meta = read_network(init)
            origin = Origin.of(meta)
            terms = f"; licence of its encoder's first weights: {origin.licence}" if origin.licence else ""
            line = f"network: {init}{terms}"
            _same_model(meta["model"], config.model, classes, init)
            if line in told:
                encoder = {name: value for name, value in tensors.items() if name.startswith("encoder.")}
                tensors = net.state_dict() | encoder
            fit(net, tensors, init, _encoder_alone(init))
            net.encoder.origin = origin
        else:
            line = load_encoder(net.encoder, config.model.backbone, config.model.weights, note=note)
        if line not in told:
            told.add(line)
            note(line)

    def prepare(net: Any) -> None:
        _check_crop(config.train.crop, net.multiple)
        if not bare:
            fill(net)

    return prepare


def _check_crop(crop: int, multiple: int) -> None:
    if crop % multiple:
        raise UsageError(
            f"the encoder takes images whose sides are multiples of {multiple}, and crops of {crop} pixels are not",
            fix=f"-s train.crop={fit_side(crop, multiple)}",
        )


def _same_model(theirs: Mapping[str, Any], model: ModelConfig, classes: int, init: Path) -> None:
    """Raise CheckpointError, naming the difference, unless a checkpoint's network is that of the configuration."""
    ours = {"backbone": model.backbone, "decoder": model.decoder, "classes": classes}
    differ = [key for key, value in ours.items() if theirs[key] != value]
    if not differ:
        return
    why = "; ".join(f"{key}: {theirs[key]} there, {ours[key]} here" for key in differ)
    flags = {"backbone": f"-b {theirs['backbone']}", "decoder": f"-s model.decoder={theirs['decoder']}"}
    change = [flag for key, flag in flags.items() if key in differ]
    alone = _encoder_alone(init, theirs["backbone"] if "backbone" in differ else "")
    fix = alone if "classes" in differ else f"{' '.join(change)}, or {alone}"  # the classes are the dataset's
    raise CheckpointError(f"{init} does not fit this network", why=why, fix=fix)


def _encoder_alone(init: Path, backbone: str = "") -> str:
    return f"its encoder alone:{f' -b {backbone}' * bool(backbone)} --weights {shlex.quote(str(init))}, and no --init"
