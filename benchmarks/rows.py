"""What is measured, most important first. A new measurement is a new line here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from semiseg_cli.core.methods import METHODS

# Images are held in memory, so that a step is a step; random weights cost what trained ones do.
BASE: dict[str, Any] = {
    "data.name": "synthetic", "model.backbone": "resnet101", "model.weights": "none", "train.crop": 321,
    "train.batch": 8, "train.amp": "bf16", "train.workers": 0, "train.cache_mb": 0,
}  # fmt: skip

# What makes a row quick on a CPU, to see that it runs at all.
TINY: dict[str, Any] = {"model.backbone": "tiny", "train.crop": 33, "train.batch": 2, "train.amp": "off"}
TINY_PUBLISHED: dict[str, Any] = {"backbone": "resnet50", "batch": 1, "crop": 65, "bf16": False}


@dataclass(frozen=True)
class Row:
    """One of our steps. settings: what it changes in `BASE`. seconds: about what it takes on an H100."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float = 10.0


@dataclass(frozen=True)
class Published:
    """A step of the public UniMatch code. bf16: under bfloat16 autocast and channels_last, which it does not have."""

    name: str
    bf16: bool = False
    backbone: str = "resnet101"
    batch: int = 8
    crop: int = 321
    seconds: float = 15.0


@dataclass(frozen=True)
class Training:
    """A run on real data, to its evaluation. settings: over the preset that suits the dataset."""

    name: str
    settings: dict[str, Any]
    seconds: float = 90.0


# Methods by what is asked about most; one that is not named here comes last, so that none is forgotten.
FIRST = ("unimatch", "supervised", "ipixmatch", "stpg", "s4mim", "maskmatch", "guidedmix", "fixmatch", "meanteacher")
ORDER = sorted(METHODS, key=[*FIRST, *METHODS].index)
EAGER, COMPILED, POOLED = {"train.graph": "off"}, {"train.compile": True}, {"data.cache": "device"}


def rows(name: str, settings: dict[str, Any], *, compiles: float = 90.0) -> tuple[Row, Row, Row, Row]:
    """As it comes, on CUDA as a graph; operator by operator; with the warp in the graph; and with compiled networks."""
    return (
        Row(name, settings),
        Row(f"{name}, no graph", settings | EAGER),
        Row(f"{name}, graph and device cache", settings | POOLED),
        Row(f"{name}, graph and compile", settings | COMPILED, compiles),
    )


OF_METHODS = [rows(name, {"method.name": name}) for name in ORDER]
OF_SIZES = [
    rows("unimatch 16+16", {"method.name": "unimatch", "train.batch": 16}),
    rows("unimatch 32+32", {"method.name": "unimatch", "train.batch": 32}),
    rows("unimatch mobilenet_v2 161", {"method.name": "unimatch", "model.backbone": "mobilenet_v2", "train.crop": 161}),
    rows("unimatchv2 dinov2_s 518", {"method.name": "unimatchv2", "model.backbone": "dinov2_s", "train.crop": 518}),
    rows("unimatchv2 dinov2_b 518", {"method.name": "unimatchv2", "model.backbone": "dinov2_b", "train.crop": 518}),
]
LEAD: tuple[Row, ...] = OF_METHODS[0][:2]
# What compiles takes minutes and comes last; before that graphs, the same without one, and with images on the device.
STEPS: tuple[Row, ...] = (
    *(four[which] for which in (0, 1) for four in OF_METHODS[1:]),
    *(row for four in OF_SIZES for row in four[:3]),
    *(four[which] for which in (2, 3) for four in OF_METHODS),
    *(four[3] for four in OF_SIZES),
)

# Beside the public code stands what does the same: its encoder (a deep stem), its partners, its joint pass.
SAME = {
    "method.name": "unimatch", "model.backbone": "resnet101s", "model.upsampling": "corners",
    "method.exact_bn": True, "method.cutmix_partner": "self",
}  # fmt: skip
COMPARED: tuple[Row | Published, ...] = (
    Published("public UniMatch, as published"),
    Published("public UniMatch, bf16 channels_last", bf16=True),
    Row("unimatch, the same network and step", SAME),
    Row("unimatch, the same, no graph", SAME | EAGER),
    Row("unimatch, the same, TF32", SAME | {"train.amp": "off"}),
)

LENGTH: dict[str, Any] = {"train.epochs": 0, "train.eval_every": 0}
DINO = {"model.backbone": "dinov2_s", "train.crop": 364, "train.steps": 2000, **LENGTH}
SHORT = {"train.steps": 400, **LENGTH}
TRAININGS = (
    *(Training(f"train {name}", SHORT | {"method.name": name}) for name in ("supervised", "unimatch")),
    *(  # with DINOv2's own weights: --only dinov2 --weights FILE
        Training(
            f"train {name} dinov2_s{', frozen' * frozen}, seed {seed}",
            DINO | {"method.name": name, "model.freeze_encoder": frozen, "train.seed": seed},
            seconds=300,
        )
        for seed in (0, 1)
        for frozen in (True, False)
        for name in ("supervised", "unimatch", "unimatchv2")
    ),
)
