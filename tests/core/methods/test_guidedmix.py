"""GuidedMix-Net's step against its equations, written out for a network that looks at single pixels, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from steps import fed, images_of, views_of, whole_step
from torch import Tensor, nn

from semiseg_cli.core.config.layers import resolve
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.methods.guidedmix import GuidedMix, GuidedMixSettings, presence_loss, square_error
from semiseg_cli.core.networks import Net, Out
from semiseg_cli.core.ops.losses import cross_entropy
from semiseg_cli.core.settings import BadSetting
from semiseg_cli.core.training.step import Train
from semiseg_cli.core.types import Clock, Labeled, SemiBatch
from semiseg_cli.core.views.device import DeviceViews

CLASSES, SIDE, COUNT = 3, 6, 4
ALL = [
    {"pairing": pairing, "decoupling": decoupling, "space": space}
    for pairing, decoupling, space in product(("batch", "precomputed", "random"), ("soft", "hard"), ("prob", "logit"))
] + [{"pairing": "batch", "rescale": True, "lambda_dec": 0.3}]


class PixelNet(Net):
    """Logits of a pixel from its three channels; encoder and context are the image, whose mean is the mean colour."""

    widths = {"context": 3, "fused": 3}  # noqa: RUF012  (an abstract property of Net)

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Identity(), nn.Conv2d(3, CLASSES, 1)
        self.encoder.channels = (3,)
        with torch.no_grad():
            self.decoder.weight.copy_(torch.tensor([[2, -1, 0.5], [-1, 1, 0], [0, 0.5, -2]])[:, :, None, None])
            self.decoder.bias.copy_(torch.tensor([0.1, 0.0, -0.2]))

    def encode(self, image_B3HW: Tensor) -> list[Tensor]:
        return [image_B3HW]

    def decode(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Out:
        return Out(self.decoder(maps[0]), maps[0], maps[0], tuple(maps))

    def forward(self, image_B3HW: Tensor) -> Tensor:
        return self.decode([image_B3HW], (SIDE, SIDE)).logits_BKHW


class PixelBuild:
    classes, seed = CLASSES, 0

    def segmenter(self, head_seed: int = 0) -> Net:
        return PixelNet()

    def labeled_loss(self, logits: Tensor, labeled: Labeled) -> Tensor:
        return cross_entropy(logits, labeled.mask_BHW)


def views(count: int = COUNT, step: int = 7) -> DeviceViews:
    zero, one = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    return views_of(np.arange(count), (SIDE, SIDE), step=step, batch=count, mean=zero, std=one)


def labeled(seed: int, count: int = COUNT) -> Labeled:
    rng = torch.Generator().manual_seed(seed)
    rgb = torch.rand(count, 3, SIDE, SIDE, dtype=torch.float64, generator=rng)
    valid = torch.rand(count, SIDE, SIDE, generator=rng) < 0.8
    mask = torch.randint(0, CLASSES, (count, SIDE, SIDE), generator=rng).where(valid, 255)
    return Labeled(rgb, valid, torch.arange(count), valid, mask, mask)


def batch(step: int = 60, steps: int = 100, count: int = COUNT) -> SemiBatch:
    """With the clock of a step after a warm-up of five per cent."""
    unlabeled = labeled(2, count)
    unlabeled = images_of(unlabeled.rgb01_B3HW, unlabeled.valid_BHW)
    clock = Clock(step, steps, stage_began=0.05)
    return SemiBatch(labeled=labeled(1, count), clock=clock, unlabeled=unlabeled, paired=labeled(3, count))


def step(settings: dict[str, Any], at: SemiBatch) -> tuple[GuidedMix, Any]:
    method = GuidedMix(GuidedMixSettings(**settings), PixelBuild()).double()
    fed = at if method.settings.pairing == "precomputed" else replace(at, paired=None)
    return method, method.step(fed, views(len(at.labeled.rgb01_B3HW)))


def expected(method: GuidedMix, at: SemiBatch) -> dict[str, Tensor]:
    """The losses image by image and pixel by pixel."""
    s, draws = method.settings, views(len(at.labeled.rgb01_B3HW))
    weight, bias = (p.clone() for p in (method.net.decoder.weight[:, :, 0, 0], method.net.decoder.bias))

    def mask_of(colour: Tensor) -> Tensor:
        logits = weight @ colour + bias
        return logits if s.space == "logit" else logits.exp() / logits.exp().sum()

    x_l, x_u, y_l = at.labeled.rgb01_B3HW, at.unlabeled.rgb01_B3HW, at.labeled.mask_BHW
    means_l, means_u = (x.flatten(2).mean(2) for x in (x_l, x_u))
    shares = {key: s.cap * draws.uniform(key, 1)[:, 0] for key in ("guidedmix", "guidedmix/labeled")}
    order_u, order_l = list(range(len(x_l))), [i ^ 1 for i in range(len(x_l))]
    decs, usups = [], []
    for i in range(len(x_l)):
        if s.pairing != "random":
            order_u[i] = min(range(len(x_l)), key=lambda j: float((means_u[i] - means_l[j]).square().sum()))
            others = [j for j in range(len(x_l)) if j != i]
            order_l[i] = min(others, key=lambda j: float((means_l[i] - means_l[j]).square().sum()))
        j = order_l[i]
        x_p, y_p = (x_l[order_u[i]], y_l[order_u[i]])
        if s.pairing == "precomputed":
            x_p, y_p = at.paired.rgb01_B3HW[i], at.paired.mask_BHW[i]
        for y, x in product(range(SIDE), range(SIDE)):
            share = shares["guidedmix/labeled"][i]
            if y_l[i, y, x] != 255 and y_l[j, y, x] != 255:
                mixed = mask_of(share * x_l[i, :, y, x] + (1 - share) * x_l[j, :, y, x])
                taken = share if s.decoupling == "soft" else 1.0
                left = mixed - taken * mask_of(x_l[i, :, y, x]).detach()
                left = left / (1 - share) if s.rescale else left
                decs.append((left - mask_of(x_l[j, :, y, x]).detach()).square().sum())
            share = shares["guidedmix"][i]
            if at.unlabeled.valid_BHW[i, y, x] and y_p[y, x] != 255:
                mixed = mask_of(share * x_p[:, y, x] + (1 - share) * x_u[i, :, y, x])
                taken = share if s.decoupling == "soft" else 1.0
                left = (mixed - taken * mask_of(x_p[:, y, x])).detach()
                left = left / (1 - share) if s.rescale else left
                usups.append((left - mask_of(x_u[i, :, y, x])).square().sum())
    begun = (at.clock.step / at.clock.steps - s.warmup) / s.ramp
    omega = s.omega * math.exp(-5 * (1 - min(begun, 1.0)) ** 2)
    dec, usup = s.lambda_dec * torch.stack(decs).mean(), omega / CLASSES * torch.stack(usups).mean()
    found = {"dec": dec, "unlabeled": usup}
    if s.pairing != "random":  # the classifier says 1/2 to everything at first
        found["classifier"] = torch.tensor(math.log(2), dtype=torch.float64)
    return found


@pytest.mark.parametrize("settings", ALL, ids=lambda s: "-".join(map(str, s.values())))
def test_losses_and_gradients_are_those_of_the_equations(settings: dict[str, Any]) -> None:
    at = batch(step=12, steps=100)  # on the ramp
    method, out = step(settings | {"cap": 0.4}, at)
    want = expected(method, at)
    assert set(out.losses) == {"labeled", *want}
    parameters = list(method.net.parameters())
    for name, value in want.items():
        torch.testing.assert_close(out.losses[name], value, rtol=1e-10, atol=1e-12)
        if name != "classifier":
            ours = torch.autograd.grad(out.losses[name], parameters, retain_graph=True)
            theirs = torch.autograd.grad(value, parameters, retain_graph=True)
            for a, b in zip(ours, theirs, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_rescaled_a_mixture_of_the_masks_gives_the_other_mask() -> None:
    method, _ = step({"rescale": True}, batch())
    rng = torch.Generator().manual_seed(0)
    m_l, m_u = (torch.rand(2, CLASSES, 3, 3, generator=rng).softmax(1) for _ in range(2))
    share = torch.tensor([0.1, 0.45])[:, None, None, None]
    torch.testing.assert_close(method._decoupled(share * m_l + (1 - share) * m_u, m_l, share), m_u)


def test_the_other_labeled_image_is_no_second_crop_of_the_same_and_none_without_a_known_pixel() -> None:
    method, _ = step({}, batch())
    pooled, crops = torch.tensor([[0.0], [0.1], [5.0], [5.2]]), labeled(1)
    index = torch.tensor([3, 3, 4, 4])
    assert method._others(pooled, replace(crops, index_B=index), views()).tolist() == [2, 2, 1, 1]
    crops.mask_BHW[2] = 255
    assert method._others(pooled, replace(crops, index_B=index), views()).tolist() == [3, 3, 1, 1]
    assert method._others(pooled, crops, views()).tolist() == [1, 0, 3, 1]


@pytest.mark.parametrize("pairing", ["batch", "precomputed"])
def test_crops_of_one_image_alone_have_no_other(pairing: str) -> None:
    at = batch()
    crops = replace(at.labeled, index_B=torch.zeros(COUNT, dtype=torch.long))
    _, out = step({"pairing": pairing}, replace(at, labeled=crops))
    assert out.losses["dec"].item() == 0
    assert out.losses["unlabeled"].item() > 0


def test_a_labeled_image_without_a_known_pixel_is_mixed_with_nobody() -> None:
    at = batch()
    at.labeled.mask_BHW[1:] = 255
    _, out = step({}, at)
    assert torch.equal(out.pictures["labeled"], at.labeled.rgb01_B3HW[:1].expand(COUNT, -1, -1, -1))


@pytest.mark.parametrize("cap", [0.5, 0.3, 0.1])
def test_the_share_is_uniform_below_its_cap(cap: float) -> None:
    method = GuidedMix(GuidedMixSettings(cap=cap), PixelBuild()).double()
    at = batch(count=64)
    at = replace(at, paired=None)
    shares = [method.step(at, views(64, step=step)).pictures["share"] for step in range(12)]
    sorted_shares = torch.cat(shares).sort().values / cap
    assert sorted_shares.min() >= 0
    assert sorted_shares.max() < 1
    grid = torch.arange(1, 769) / 768
    assert (sorted_shares - grid).abs().max() < 1.63 / 768**0.5  # Kolmogorov and Smirnov at 1 %


def test_the_pictures_are_the_mixture_and_its_parts() -> None:
    _, out = step({}, batch())
    shown = out.pictures
    share = shown["share"][:, None, None, None]
    torch.testing.assert_close(shown["mixed"], share * shown["labeled"] + (1 - share) * shown["unlabeled"])
    assert not any(value.requires_grad for value in shown.values())
    assert torch.equal(shown["decoupled"], out.weak.pseudo.label_BHW)


@pytest.mark.parametrize(("step_", "share"), [(5, math.exp(-5)), (10, math.exp(-5 * 0.25)), (15, 1.0), (99, 1.0)])
def test_omega_rises_after_the_warm_up(step_: int, share: float) -> None:
    _, full = step({"ramp": 0.0}, batch(99))
    _, out = step({}, batch(step_))
    assert (out.losses["unlabeled"] / full.losses["unlabeled"]).item() == pytest.approx(share)


def test_alone_in_its_batch_a_labeled_image_has_no_other() -> None:
    _, out = step({}, batch(count=1))
    assert out.losses["dec"].item() == 0
    assert out.losses["dec"].requires_grad


def test_where_nothing_is_known_nothing_is_learned() -> None:
    at = batch()
    nothing = torch.full_like(at.labeled.mask_BHW, 255)
    dark = replace(at.labeled, mask_BHW=nothing, step_mask_MHW=nothing)
    _, out = step({}, replace(at, labeled=dark))
    assert [value.item() for value in out.losses.values()] == [0, 0, 0, 0]
    a = torch.randn(2, 3, 4, 4, requires_grad=True)
    none = torch.zeros(2, 4, 4, dtype=torch.bool)
    square_error(a, torch.zeros_like(a), none, none).backward()
    assert not a.grad.any()


def test_presence_of_classes() -> None:
    """The first image shows classes 0 and 2, of the second nothing is known."""
    logits = torch.tensor([[0.3, -1.0, 2.0], [5.0, 5.0, 5.0]], dtype=torch.float64)
    mask = torch.tensor([[[0, 2], [255, 2]], [[255, 255], [255, 255]]])
    sigmoid = 1 / (1 + (-logits[0]).exp())
    expected_loss = -(sigmoid[0].log() + (1 - sigmoid[1]).log() + sigmoid[2].log()) / 3
    torch.testing.assert_close(presence_loss(logits, mask, mask), expected_loss)


def test_running_statistics_are_those_of_whole_images(
    train_module: Callable[..., Train], host_batch: Callable[..., dict[str, Tensor]]
) -> None:
    """The same after a step with the mixtures as after the one pass over labeled and unlabeled images."""
    train, alone = train_module("guidedmix"), train_module("guidedmix")
    host = host_batch()
    whole_step(train, fed(train, host), Clock(9, 10))
    rgb = torch.cat([host["labeled_image"], host["unlabeled_image"]]).permute(0, 3, 1, 2).float() / 255
    alone.method.net((rgb - alone.mean[:, None, None]) / alone.std[:, None, None])
    found, want = train.method.net.state_dict(), alone.method.net.state_dict()
    names = [name for name in want if "running" in name]
    assert names
    for name in names:
        torch.testing.assert_close(found[name], want[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("setting", "value"), [("cap", 0.0), ("cap", 0.6), ("omega", -1.0), ("ramp", 1.5), ("warmup", 1.0)]
)
def test_settings_that_cannot_be(setting: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"method\.{setting}\b"):
        GuidedMixSettings(**{setting: value})


def test_what_the_loader_brings() -> None:
    assert GuidedMix.inputs(GuidedMixSettings()) == {"unlabeled"}
    assert GuidedMix.inputs(GuidedMixSettings(pairing="precomputed")) == {"unlabeled", "paired"}


def test_what_is_left_of_a_hard_decoupling_is_not_rescaled() -> None:
    with pytest.raises(UsageError, match=r"method\.rescale"):
        GuidedMixSettings(decoupling="hard", rescale=True)


@pytest.mark.parametrize(
    ("batch", "micro", "good"),
    [(4, 0, True), (4, 2, True), (3, 3, True), (1, 1, True), (2, 1, False), (6, 3, False)],
)
def test_random_pairs_stay_in_one_micro_batch(batch: int, micro: int, good: bool) -> None:
    layer = {"method.name": "guidedmix", "method.pairing": "random", "train.batch": batch, "train.micro_batch": micro}
    if good:
        resolve([("test", layer)])
    else:
        with pytest.raises(BadSetting, match=r"train\.micro_batch"):
            resolve([("test", layer)])
    resolve([("test", layer | {"method.pairing": "batch"})])
