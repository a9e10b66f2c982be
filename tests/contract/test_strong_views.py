"""What every strong view in the registry keeps to. A new line in STRONG_VIEWS is tested here without a change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from steps import images_of
from torch import Tensor

from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.ops.draws import Draws
from semiseg_cli.core.settings import BadSetting, TrainConfig
from semiseg_cli.core.types import Clock
from semiseg_cli.core.views import STRONG_VIEWS, load_strong_view
from semiseg_cli.core.views.device import DeviceViews, ViewSettings

COUNT, SIDE = 16, 24


def strong(name: str, strength: float, seed: int = 0, rgb: Tensor | None = None) -> Tensor:
    draws = Draws(seed, 0, np.arange(COUNT), COUNT)
    settings = ViewSettings(load_strong_view(name, strength))
    views = DeviceViews(Clock(0, 1), draws, draws, torch.zeros(3), torch.ones(3), (SIDE, SIDE), settings)
    return views.strong(images_of(images() if rgb is None else rgb), "s1")


def images() -> Tensor:
    return torch.rand(COUNT, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", STRONG_VIEWS)
def test_a_view_is_an_image_that_its_draws_decide(name: str) -> None:
    found = strong(name, 1.0)
    assert found.shape == images().shape
    assert found.dtype == torch.float32
    assert found.min() >= -1e-6
    assert found.max() <= 1 + 1e-6
    assert torch.equal(found, strong(name, 1.0))
    changed = (found - images()).abs().flatten(1).amax(1) > 1e-3
    assert changed.float().mean() > 0.3
    assert not torch.equal(found, strong(name, 1.0, seed=1))


@pytest.mark.parametrize("name", STRONG_VIEWS)
def test_each_image_has_draws_of_its_own(name: str) -> None:
    """Sixteen copies of one image do not come out alike."""
    found = strong(name, 1.0, rgb=images()[:1].expand(COUNT, -1, -1, -1))
    assert len({tuple(view.flatten().tolist()) for view in found}) > COUNT // 3


def test_a_view_that_is_not_there_or_would_not_be_seen() -> None:
    with pytest.raises(UsageError, match="there is no strong view 'photometrik'") as caught:
        load_strong_view("photometrik", 1.0)
    assert "photometric" in caught.value.fix
    with pytest.raises(BadSetting, match=r"train\.strong_view = 'mine' .* train\.colour is 0"):
        TrainConfig(strong_view="mine", colour=0.0)
