"""DINOv2 in small, as the backbone `small_vit`: patches of 14, four blocks, 24 wide. `VIT` is the spec with DPT."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from timm.models import VisionTransformer

from semiseg_cli.core.models.backbones.vit import META, ViT
from semiseg_cli.core.models.names import BACKBONES, Backbone

VIT: dict[str, Any] = {"backbone": "small_vit", "decoder": "dpt", "output_stride": 16}


def small_vit(output_stride: int) -> ViT:
    net = VisionTransformer(
        img_size=56, patch_size=14, num_classes=0, embed_dim=24, depth=4, num_heads=2, init_values=1.0
    )
    net.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    return ViT(net, (0, 1, 2, 3), META)


@pytest.fixture(scope="module")
def vit_network() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "small_vit", Backbone("fake_vit:small_vit"))
        yield
