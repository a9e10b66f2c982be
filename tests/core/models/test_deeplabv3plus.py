"""The decoder: widths, rates, alignment, and one image at a time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from semiseg_cli.core.models import DECODERS, build_decoder, build_segmenter
from semiseg_cli.core.models.decoders.blocks import ImagePooling, Upsample
from semiseg_cli.core.models.decoders.deeplabv3plus import DeepLabV3Plus, width


@pytest.mark.parametrize(
    ("channels", "expected"),
    [(2048, 256), (512, 64), (320, 64), (128, 48)],
    ids=["resnet50", "resnet18", "mobilenet_v2", "tiny"],
)
def test_widths(channels, expected):
    assert width(channels) == expected
    with torch.device("meta"):
        decoder = DeepLabV3Plus((32, channels), (4, 16), 7)
    convs = {name: tuple(m.weight.shape[:2]) for name, m in decoder.named_modules() if isinstance(m, nn.Conv2d)}
    assert [shape[0] for name, shape in convs.items() if name.startswith("context.")] == [expected] * 6
    assert [shape for name, shape in convs.items() if not name.startswith("context.")] == [
        (48, 32),
        (expected, 48 + expected),
        (expected, expected),
        (7, expected),
    ]
    biased = [name for name, m in decoder.named_modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
    assert biased == ["classifier"]


@pytest.mark.parametrize(("output_stride", "rates"), [(32, (3, 6, 9)), (16, (6, 12, 18)), (8, (12, 24, 36))])
@torch.no_grad()
def test_branches_look_as_far_as_their_rates(output_stride, rates):
    """The response to one bright pixel lies at the offsets {-rate, 0, rate} and nowhere else."""
    context = DeepLabV3Plus((4, 6), (4, output_stride), 2).eval().context
    bright = torch.zeros(1, 6, 81, 81)
    bright[:, :, 40, 40] = 1
    for branch, rate in zip(context.branches[:4], (0, *rates), strict=True):
        nn.init.constant_(branch[0].weight, 1.0)
        where = branch(bright)[0, 0].nonzero().unique().tolist()
        assert where == sorted({40 - rate, 40, 40 + rate})


@torch.no_grad()
def test_image_pooling_is_the_mean_everywhere():
    pooling = ImagePooling(5, 3).eval()
    x = torch.randn(2, 5, 4, 7, generator=torch.Generator().manual_seed(0))
    expected = torch.einsum("oc,bc->bo", pooling.conv.weight[:, :, 0, 0], x.flatten(2).mean(2)) / (1 + 1e-5) ** 0.5
    got = pooling(x)
    torch.testing.assert_close(got, expected.relu()[:, :, None, None].expand(-1, -1, 4, 7))


def test_one_image_is_pooled_with_the_running_statistics():
    pooling = ImagePooling(5, 3)
    pooling.norm.running_mean.fill_(0.2)
    pooling.norm.running_var.fill_(2.0)
    x = torch.randn(1, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    trained = pooling(x)
    trained.sum().backward()
    assert pooling.conv.weight.grad is not None
    assert pooling.norm.running_mean.tolist() == pytest.approx([0.2] * 3)
    assert torch.equal(trained, pooling.eval()(x))

    pooling.train()(torch.cat([x, x + 1]))  # two images have a variance: the batch's statistics, and they are learnt
    assert pooling.norm.running_mean.tolist() != pytest.approx([0.2] * 3)


def test_upsampling_keeps_the_corners_and_is_linear_between():
    rows, columns = torch.meshgrid(torch.arange(3.0), torch.arange(5.0), indexing="ij")
    ramp = (2 * rows - 3 * columns)[None, None]
    fine_rows, fine_columns = torch.meshgrid(torch.linspace(0, 2, 17), torch.linspace(0, 4, 33), indexing="ij")
    torch.testing.assert_close(Upsample()(ramp, (17, 33))[0, 0], 2 * fine_rows - 3 * fine_columns)


@pytest.mark.parametrize("side", [60, 64, 65])
def test_a_column_is_found_where_it_is_at_any_size(side):
    """Logits that are the deep map itself: their largest stands over the value that was set, pixel 16 i."""
    decoder = DeepLabV3Plus((4, 6), (4, 16), 2)
    low, deep = -(-side // 4), -(-side // 16)
    decoder.features = lambda maps: (maps[-1], decoder.upsample(maps[-1], (low, low)))
    decoder.classifier = torch.nn.Identity()
    spot = torch.zeros(1, 1, deep, deep)
    spot[0, 0, 1, 2] = 1
    logits = decoder([torch.zeros(1, 4, low, low), spot], (side, side)).logits_BKHW[0, 0]
    assert divmod(int(logits.argmax()), side) == (16, 32)


def test_aligned_corners_are_there_for_who_wants_the_published_networks():
    image = torch.randn(1, 3, 65, 65, generator=torch.Generator().manual_seed(0))
    register, corners = (
        build_segmenter("tiny", "deeplabv3plus", 3, upsampling=mode).eval() for mode in ("bilinear", "corners")
    )
    assert torch.equal(register(image), corners(image))  # 65 is 16 n + 1
    assert not torch.allclose(register(image[..., :60]), corners(image[..., :60]), atol=1e-3)


@pytest.mark.parametrize("decoder", [name for name in DECODERS if name != "dpt"])
def test_nearest_upsampling_throughout(decoder):
    """The mode changes no weight; logits of nearest upsampling are copies of those at stride 4."""
    smooth, nearest = (build_segmenter("tiny", decoder, 3, upsampling=mode).eval() for mode in ("bilinear", "nearest"))
    assert all(torch.equal(value, nearest.state_dict()[key]) for key, value in smooth.state_dict().items())
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    logits, coarse = nearest(image), nearest.decode(nearest.encode(image), (16, 16)).logits_BKHW
    assert not torch.allclose(logits, smooth(image), atol=1e-3)
    torch.testing.assert_close(logits, coarse.repeat_interleave(4, 2).repeat_interleave(4, 3))
    alone = build_decoder("tiny", decoder, 3, head_seed=0, upsampling="nearest").eval()
    torch.testing.assert_close(alone(nearest.encode(image), (64, 64)).logits_BKHW, logits)


@torch.no_grad()
def test_logits_are_the_classifiers_at_the_corners():
    decoder = DeepLabV3Plus((4, 8, 8, 6), (4, 8, 16, 16), 3).eval()
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, c, s, s, generator=generator) for c, s in ((4, 17), (8, 9), (8, 5), (6, 5))]
    out = decoder(maps, (65, 65))
    coarse = decoder.classifier(out.fused)
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        torch.testing.assert_close(out.logits_BKHW[:, :, *corner], coarse[:, :, *corner])

    # The same holds for the deep map beside the low-level one: the fusing convolutions see both corners on corners.
    low, deep = decoder.low(maps[0]), Upsample()(out.context, (17, 17))
    torch.testing.assert_close(deep[:, :, -1, -1], out.context[:, :, -1, -1])
    torch.testing.assert_close(decoder.fuse(torch.cat([low, deep], 1)), out.fused)


def test_the_context_module_stays_channels_last():
    context = DeepLabV3Plus((4, 6), (4, 16), 2).context.to(memory_format=torch.channels_last)
    seen = []
    context.project.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    context(torch.randn(2, 6, 5, 5).to(memory_format=torch.channels_last))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
