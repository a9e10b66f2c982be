"""DPT (Ranftl et al., ICCV 2021, arXiv 2103.13413), as UniMatch V2 (arXiv 2410.10777) has it for DINOv2.

Four maps of a plain transformer, all at stride s, are made a pyramid of strides s/4, s/2, s and 2s and fused from the
coarsest down; the classifier works at s/8. No batch norm, every bias but one kind's, corners aligned throughout, as
published. The first fusion has nothing to add: its unit for a skip, which the published code makes and never uses, is
left out, and left aside where such a file is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from semiseg_cli.core.models.decoders.blocks import Upsample
from semiseg_cli.core.networks import EQUAL, Decoder

PUBLISHED = {  # what parameters are called in the published files, where that is not as here
    "scratch.output_conv.0.": "hidden.",
    "scratch.output_conv.2.": "classifier.",
    **{f"scratch.layer{n}_rn.": f"narrow.{n - 1}." for n in range(1, 5)},
    **{
        f"scratch.refinenet{n}.{theirs}.": f"fuse.{n - 1}.{ours}."
        for n in range(1, 5)
        for theirs, ours in (("resConfUnit1", "skip"), ("resConfUnit2", "unit"), ("out_conv", "project"))
    },
}
UNUSED = "scratch.refinenet4.resConfUnit1."


def widths(channels: int) -> tuple[int, tuple[int, ...]]:
    """Width of the fusions, and channels of the pyramid, by the encoder's width.

    Published are 384 (64), 768 (128), 1,024 (256) and 1,536 (384); others keep the rule of the nearest below.
    """
    if channels >= 1536:
        return 384, (1536,) * 4
    if channels >= 1024:
        return 256, (256, 512, 1024, 1024)
    eighth = max(channels // 8, 1)
    return max(channels // 6, 8), (eighth, 2 * eighth, 4 * eighth, 8 * eighth)


class Unit(nn.Module):
    """A residual convolution unit: x + conv(relu(conv(relu(x)))), 3x3 with bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x_BFhw: Tensor) -> Tensor:
        inner: Tensor = self.conv2(self.conv1(x_BFhw.relu()).relu())
        return x_BFhw + inner


class Fusion(nn.Module):
    """Adds a map, if there is one to add, enlarges the sum to a size, and mixes its channels."""

    def __init__(self, width: int, skip: bool) -> None:
        super().__init__()
        self.skip = Unit(width) if skip else None
        self.unit, self.project, self.upsample = Unit(width), nn.Conv2d(width, width, 1), Upsample(strided=False)

    def forward(self, x_BFhw: Tensor, finer_BFhw: Tensor | None, size: tuple[int, int]) -> Tensor:
        if self.skip is not None:
            x_BFhw = x_BFhw + self.skip(finer_BFhw)
        out: Tensor = self.project(self.upsample(self.unit(x_BFhw), size))
        return out


class DPT(Decoder):
    """Reassemble, fuse, classify; levels are counted from the finest."""

    need = EQUAL

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int) -> None:
        super().__init__(channels, strides, classes)
        width, pyramid = widths(channels[-1])
        self.widths = {"context": width, "fused": width}
        self.projects = nn.ModuleList([nn.Conv2d(c, out, 1) for c, out in zip(channels, pyramid, strict=True)])
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(pyramid[0], pyramid[0], 4, stride=4),
                nn.ConvTranspose2d(pyramid[1], pyramid[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(pyramid[3], pyramid[3], 3, stride=2, padding=1),
            ]
        )
        self.narrow = nn.ModuleList([nn.Conv2d(c, width, 3, padding=1, bias=False) for c in pyramid])
        self.fuse = nn.ModuleList([Fusion(width, skip=level < 3) for level in range(4)])
        self.hidden = nn.Conv2d(width, width, 3, padding=1)
        self.classifier = nn.Conv2d(width, classes, 1)
        self.upsample = Upsample(strided=False)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        _take_published_names(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def features(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The coarsest fusion, at the maps' size, and the classifier's input, at eight times that."""
        levels = [
            narrow(resize(project(x)))
            for x, project, resize, narrow in zip(maps, self.projects, self.resize_layers, self.narrow, strict=True)
        ]
        sizes = [(x.shape[2], x.shape[3]) for x in levels]
        context = fused = self.fuse[3](levels[3], None, sizes[2])
        for level in (2, 1):
            fused = self.fuse[level](fused, levels[level], sizes[level - 1])
        fused = self.fuse[0](fused, levels[0], (2 * sizes[0][0], 2 * sizes[0][1]))
        return context, self.hidden(fused).relu()


def _take_published_names(state: dict[str, Any], prefix: str) -> None:
    """Within a state dict, the published parameters' names become those of here, and the unused unit's go."""
    for name in [name for name in state if name.startswith(f"{prefix}scratch.")]:
        if name.startswith(prefix + UNUSED):
            del state[name]
            continue
        for theirs, ours in PUBLISHED.items():
            if name.startswith(prefix + theirs):
                state[name.replace(prefix + theirs, prefix + ours, 1)] = state.pop(name)
