"""The `Views` that methods are given: random views of the images of one micro-batch, by key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semiseg_cli.core.ops.draws import Draws, Floats
from semiseg_cli.core.types import CutMix, Images, Moment, StrongView
from semiseg_cli.core.views import cutmix
from semiseg_cli.core.views import patches as patching

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ViewSettings:
    """What a run says of its views. strong: None for no strong view. cutmix: probability of a box, or of rectangles.

    mixing: False where nothing is to be pasted, for pictures.
    """

    strong: StrongView | None = None
    cutmix: float = 0.5
    mixing: bool = True


class DeviceViews:
    """Views of the images in `draws.slots`. Two calls with one key give the same draw, whoever calls.

    moment: makes the tables, from the draws at its step. step_draws: of all this process's images of the step. mean,
    std: of the encoder's training images, per channel, in [0, 1]; tables have their dtype. size: height and width of
    the crops.
    """

    def __init__(
        self,
        moment: Moment,
        draws: Draws,
        step_draws: Draws,
        mean: Tensor,
        std: Tensor,
        size: tuple[int, int],
        settings: ViewSettings,
        partner: DeviceViews | None = None,
    ) -> None:
        self.draws, self.step_draws, self.mean, self.std, self.size = draws, step_draws, mean, std, size
        self.moment, self.settings = moment, settings
        self.device = mean.device
        self._partner = partner

    @property
    def partner(self) -> DeviceViews:
        """The views of the images that are pasted, where they are not the micro-batch's own."""
        assert self._partner is not None, "no partners were loaded"
        return self._partner

    def normalise(self, rgb01_B3HW: Tensor) -> Tensor:
        """Images in [0, 1] as networks take them."""
        out = (rgb01_B3HW - self.mean[:, None, None]) / self.std[:, None, None]
        return out.contiguous(memory_format=torch.channels_last)

    def weak(self, images: Images) -> Tensor:
        """The crop as it came from the host, normalised: float32 (B, 3, H, W)."""
        return self.normalise(images.rgb01_B3HW)

    def strong(self, images: Images, key: str, view: StrongView | None = None) -> Tensor:
        """The run's strong view of the weak crop, or `view`, normalised. Geometry is untouched."""
        view = view or self.settings.strong
        if view is None:
            return self.weak(images)
        strong, count = view, view.draws
        tables = self._tables(self.draws, lambda draws: strong.tables(draws.uniform(f"strong/{key}", count)))
        with torch.autocast(self.device.type, enabled=False):
            return self.normalise(view.apply(images.rgb01_B3HW, tables))

    def cutmix(self, images: Images, key: str, partner: Images | None = None, rectangles: int = 1) -> CutMix:
        """Where partners are pasted into the images: UniMatch's box, or nowhere, as the run's `cutmix` says.

        More rectangles: see `draw_rectangles`; where two of them overlap, the image comes back. An image's partner is
        its neighbour in the global batch, or `partner`, where that is given.
        """
        undivided = len(images.step_valid_MHW) == len(images.valid_BHW)
        mask = self._boxes(self.draws, key, rectangles)
        permutation = None if partner else self.neighbours()
        if undivided:
            return CutMix(mask, permutation, mask, permutation)
        step_permutation = None if partner else self.step_neighbours()
        return CutMix(mask, permutation, self._boxes(self.step_draws, key, rectangles), step_permutation)

    def neighbours(self) -> Tensor:
        """For every image the place in the micro-batch of its neighbour in the global batch, int64 (B,)."""
        return self._table(self.draws, Draws.neighbours)

    def step_neighbours(self) -> Tensor:
        """The same of all this process's images of the step, int64 (M,)."""
        return self._table(self.step_draws, Draws.neighbours)

    def patches(
        self, key: str, patch: int, ratio: float, kind: patching.Kind = "random", exact: bool = True
    ) -> Tensor:
        """Patch masks: bool (B, H, W), True where a square of `patch` pixels is hidden; see `draw_patches`."""
        rows, cols = patching.grid_size(*self.size, patch)

        def recipe(u: Floats) -> Array:
            return patching.draw_patches(u, rows, cols, ratio, kind, exact)

        grid = self.table(f"patches/{key}", patching.draws(kind, rows, cols), recipe)
        return patching.patch_mask(grid, patch, *self.size)

    def table(self, key: str, count: int, recipe: Callable[[Floats], Array]) -> Tensor:
        """Parameters of a paper's own: what `recipe` makes, on the host, of uniform numbers (B, count)."""
        return self._table(self.draws, lambda draws: recipe(draws.uniform(key, count)))

    def uniform(self, key: str, count: int) -> Tensor:
        """Numbers of a paper's own, (B, count) in [0, 1)."""
        return self._table(self.draws, lambda draws: draws.uniform(key, count))

    def channels(self, key: str, maps: Sequence[Tensor], rate: float = 0.5) -> list[Tensor]:
        """Channel dropout factors (B, C, 1, 1) for each map, 0 with probability `rate`, else 1/(1 - rate)."""

        def recipe(u: Floats) -> Floats:
            return (u >= rate) / (1.0 - rate)

        tables = [self.table(f"channels/{key}/{level}", m.shape[1], recipe) for level, m in enumerate(maps)]
        return [table[:, :, None, None] for table in tables]

    def complementary(self, key: str, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Channel dropout factors (B, C, 1, 1) of two views for each map: 2 where the other view has 0, at random.

        Maps of one width drop the same channels. floor(batch / 2) images of the global batch keep all: 1 in both views.
        maps: of any images. UniMatch V2's complementary dropout (arXiv 2410.10777).
        """

        def recipe(u: Floats) -> Floats:
            return np.where(u >= 0.5, 2.0, 0.0)

        spared = self._table(self.draws, lambda draws: draws.half(f"spared/{key}"))[:, None, None, None]
        widths = dict.fromkeys(m.shape[1] for m in maps)
        drawn = {width: self.table(f"channels/{key}/{width}", width, recipe)[:, :, None, None] for width in widths}
        first = {width: table.masked_fill(spared, 1.0) for width, table in drawn.items()}
        return [first[m.shape[1]] for m in maps], [2.0 - first[m.shape[1]] for m in maps]

    def _boxes(self, draws: Draws, key: str, rectangles: int) -> Tensor:
        if not self.settings.mixing:
            return torch.zeros(len(draws.slots), *self.size, dtype=torch.bool, device=self.device)
        count = cutmix.DRAWS if rectangles == 1 else 1 + 4 * rectangles

        def corners(draws: Draws) -> Array:
            u, probability = draws.uniform(f"boxes/{key}", count), self.settings.cutmix
            if rectangles == 1:
                return cutmix.draw_boxes(u, *self.size, probability)
            return cutmix.draw_rectangles(u, *self.size, rectangles, probability)

        table = self._table(draws, corners)
        if rectangles == 1:
            return cutmix.box_mask(table, *self.size)
        masks = cutmix.box_mask(table.flatten(0, 1), *self.size)
        return masks.view(-1, rectangles, *self.size).sum(1).remainder(2).bool()

    def _table(self, draws: Draws, recipe: Callable[[Draws], Array]) -> Tensor:
        return self._tables(draws, lambda draws: {"table": recipe(draws)})["table"]

    def _tables(self, draws: Draws, recipe: Callable[[Draws], Mapping[str, Array]]) -> dict[str, Tensor]:
        """What a recipe makes of the draws of the moment: on the device, floats in the dtype of the images' mean."""
        return self.moment.tables(lambda clock: recipe(draws.at(clock.step)), self.mean)
