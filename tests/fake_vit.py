"""DINOv2 in small, as the backbone `small_vit`: patches of 14, four blocks, 24 wide; `VIT` is the spec with DPT.

`short_vit` has two blocks, each of which is two maps.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from semiseg_cli.core.models.names import BACKBONES, Backbone
from semiseg_cli.core.networks import Encoder

VIT: dict[str, Any] = {"backbone": "small_vit", "decoder": "dpt", "output_stride": 16}


def small_vit(output_stride: int, taps: tuple[int, ...] = (0, 1, 2, 3)) -> Encoder:
    from timm.models import VisionTransformer  # it takes seconds: not before somebody needs it

    from semiseg_cli.core.models.backbones.vit import META, ViT

    net = VisionTransformer(
        img_size=56, patch_size=14, num_classes=0, embed_dim=24, depth=taps[-1] + 1, num_heads=2, init_values=1.0
    )
    net.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    return ViT(net, taps, META)


short_vit = partial(small_vit, taps=(0, 0, 1, 1))


@pytest.fixture(scope="module")
def vit_network() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("small_vit", "short_vit"):
            patch.setitem(BACKBONES, name, Backbone(f"fake_vit:{name}"))
        yield
