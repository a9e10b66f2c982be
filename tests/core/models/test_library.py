"""Networks of timm's as encoders: its own maps, its names, what they take, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from semiseg_cli.core.errors import CheckpointError, UsageError
from semiseg_cli.core.models import BACKBONES, build_encoder, load_encoder
from semiseg_cli.core.models.backbones.library import FromLibrary, opened
from semiseg_cli.core.models.backbones.naming import left_out
from semiseg_cli.core.models.backbones.vit import META, ViT
from semiseg_cli.core.models.backbones.windows import CountedWindows


def small_swin(depths: tuple[int, ...] = (1, 1, 1, 1)) -> Any:
    return timm.create_model(
        "swin_tiny_patch4_window7_224", strict_img_size=False, embed_dim=24, depths=depths, num_heads=(1, 2, 2, 2)
    )


def seeded(net: Any) -> Any:
    generator = torch.Generator().manual_seed(4)
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 0.3, generator=generator)
    return net


@pytest.mark.parametrize("name", ["test_convnext", "test_efficientnet", "test_resnet"])
@torch.no_grad()
def test_a_pyramid_is_timms_own(name: str) -> None:
    theirs = seeded(timm.create_model(name)).eval()
    features = timm.create_model(name, features_only=True, out_indices=tuple(range(-4, 0))).eval()
    features.load_state_dict(_flattened(theirs.state_dict(), features))
    encoder = opened(name, 32).eval()
    encoder.load_state_dict(
        {n: t for n, t in encoder.renamed(theirs.state_dict()).items() if not n.startswith(encoder.unused)}
    )
    image = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    for got, want, stride in zip(encoder(image), features(image), (4, 8, 16, 32), strict=True):
        assert want.std() > 1e-3
        assert want.shape[2:] == (64 // stride, 96 // stride)
        torch.testing.assert_close(got, want)


def _flattened(tensors: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """timm's classifier's tensors for its own network of features, in which `stages.0` may be `stages_0`."""
    found = {}
    for name in net.state_dict():
        plain = name.removeprefix("model.")
        found[name] = tensors[plain if plain in tensors else plain.replace("_", ".", 1)]
    return found


@torch.no_grad()
@pytest.mark.parametrize("fused", [True, False])
def test_a_swin_transformer_counts_windows_and_says_what_timm_says(fused: bool) -> None:
    ours = seeded(small_swin(depths=(2, 2, 1, 1)))  # every second block is shifted
    for module in ours.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused
    theirs = copy.deepcopy(ours).eval()
    encoder = FromLibrary("swin", ours, 16).eval()
    assert {type(block) for stage in encoder.net.layers for block in stage.blocks} == {CountedWindows}
    assert any(any(block.shift_size) for stage in theirs.layers for block in stage.blocks)
    for size in ((32, 64), (96, 224), (160, 96)):
        image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(size[0]))
        with torch.no_grad():
            expected = theirs.forward_intermediates(image, intermediates_only=True)
            found = encoder(image)
        assert len(found) == len(expected) == 4
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_swin_transformer_takes_every_multiple_of_its_last_stride() -> None:
    encoder = FromLibrary("swin", small_swin(), 16).eval()
    assert (encoder.channels, encoder.strides, encoder.multiple) == ((24, 48, 96, 192), (4, 8, 16, 32), 32)
    assert encoder.remark == "its strides are 4, 8, 16 and 32: it cannot be held at 16"
    assert encoder.unused == ("net.head.", "net.norm.")
    assert [x.shape[2:] for x in encoder(torch.zeros(1, 3, 96, 160))] == [(24, 40), (12, 20), (6, 10), (3, 5)]


def test_strides_are_held_where_timm_can() -> None:
    assert opened("test_convnext", 16).strides == (4, 8, 16, 16)
    assert opened("test_efficientnet", 8).strides == (4, 8, 8, 8)
    assert not opened("test_efficientnet", 8).remark


@pytest.mark.parametrize(
    ("name", "multiple", "mean"), [("test_vit", 16, 0.5), ("test_convnext", 16, 0.5), ("tf_efficientnet_lite0", 1, 0.5)]
)
def test_what_images_it_takes(name: str, multiple: int, mean: float) -> None:
    encoder = opened(name, 16)
    assert encoder.multiple == multiple
    assert encoder.mean == (mean,) * 3


@pytest.mark.parametrize("output_stride", [32, 16])
@torch.no_grad()
def test_maps_of_tensorflows_networks_stay_in_register_at_any_side(output_stride: int) -> None:
    """At 65 pixels its padding is even. At 64 it would put every map a stride less a pixel beside the image."""
    theirs = seeded(timm.create_model("tf_efficientnet_lite0", output_stride=output_stride)).eval()
    encoder = opened("tf_efficientnet_lite0", output_stride).eval()
    named = encoder.renamed(theirs.state_dict())
    encoder.load_state_dict({name: named[name] for name in encoder.state_dict()})
    odd = torch.randn(1, 3, 65, 97, generator=torch.Generator().manual_seed(0))
    even = odd[:, :, :64, :96]
    odd[:, :, 64], odd[:, :, :, 96] = odd[:, :, 63], odd[:, :, :, 95]
    found = theirs.forward_intermediates(odd, indices=encoder.indices, intermediates_only=True)
    for x, whole in zip(encoder(even), found, strict=True):
        height, width = x.shape[2:]
        assert x.std() > 1e-3
        assert whole.shape[2:] == (height + 1, width + 1)
        torch.testing.assert_close(x, whole[:, :, :height, :width], rtol=0, atol=0)


def test_short_names_are_timms() -> None:
    for backbone in BACKBONES.values():
        if backbone.timm:
            assert backbone.timm in timm.list_pretrained(backbone.timm), backbone.timm
    lite = build_encoder("efficientnet_lite0")
    assert lite.mean == lite.std == (0.5, 0.5, 0.5)
    assert lite.channels == (24, 40, 112, 320)


def test_position_tables_by_the_rule_of_each_model() -> None:
    with torch.device("meta"):
        nets = {name: opened(f"vit_small_patch14_{name}", 16) for name in ("dinov2", "reg4_dinov2")}
        other = opened("vit_tiny_patch16_224", 16)
    assert all(isinstance(net, ViT) for net in (*nets.values(), other))
    assert [net.offset for net in (*nets.values(), other)] == [META, None, None]


def test_nothing_is_dropped_or_counted() -> None:
    encoder = FromLibrary("swin", small_swin(), 32)
    rates = [getattr(module, "drop_prob", 0.0) or getattr(module, "p", 0.0) for module in encoder.modules()]
    assert not any(rates)
    net = opened("test_efficientnet", 16).train()
    norms = [module for module in net.modules() if isinstance(module, BatchNormAct2d)]
    net(torch.randn(2, 3, 32, 32))
    assert norms
    assert not any(norm.num_batches_tracked for norm in norms)
    assert all(norm.running_mean.any() for norm in norms)


@pytest.mark.parametrize(
    ("name", "what", "fix"),
    [
        ("timm:test_convnex", "no network called 'test_convnex'", "did you mean timm:test_convnext"),
        ("timm:hf_hub:someone/net", "no network called 'hf_hub:someone/net'", "timm.list_models()"),
        ("timm:convnext_tiny.fb_in9k", "no weights 'fb_in9k' for convnext_tiny", "timm:convnext_tiny.fb_in22k"),
        ("timm:test_maxvit", "gives no feature maps of images of any size", "-b dinov2_s"),
        ("convnext_t2", "no backbone called 'convnext_t2'", "did you mean 'convnext_t'?"),
        ("test_vit", "no backbone called 'test_vit'", "timm:NAME"),
    ],
)
def test_names_that_are_refused(name: str, what: str, fix: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        build_encoder(name)
    assert fix in caught.value.fix


@pytest.mark.parametrize("name", ["timm:test_vit", "timm:test_efficientnet"])
def test_weights_of_another_network_are_refused(name: str, tmp_path: Any) -> None:
    save_file(timm.create_model("test_convnext").state_dict(), tmp_path / "other.safetensors")
    encoder = build_encoder(name)
    before = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
    with pytest.raises(CheckpointError, match=f"does not fit {name}"):
        load_encoder(encoder, name, str(tmp_path / "other.safetensors"))
    assert all(torch.equal(before[key], tensor) for key, tensor in encoder.state_dict().items())


@pytest.mark.parametrize("name", ["timm:test_vit", "timm:test_efficientnet", "timm:test_convnext"])
def test_weights_by_timms_names(name: str, tmp_path: Any) -> None:
    theirs = seeded(timm.create_model(name.removeprefix("timm:")))
    save_file(theirs.state_dict(), tmp_path / "w.safetensors")
    encoder = build_encoder(name)
    line = load_encoder(encoder, name, str(tmp_path / "w.safetensors"))
    assert line.startswith(f"encoder {name}: {len(encoder.state_dict())} tensors from {tmp_path / 'w.safetensors'}")
    assert "left out" in line
    for key, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[key.removeprefix("net.")])


def small_dinov3() -> FromLibrary:
    net = timm.create_model("vit_small_patch16_dinov3", depth=4, embed_dim=48, num_heads=2, img_size=64)
    return FromLibrary("dinov3", seeded(net), 16)


def test_dinov3_by_metas_names(capsys: pytest.CaptureFixture[str]) -> None:
    encoder = small_dinov3()
    expected = encoder.state_dict()
    theirs = {"mask_token": torch.zeros(1, 48), "rope_embed.periods": torch.ones(6)}
    for name, tensor in expected.items():
        by_meta = name.removeprefix("net.").replace("reg_token", "storage_tokens")
        by_meta = by_meta.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
        theirs[by_meta] = tensor
        if by_meta.endswith("qkv.weight"):  # its bias is zero for keys, and in their files everywhere
            theirs[by_meta.replace("weight", "bias")] = torch.zeros(len(tensor))
            theirs[by_meta.replace("weight", "bias_mask")] = torch.ones(len(tensor))
    named = encoder.renamed(theirs)
    assert named.keys() == expected.keys()
    assert all(torch.equal(named[name], tensor) for name, tensor in expected.items())
    assert not capsys.readouterr().out


@torch.no_grad()
def test_dinov3_takes_every_multiple_of_its_patch_and_gives_normalised_maps() -> None:
    encoder = small_dinov3().eval()
    assert (encoder.strides, encoder.multiple, encoder.channels) == ((16,) * 4, 16, (48,) * 4)
    encoder.net.norm.weight.fill_(1.0)
    encoder.net.norm.bias.fill_(0.0)
    for height, width in ((64, 64), (16, 80)):
        maps = encoder(torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0)))
        assert len(maps) == 4
        for x in maps:
            assert x.shape == (1, 48, height // 16, width // 16)
            torch.testing.assert_close(x.mean(1), torch.zeros(1, height // 16, width // 16), atol=1e-5, rtol=0)


def test_what_is_left_out_is_said_in_few_words() -> None:
    whole = ["stem.a", "blocks.0.w", "blocks.1.w", "head.fc.w", "head.fc.b", "token"]
    assert left_out(whole, ["stem.a", "blocks.0.w"]) == ("blocks.1.", "head.", "token")
