"""The views that methods are given: keyed, per image, normalised, and the same under autocast."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from steps import images_of, views_of
from torch import Tensor

from semiseg_cli.core.types import Images
from semiseg_cli.core.views.device import DeviceViews

SIDE = 17
MEAN, STD = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.25])


def views(*slots: int, step: int = 0) -> DeviceViews:
    return views_of(slots, (SIDE, SIDE), step=step, mean=MEAN, std=STD)


def images(count: int) -> Images:
    rgb = torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return images_of(rgb)


def raw(view: Tensor) -> Tensor:
    return view * STD[:, None, None] + MEAN[:, None, None]


def test_the_weak_view_is_the_crop_normalised() -> None:
    weak = views(0, 1).weak(images(2))
    for channel in range(3):
        expected = (images(2).rgb01_B3HW[:, channel] - MEAN[channel]) / STD[channel]
        assert torch.allclose(weak[:, channel], expected)
    assert torch.equal(views(0, 1).normalise(images(2).rgb01_B3HW), weak)


def test_one_key_is_one_draw() -> None:
    first, again, other = (views(0, 1, 2, 3) for _ in range(3))
    x = images(4)
    assert torch.equal(first.strong(x, "s1"), again.strong(x, "s1"))
    assert not torch.equal(first.strong(x, "s1"), other.strong(x, "s2"))
    assert not torch.equal(first.strong(x, "s1"), views(0, 1, 2, 3, step=1).strong(x, "s1"))
    assert torch.equal(first.cutmix(x, "s1").mask_BHW, again.cutmix(x, "s1").mask_BHW)
    assert not torch.equal(first.cutmix(x, "s1").mask_BHW, first.cutmix(x, "s2").mask_BHW)


def test_neighbours_do_not_matter() -> None:
    whole, x = views(0, 1, 2, 3), images(4)
    for slot in range(4):
        alone = images_of(x.rgb01_B3HW[slot : slot + 1])
        assert torch.allclose(whole.strong(x, "s1")[slot], views(slot).strong(alone, "s1")[0], atol=1e-5)
        mask = views(slot).cutmix(alone, "s1", partner=alone).mask_BHW
        assert torch.equal(whole.cutmix(x, "s1").mask_BHW[slot], mask[0])
        features = [torch.zeros(4, 8, 2, 2)]
        one = [torch.zeros(1, 8, 2, 2)]
        assert torch.equal(whole.channels("fp", features)[0][slot], views(slot).channels("fp", one)[0][0])


def test_strong_views_stay_colours() -> None:
    strong = raw(views(*range(16)).strong(images(16), "s1"))
    assert strong.min() > -1e-5
    assert strong.max() < 1 + 1e-5
    assert not torch.allclose(strong, images(16).rgb01_B3HW, atol=0.05)


def test_geometry_is_untouched() -> None:
    """The strong view of an image stays its own mirror image if the image is."""
    rgb = images(8).rgb01_B3HW
    rgb = (rgb + rgb.flip(3)) / 2
    strong = views(*range(8)).strong(images_of(rgb), "s1")
    assert torch.allclose(strong, strong.flip(3), atol=1e-4)


def test_autocast_does_not_coarsen_the_views() -> None:
    x, plain = images(4), views(0, 1, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(plain.strong(x, "s1"), views(0, 1, 2, 3).strong(x, "s1"))
        inside = views(0, 1, 2, 3).strong(x, "s1")
    assert inside.dtype == torch.float32
    assert torch.equal(inside, plain.strong(x, "s1"))


def test_partners_are_neighbours() -> None:
    mix = views(4, 5, 6, 7).cutmix(images(4), "s1")
    assert mix.permutation_B is not None
    assert mix.permutation_B.tolist() == views(4, 5, 6, 7).neighbours().tolist() == [1, 0, 3, 2]
    assert views(4, 5).cutmix(images(2), "s1", partner=images(2)).permutation_B is None


def test_a_paper_brings_a_view_of_its_own() -> None:
    class Darker:
        draws = 2

        def tables(self, u: np.ndarray) -> dict[str, np.ndarray]:
            return {"factor": 0.5 * u[:, 1]}

        def apply(self, rgb01_B3HW: Tensor, tables: Mapping[str, Tensor]) -> Tensor:
            return rgb01_B3HW * tables["factor"][:, None, None, None]

    x = images(2)
    found = raw(views(0, 1).strong(x, "mine", Darker()))
    factor = views(0, 1).table("strong/mine", 2, lambda u: 0.5 * u[:, 1])
    assert torch.allclose(found, x.rgb01_B3HW * factor[:, None, None, None], atol=1e-6)
    assert factor[0] != factor[1]


def test_half_of_the_channels_are_dropped() -> None:
    maps = [torch.zeros(32, 64, 3, 3), torch.zeros(32, 128, 2, 2)]
    factors = views(*range(32)).channels("fp", maps)
    for features, factor in zip(maps, factors, strict=True):
        assert factor.shape == (*features.shape[:2], 1, 1)
        assert sorted(factor.unique().tolist()) == [0.0, 2.0]
        assert abs((factor == 0).float().mean() - 0.5) < 0.04
    assert not torch.equal(factors[0].squeeze(), factors[1].squeeze()[:, :64])  # drawn freshly for every map
    (quarter,) = views(*range(32)).channels("fp", maps[:1], rate=0.25)
    assert torch.allclose(quarter.unique(), torch.tensor([0.0, 4 / 3]))
    assert abs((quarter == 0).float().mean() - 0.25) < 0.04


def test_boxes_are_empty_for_half_of_the_images() -> None:
    boxes = views(*range(400)).cutmix(images(400), "s1").mask_BHW
    assert boxes.shape == (400, SIDE, SIDE)
    assert abs(boxes.flatten(1).any(1).float().mean() - 0.5) < 0.1


def test_numbers_of_a_papers_own_follow_the_slot() -> None:
    both, second = views(0, 1).uniform("lambda", 3), views(1).uniform("lambda", 3)
    assert both.shape == (2, 3)
    assert torch.equal(both[1:], second)
    assert not torch.equal(both, views(0, 1).uniform("other", 3))
    assert ((both >= 0) & (both < 1)).all()


def test_without_colour_the_strong_view_is_the_weak_one() -> None:
    plain = views_of([0, 1], (SIDE, SIDE), strength=0.0, mean=MEAN, std=STD)
    assert torch.equal(plain.strong(images(2), "s1"), plain.weak(images(2)))
    assert not torch.equal(views(0, 1).strong(images(2), "s1"), plain.weak(images(2)))
