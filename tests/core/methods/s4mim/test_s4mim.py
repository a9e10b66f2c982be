"""S4MIM derived once more from the paper's equations: literal heads, loops over pixels, one joint backward."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from cases import CLOCK, SIDE, SLOTS, Case, pseudo, supervised, unsupervised
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.methods.base import StepOutput
from semiseg_cli.core.methods.s4mim.method import S4MIM
from semiseg_cli.core.methods.s4mim.pixel_decoder import PixelDecoder
from semiseg_cli.core.training.optim import build_optimizer, set_learning_rates
from semiseg_cli.core.training.step import Builder, Train

CLASSES, PATCH, RATIO = 4, 6, 0.4
OFF = {"lambda_mp": 0.0, "lambda_mf": 0.0, "lambda_ms": 0.0}
PHASE_TWO = {"pixel", "aggregation", "semantic"}


@pytest.fixture
def case(train_module: Callable[..., Train], host_batch: Callable[..., dict[str, Tensor]]) -> Callable[..., Case]:
    def make(**settings: object) -> Case:
        host = {key: value for key, value in host_batch(3, count=3).items() if not key.startswith("partner")}
        return Case(train_module("s4mim", **({"tau": 0.32, "backward": "joint"} | settings)), host)

    return make


def losses(c: Case) -> StepOutput:
    """All passes of a step; the gradients of all losses are left in the parameters."""
    whole = StepOutput({})
    for out in c.train.method.step(c.batch, c.train.views(CLOCK, SLOTS, len(SLOTS), c.batch)):
        torch.stack(list(out.losses.values())).sum().backward()
        whole = whole.plus(out)
    return whole


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def small(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest pixels with corners on corners, one by one."""
    out = torch.zeros(len(x), *size, dtype=x.dtype)
    for i in range(size[0]):
        for j in range(size[1]):
            out[:, i, j] = x[:, round(i * (SIDE - 1) / (size[0] - 1)), round(j * (SIDE - 1) / (size[1] - 1))]
    return out


def reconstruction(pid: PixelDecoder, fea: Tensor, group: Tensor, basic: bool) -> Tensor:
    """Equations 6 and 7 as printed, or basic MIM with all the heads."""
    group, r = small(group, (fea.shape[2], fea.shape[3])), torch.zeros(())
    for c in range(CLASSES):
        fea_c = fea if basic else fea * (group == c)[:, None]
        r = r + F.conv2d(fea_c, pid.heads.weight[3 * c : 3 * c + 3], padding=1)
    return F.interpolate(r, (SIDE, SIDE), mode="bilinear", align_corners=True)


def masked_mean(value: Tensor, valid: Tensor) -> Tensor:
    return (value * valid).sum() / valid.sum()


def reference(c: Case, net: nn.Module, pid: PixelDecoder, **settings: object) -> dict[str, Tensor]:
    """Equation 14 term by term."""
    maps = net.encode(torch.cat([c.x_l, c.x_w]))
    with torch.no_grad():
        weak = pseudo(copy.deepcopy(net).decode([m[3:] for m in maps], (SIDE, SIDE)).logits_BKHW, c.unlabeled.valid_BHW)
    drops = c.views.channels("fp", [m[3:] for m in maps])
    maps_fp = [m[3:] * d for m, d in zip(maps, drops, strict=True)]
    both = [torch.cat([m[:3], fp]) for m, fp in zip(maps, maps_fp, strict=True)]
    p_l, p_fp = net.decode(both, (SIDE, SIDE)).logits_BKHW.split(3)
    x_s, label_s, conf_s, valid_s = c.mixed("s1", weak)
    p_s = net(x_s)
    valid_w = c.unlabeled.valid_BHW

    mask = c.views.patches("mim", PATCH, RATIO)
    streams = [
        (c.x_l, p_l, p_l.argmax(1), c.labeled.valid_BHW, c.labeled.valid_BHW & (c.labeled.mask_BHW != 255)),
        (x_s, p_s, label_s, valid_s, valid_s),
        (c.x_w, p_fp, weak[0], valid_w, valid_w),
    ]
    if not settings.get("masked_statistics"):
        for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.momentum = 0.0
    maps = net.encode(torch.cat([x * ~mask[:, None] for x, *_ in streams]))
    maps = [torch.cat([m[:6], m[6:] * d]) for m, d in zip(maps, drops, strict=True)]
    with torch.no_grad():
        other = copy.deepcopy(pid)
        fea = other.features(maps_fp)
        x_fp = reconstruction(other, fea, weak[0], settings.get("mim") == "basic")
    if settings.get("fp_target") == "image":
        x_fp = c.x_w
    p_m, fea = net.decode(maps, (SIDE, SIDE)).logits_BKHW, pid.features(maps)
    r = reconstruction(pid, fea, torch.cat([s[2] for s in streams]), settings.get("mim") == "basic")

    mimpi = mimse = torch.zeros(())
    for i, (target, (_, p, _, valid, _)) in enumerate(zip((c.x_l, x_s, x_fp), streams, strict=True)):
        part = slice(3 * i, 3 * i + 3)
        mimpi = mimpi + masked_mean((r[part] - target).square().mean(1), valid)
        if settings.get("semantic") == "mse":
            error = (p_m[part].softmax(1) - p.detach().softmax(1)).square().mean(1)
        else:
            error = F.cross_entropy(p_m[part], p.argmax(1), reduction="none")
        mimse = mimse + masked_mean(error, valid)
    mimfea = aggregation(fea, mask, streams, settings)
    divisor = 1 + 2 * 0.5 + 3 / 3 + 3 * 0.05 + 3 * 0.1 / 3
    return {
        "labeled": supervised(c, p_l) / divisor,
        "strong": 0.5 * unsupervised(c, p_s, label_s, conf_s, valid_s) / divisor,
        "feature": 0.5 * unsupervised(c, p_fp, *weak) / divisor,
        "pixel": mimpi / 3 / divisor,
        "aggregation": 0.05 * mimfea / divisor,
        "semantic": 0.1 / 3 * mimse / divisor,
    }


def aggregation(fea: Tensor, mask: Tensor, streams: list[tuple[Tensor, ...]], settings: dict[str, object]) -> Tensor:
    """Equations 9 to 12, class by class and vector by vector, with the dictionary at its first update."""
    size = (fea.shape[2], fea.shape[3])
    hidden = small(mask, size)
    per_class = []
    for k in range(CLASSES):
        visible, anchors = [], []
        for i, (_, p, group, _, known) in enumerate(streams):
            conf = small(p.detach().softmax(1).amax(1), size)
            if settings.get("confidence") is False:
                conf = torch.ones_like(conf)
            where = small(known, size) & (small(group, size) == k)
            for b, y, x in torch.nonzero(where).tolist():
                z = fea[3 * i + b, :, y, x]
                if hidden[b, y, x]:
                    anchors.append((conf[b, y, x], z))
                elif i == 0:
                    visible.append((conf[b, y, x], z.detach()))
        if visible and anchors:
            v = sum(w * z for w, z in visible) / sum(w for w, _ in visible)
            v = v if settings.get("dictionary") is False else 0.01 * v  # 0.99 * 0 + 0.01 v
            total = sum(w for w, _ in anchors)
            per_class.append(sum(w * (1 - F.cosine_similarity(z, v, 0)) / 10 for w, z in anchors) / total)
    assert len(per_class) >= 2
    return sum(per_class) / len(per_class)


@pytest.mark.parametrize(
    "settings",
    [{}, {"backward": "phased"}, {"mim": "basic", "fp_target": "image"}, {"dictionary": False, "confidence": False},
     {"semantic": "mse", "masked_statistics": True}],
    ids=["paper", "phased", "basic", "batch prototypes", "mse and statistics"],
)  # fmt: skip
def test_the_step(case: Callable[..., Case], settings: dict[str, object]) -> None:
    c = case(**settings)
    net, pid = c.net, copy.deepcopy(c.train.method.pid)
    out, expected = losses(c), reference(c, net, pid, **settings)
    assert out.losses.keys() == expected.keys()
    assert 0.05 < out.stats["kept"].item() < 0.95
    for name, value in expected.items():
        assert out.losses[name].item() == pytest.approx(value.item(), rel=1e-4), name
        assert value.item() > 0, name
    torch.stack(list(expected.values())).sum().backward()
    for mine, theirs in ((c.train.method.net, net), (c.train.method.pid, pid)):
        want = gradients(theirs)
        scale = max(g.abs().max().item() for g in want.values())
        got = gradients(mine)
        assert got.keys() == want.keys()
        for name, gradient in want.items():
            assert torch.allclose(got[name], gradient, rtol=1e-3, atol=2e-5 * scale), name
        for (name, a), (_, b) in zip(mine.named_buffers(), theirs.named_buffers(), strict=True):
            if not name.endswith("num_batches_tracked"):
                assert torch.allclose(a, b, rtol=1e-4, atol=1e-6), name


def test_phases_give_the_gradients_of_one_backward_pass(case: Callable[..., Case]) -> None:
    """In float64, with everything that phase I tells phase II."""
    found = []
    for backward in ("joint", "phased"):
        c = case(backward=backward, semantic="mse")
        c.train.double()
        for images in (c.batch.labeled, c.batch.unlabeled):
            object.__setattr__(images, "rgb01_B3HW", images.rgb01_B3HW.double())
        found.append((losses(c), gradients(c.train.method)))
    (joint, one), (phased, two) = found
    assert {k: v.item() for k, v in joint.losses.items()} == {k: v.item() for k, v in phased.losses.items()}
    assert one.keys() == two.keys()
    for name, gradient in one.items():
        assert torch.allclose(gradient, two[name], rtol=1e-9, atol=1e-12), name


def test_the_weights_add_up() -> None:
    assert S4MIM.Settings().divisor == pytest.approx(3.25)
    assert S4MIM.Settings(lambda_mp=0.0).divisor == pytest.approx(2.25)
    assert S4MIM.Settings(**OFF).divisor == pytest.approx(2)
    assert S4MIM.Settings(lambda_u=0.0, **OFF).divisor == pytest.approx(1)


@pytest.mark.parametrize("term", sorted(PHASE_TWO))
def test_each_term_alone_reaches_the_encoder_and_its_decoder(case: Callable[..., Case], term: str) -> None:
    c = case()
    method = c.train.method
    (out,) = method.step(c.batch, c.views)
    first = next(m for m in method.net.encoder.modules() if isinstance(m, nn.Conv2d)).weight
    parts = [first, method.net.decoder.classifier.weight, method.pid.heads.weight, *method.pid.body.parameters()]
    found = torch.autograd.grad(out.losses[term], parts, allow_unused=True)
    reached = [gradient is not None and bool(gradient.any()) for gradient in found[:4]]
    assert reached == {
        "pixel": [True, False, True, True],
        "aggregation": [True, False, False, True],
        "semantic": [True, True, False, False],
    }[term]


@pytest.mark.parametrize("off", sorted(OFF))
def test_a_term_that_is_off_is_gone(case: Callable[..., Case], off: str) -> None:
    names = dict(zip(sorted(OFF), ("aggregation", "pixel", "semantic"), strict=True))
    for backward in ("joint", "phased"):
        c = case(backward=backward, **{off: 0.0})
        assert losses(c).losses.keys() == {"labeled", "strong", "feature"} | PHASE_TWO - {names[off]}


def test_without_masks_it_is_its_baseline(case: Callable[..., Case]) -> None:
    """Table IV, first row: no pixel decoder, one pass."""
    c = case(backward="phased", **OFF)
    seen = list[Tensor]()
    c.train.method.net.encoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    assert losses(c).losses.keys() == {"labeled", "strong", "feature"}
    assert [len(x) for x in seen] == [6, 3]
    assert c.train.method.pid is None
    assert len(c.train.method.groups()) == 2


def test_the_three_streams_are_masked_alike_by_exactly_the_asked_number_of_patches(case: Callable[..., Case]) -> None:
    c = case(patch=4, ratio=0.3)
    seen = list[Tensor]()
    c.train.method.net.encoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    out = losses(c)
    image, mask, r = (
        torch.cat([out.pictures[f"{stream}/{name}"] for stream in ("labeled", "strong", "feature")])
        for name in ("image", "mask", "reconstruction")
    )
    assert len(seen) == 3
    assert torch.equal(seen[2], image * ~mask[:, None])
    assert torch.equal(mask[:3], mask[3:6])
    assert torch.equal(mask[:3], mask[6:])
    assert not torch.equal(mask[0], mask[1])
    assert mask[:, ::4, ::4].sum((1, 2)).tolist() == [round(0.3 * 81)] * 9  # 9 x 9 patches, the last of a row cut
    assert torch.equal(image[:3], c.x_l)
    assert torch.equal(image[6:], c.x_w)
    assert r.shape == image.shape
    assert not any(picture.requires_grad for picture in out.pictures.values())


def test_the_dictionary_is_a_moving_average_of_what_was_seen(case: Callable[..., Case]) -> None:
    c = case(alpha=0.9)
    method, label = c.train.method, c.labeled.mask_BHW
    losses(c)
    first = method.prototypes_KD.clone()
    assert first.any()
    losses(c)  # weights have not moved: the same means again, but for the classes the same prediction has
    seen = first.any(1)
    assert torch.allclose(method.prototypes_KD[seen], 1.9 * first[seen], rtol=1e-4)
    label[:] = 255  # nothing is known of the labeled images: no vector may enter
    before = method.prototypes_KD.clone()
    losses(c)
    assert torch.equal(method.prototypes_KD, before)
    assert not method.prototypes_KD.requires_grad


def test_ignore_everywhere_and_padding_everywhere_are_no_harm(case: Callable[..., Case]) -> None:
    c = case()
    c.labeled.mask_BHW[:] = 255
    out = losses(c)
    assert all(value.isfinite() for value in (*out.losses.values(), *out.stats.values()))
    assert out.losses["labeled"].item() == 0
    assert out.losses["aggregation"].item() == 0  # no prototype was ever made
    c = case()
    c.labeled.valid_BHW[:] = c.unlabeled.valid_BHW[:] = False
    out = losses(c)
    assert [out.losses[name].item() for name in sorted(PHASE_TWO)] == [0, 0, 0]
    assert all(g.isfinite().all() for g in gradients(c.train.method).values())


def test_the_pixel_decoder_learns_at_a_constant_rate(case: Callable[..., Case], configured: Callable) -> None:
    changes = {"train.head_lr_multiplier": 10.0, "train.lr": 0.01, "train.steps": 100}
    train, method = configured("s4mim", changes).config.train, case().train.method
    optimizer = build_optimizer(method.groups(), train)
    set_learning_rates(optimizer, 99, train)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    late = 0.01**0.9
    parts = ((method.pid, 0.1), (method.net.decoder, 0.1 * late), (method.net.encoder, 0.01 * late))
    for module, expected in parts:
        assert [rates[id(p)] for p in module.parameters()] == pytest.approx([expected] * len([*module.parameters()]))


def test_the_pixel_decoder_is_saved_for_resuming_and_not_deployed(case: Callable[..., Case]) -> None:
    c = case()
    assert any(key.startswith("method.pid.heads") for key in c.train.state_dict())
    assert "method.prototypes_KD" in c.train.state_dict()
    assert not any("pid" in key or "heads" in key for key in c.train.method.deployed().state_dict())


def test_heads_have_the_papers_size_and_weights_of_their_own() -> None:
    spec = {"backbone": "resnet50", "decoder": "deeplabv3plus", "output_stride": 16}
    pid = PixelDecoder(Builder(spec, 21).decoder(), 21, seed=0)
    assert pid.heads.weight.numel() == 145_152
    heads = pid.heads.weight.unflatten(0, (21, 3)).flatten(1)
    assert len(heads.detach()[:, 0].unique()) == 21
    assert heads.abs().max().item() == pytest.approx((9 * 256) ** -0.5, rel=1e-3)
    again = PixelDecoder(Builder(spec, 21).decoder(), 21, seed=0)
    other = PixelDecoder(Builder(spec, 21).decoder(), 21, seed=1)
    assert torch.equal(again.heads.weight, pid.heads.weight)
    assert not torch.equal(other.heads.weight, pid.heads.weight)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("patch", 0), ("ratio", 0.0), ("ratio", 1.0), ("ratio", 1.2), ("lambda_mp", -1.0), ("temperature", 0.0)],
)
def test_settings_out_of_range(setting: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"method\.{setting}\b"):
        S4MIM.Settings(**{setting: value})


def test_a_crop_that_is_smaller_than_a_patch(configured: Callable) -> None:
    with pytest.raises(UsageError, match=r"method\.patch = 40 .* train\.crop = 33"):
        configured("s4mim", {"method.patch": 40})


@pytest.mark.parametrize(("ratio", "patch"), [(0.001, 4), (0.9999, 4), (0.4, 33)])
def test_a_mask_of_nothing_or_of_everything(configured: Callable, ratio: float, patch: int) -> None:
    with pytest.raises(UsageError, match=r"method\.ratio = .* some of a crop's \d+ patches are masked"):
        configured("s4mim", {"method.ratio": ratio, "method.patch": patch})


def test_more_classes_than_heads_can_be_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semiseg_cli.core.methods.s4mim.pixel_decoder.LARGEST_HEADS", 1)
    spec = {"backbone": "tiny", "decoder": "deeplabv3plus", "output_stride": 16}
    with pytest.raises(UsageError, match=r"500 classes need 2 MB") as error:
        PixelDecoder(Builder(spec, 500).decoder(), 500, seed=0)
    assert error.value.code == 2
