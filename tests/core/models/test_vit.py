"""Plain transformers against DINOv2 in formulas (`vit_reference.py`), with seeded weights and with real ones."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import vit_reference as reference
from safetensors.torch import load_file, save_file
from timm.models import VisionTransformer
from torch import Tensor

from semiseg_cli.core.errors import CheckpointError
from semiseg_cli.core.models import build_encoder, load_encoder
from semiseg_cli.core.models.backbones.naming import named_by_timm
from semiseg_cli.core.models.backbones.positions import resampled
from semiseg_cli.core.models.backbones.vit import META, ViT, quarters

REAL = os.environ.get("SEMISEG_DINOV2_S", "")
GRIDS = {"518": (37, 37), "378x490": (27, 35), "798": (57, 57), "112x140": (8, 10), "14": (1, 1)}
# By `reference.maps` of DINOv2 ViT-S/14: after blocks 2, 5, 8, 11, at six (channel, row, column) of the waves
PLACES = {
    (224, 224): [(0, 0, 0), (37, 8, 5), (101, 15, 15), (200, 1, 14), (301, 5, 0), (383, 14, 8)],
    (112, 140): [(0, 0, 0), (37, 4, 3), (101, 7, 9), (200, 1, 8), (301, 2, 0), (383, 6, 5)],
}
STORED = {
    (224, 224): [
        [-4.27749, 1.16189, 0.04958, -2.23346, 0.64874, -6.20406],
        [-3.02141, -0.64805, 1.87261, -0.28101, -0.10163, -7.61357],
        [-3.15254, -1.64962, -0.96439, -3.16795, 1.37033, -5.8598],
        [0.02028, -1.31862, -0.89168, 0.4691, 4.57477, 1.47185],
    ],
    (112, 140): [
        [-4.63447, 0.31492, -1.02442, -2.35928, -0.29495, 4.95434],
        [-2.98664, 1.40782, 2.29787, -1.18253, -0.02628, -3.95729],
        [-2.60371, -2.09063, -1.72417, -3.23245, 1.34762, -3.42277],
        [-0.61436, -0.75603, -0.8614, 0.67298, 3.95518, 0.97601],
    ],
}


def waves(height: int, width: int) -> Tensor:
    return torch.from_numpy(reference.image(height, width))[None]


def tiny(registers: int) -> ViT:
    """DINOv2 in small: patches of 4, 5 x 5 of them, 12 wide, three heads. Every number of it says something."""
    net = VisionTransformer(
        img_size=20, patch_size=4, num_classes=0, embed_dim=12, depth=4, num_heads=3, init_values=1.0,
        reg_tokens=registers, no_embed_class=bool(registers), norm_layer=None,
    )  # fmt: skip
    net.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    generator = torch.Generator().manual_seed(3)
    for parameter in net.parameters():
        parameter.data.normal_(0.2, 0.5, generator=generator)
    return ViT(net, quarters(4), None if registers else META).eval()


def by_meta(encoder: ViT) -> dict[str, Tensor]:
    """Its weights as Meta's file of them would have them: with registers the class token's position apart."""
    named = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    if "reg_token" in named:
        position = torch.full_like(named["cls_token"], 0.3)
        named["register_tokens"], named["cls_token"] = named.pop("reg_token"), named["cls_token"] - position
        named["pos_embed"] = torch.cat([position, named["pos_embed"]], 1)
    return named | {"mask_token": torch.zeros(1, named["cls_token"].shape[-1])}


def by_transformers(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Meta's names as Hugging Face transformers has them, written out."""
    outer = {
        "cls_token": "embeddings.cls_token", "mask_token": "embeddings.mask_token",
        "register_tokens": "embeddings.register_tokens", "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
        "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
        "norm.weight": "layernorm.weight", "norm.bias": "layernorm.bias",
    }  # fmt: skip
    inner = {"ls1.gamma": "layer_scale1.lambda1", "ls2.gamma": "layer_scale2.lambda1"}
    inner |= {f"attn.proj.{kind}": f"attention.output.dense.{kind}" for kind in ("weight", "bias")}
    found = {}
    for name, tensor in named.items():
        if name in outer:
            found[outer[name]] = tensor
            continue
        _, block, rest = name.split(".", 2)
        layer = f"encoder.layer.{block}."
        if rest.startswith("attn.qkv."):
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                found[f"{layer}attention.attention.{part}.{rest.rsplit('.', 1)[1]}"] = rows.clone()
        else:
            found[layer + inner.get(rest, rest)] = tensor
    return found


@pytest.mark.parametrize("size", [(20, 20), (12, 28), (4, 8), (36, 24)])
@pytest.mark.parametrize("registers", [0, 4])
@torch.no_grad()
def test_the_maps_are_dinov2s(registers: int, size: tuple[int, int]) -> None:
    encoder = tiny(registers).double()
    weights = {name: tensor.numpy() for name, tensor in by_meta(encoder).items()}
    want = reference.maps(weights, reference.image(*size), patch=4, heads=3, taps=(0, 1, 2, 3))
    for got, expected in zip(encoder(waves(*size)), want, strict=True):
        assert expected.std() > 0.3
        np.testing.assert_allclose(got[0].numpy(), expected, rtol=0, atol=2e-6)  # tables are float32


@pytest.mark.parametrize("offset", [META, None], ids=["meta", "size"])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_position_tables_at_other_sizes(grid: tuple[int, int], offset: float | None) -> None:
    own = reference.PATCH_GRID
    table = torch.randn(own, own, 3, generator=torch.Generator().manual_seed(0))
    got = resampled(table, grid, offset)
    np.testing.assert_allclose(got.numpy(), reference.table_at(table.double().numpy(), grid, offset), atol=2e-5)
    assert (got is table) == (grid == (own, own))


def test_the_position_table_stays_exact_under_autocast() -> None:
    table = torch.randn(37, 37, 3, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        got = resampled(table, (8, 10), META)
    assert torch.equal(got, resampled(table, (8, 10), META))
    encoder, image = tiny(0), waves(12, 28).float()
    with torch.autocast("cpu", torch.bfloat16):
        x, _ = encoder._with_positions(encoder.patch_embed.proj(image).flatten(2).transpose(1, 2), (3, 7))
    assert x.dtype == torch.float32


@pytest.mark.parametrize("publisher", [by_meta, lambda encoder: by_transformers(by_meta(encoder))])
@pytest.mark.parametrize("registers", [0, 4])
def test_names_of_other_publishers(registers: int, publisher: object) -> None:
    encoder = tiny(registers)
    named = encoder.renamed(publisher(encoder))  # type: ignore[operator]
    assert not named.pop("mask_token").any()
    assert named.keys() == encoder.state_dict().keys()
    for name, tensor in encoder.state_dict().items():
        torch.testing.assert_close(named[name], tensor, rtol=0, atol=1e-6)
    assert named_by_timm(named, merged=bool(registers)).keys() == named.keys()  # timm's own


# Parameters without the mask token, which segmentation never uses: those of the published files less their width
COUNTS = {"s": 22_056_576 - 384, "b": 86_580_480 - 768, "l": 304_368_640 - 1024}


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_parameters_of_dinov2(name: str, count: int) -> None:
    with torch.device("meta"):
        plain, registers = build_encoder(f"dinov2_{name}"), build_encoder(f"dinov2_{name}_reg")
    assert sum(parameter.numel() for parameter in plain.parameters()) == count
    assert sum(parameter.numel() for parameter in registers.parameters()) == count + 3 * plain.channels[0]
    assert plain.taps == registers.taps == ((4, 11, 17, 23) if name == "l" else (2, 5, 8, 11))
    assert plain.multiple == 14
    assert plain.strides == (14,) * 4


def test_weights_of_another_patch_are_refused(tmp_path: Path) -> None:
    encoder = build_encoder("dinov2_s")
    tensors = encoder.state_dict() | {"patch_embed.proj.weight": torch.zeros(384, 3, 16, 16)}
    save_file(tensors, tmp_path / "patches.safetensors")
    with pytest.raises(CheckpointError, match="does not fit dinov2_s") as caught:
        load_encoder(encoder, "dinov2_s", str(tmp_path / "patches.safetensors"))
    assert caught.value.why == (
        "1 of another shape: patch_embed.proj.weight (384, 3, 16, 16) instead of (384, 3, 14, 14)"
    )


@pytest.mark.skipif(not REAL, reason="SEMISEG_DINOV2_S names no file with DINOv2 ViT-S/14, Meta's names")
@torch.no_grad()
def test_real_weights_give_the_stored_maps(tmp_path: Path) -> None:
    encoder = build_encoder("dinov2_s").eval()
    assert load_encoder(encoder, "dinov2_s", REAL).startswith("encoder dinov2_s: 174 tensors")
    for size, stored in STORED.items():
        for got, want in zip(encoder(waves(*size).float()), stored, strict=True):
            assert [got[0][place].item() for place in PLACES[size]] == pytest.approx(want, abs=1e-3)
    save_file(by_transformers(load_file(REAL)), tmp_path / "hf.safetensors")
    again = build_encoder("dinov2_s", seed=1)
    load_encoder(again, "dinov2_s", str(tmp_path / "hf.safetensors"))
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in encoder.state_dict().items())
