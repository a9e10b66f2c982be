"""Plain vision transformers, timm's, as encoders: the token maps after four blocks, all of one stride and width.

Every map goes through the final layer norm; the class token and registers are dropped (DINOv2, Oquab et al., 2023,
arXiv 2304.07193; the four blocks are those of Meta's heads and of UniMatch V2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import torch
from timm.models import VisionTransformer
from torch import Tensor

from semiseg_cli.core.models.backbones.naming import left_out, named_by_timm
from semiseg_cli.core.models.backbones.positions import resampled
from semiseg_cli.core.networks import Encoder

META = 0.1  # DINOv2's offset of grids, in patches


class ViT(Encoder):
    """A transformer over patches, which takes every size that is a multiple of its patch.

    taps: the blocks whose tokens are maps. offset: of the position table's rule, see `positions.py`.
    """

    def __init__(self, net: VisionTransformer, taps: Sequence[int], offset: float | None = None) -> None:
        super().__init__()
        self.taps, self.offset = tuple(taps), offset
        self.grid: tuple[int, int] = net.patch_embed.grid_size  # of the position table
        self.multiple = int(net.patch_embed.patch_size[0])
        self.channels, self.strides = (net.embed_dim,) * len(self.taps), (self.multiple,) * len(self.taps)
        published: Any = net.pretrained_cfg
        self.mean, self.std = published["mean"], published["std"]
        self.embeds_class = not net.no_embed_class  # whether the table has entries for class token and registers
        self.patch_embed, self.norm_pre, self.blocks = net.patch_embed, net.norm_pre, net.blocks[: self.taps[-1] + 1]
        self.cls_token, self.reg_token, self.pos_embed = net.cls_token, net.reg_token, net.pos_embed
        self.norm, self.fc_norm = net.norm, net.fc_norm  # one of them does nothing
        self.unused = ("mask_token", *left_out([*net.state_dict(), "head."], self.state_dict()))

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        """Four maps (B, D, H / patch, W / patch)."""
        x_BDhw = self.patch_embed.proj(image_B3HW)
        grid = (x_BDhw.shape[2], x_BDhw.shape[3])
        x_BND, prefix = self._with_positions(self.patch_embed.norm(x_BDhw.flatten(2).transpose(1, 2)), grid)
        x_BND, maps = self.norm_pre(x_BND), []
        for index, block in enumerate(self.blocks):
            x_BND = block(x_BND)
            if index in self.taps:
                map_BDhw = self.fc_norm(self.norm(x_BND))[:, prefix:].transpose(1, 2).unflatten(2, grid)
                maps += [map_BDhw] * self.taps.count(index)  # more than once in networks of few blocks
        return maps

    def _with_positions(self, x_BND: Tensor, grid: tuple[int, int]) -> tuple[Tensor, int]:
        """Class token, registers and patches with their positions, and how many come before the patches."""
        first = [token for token in (self.cls_token, self.reg_token) if token is not None]
        tokens = [token.expand(x_BND.shape[0], -1, -1) for token in first]
        prefix = sum(token.shape[1] for token in tokens)
        if self.pos_embed is None:
            return torch.cat([*tokens, x_BND], 1), prefix
        known = prefix if self.embeds_class else 0
        table_ND = self.pos_embed[0].float()
        places = resampled(table_ND[known:].unflatten(0, self.grid), grid, self.offset).flatten(0, 1)
        x_BND = x_BND + places
        if not tokens:
            return x_BND, prefix
        before = torch.cat(tokens, 1)
        return torch.cat([before + table_ND[:known] if known else before, x_BND], 1), prefix

    def renamed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return named_by_timm(tensors, merged=not self.embeds_class)


def quarters(depth: int) -> tuple[int, ...]:
    """The last block of every quarter of a transformer."""
    return tuple(ceil(depth * part / 4) - 1 for part in (1, 2, 3, 4))
