"""Convolutions with weights of a class's own (S4MIM, arXiv 2411.08756, eqs. 6 and 7), without a map for every class.

Shapes: B images, K classes, D channels, h w feature pixels, O output channels, N rows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from semiseg_cli.core.types import at_least_float32

BLOCK = 128  # rows that are multiplied by one class's matrix at a time


def class_convolution(x_BDhw: Tensor, group_Bhw: Tensor, weight_KODyx: Tensor) -> Tensor:
    """sum_k conv(x * [group == k], weight[k]), zero padding: (B, O, h, w), at least float32.

    group: int64, in [0, K). The literal form convolves K maps that are zero outside their class. Here every pixel is
    multiplied by the matrix of its own class alone, which gives what it contributes to its 3x3 (y x) neighbourhood,
    and the contributions are added up (`fold`): a K-th of the arithmetic and the memory.
    """
    batch, height, width = group_Bhw.shape
    classes, _, channels, *kernel = weight_KODyx.shape
    # Seen from a contributing pixel the kernel is mirrored: what lies above is reached by its lower row.
    matrices_KMD = weight_KODyx.flip(3, 4).permute(0, 1, 3, 4, 2).reshape(classes, -1, channels)
    rows_ND = x_BDhw.permute(0, 2, 3, 1).reshape(-1, channels)
    parts_NM = at_least_float32(class_linear(rows_ND, group_Bhw.flatten(), matrices_KMD))
    parts_BML = parts_NM.view(batch, height * width, -1).transpose(1, 2)
    size = (kernel[0], kernel[1])
    summed: Tensor = F.fold(parts_BML, (height, width), size, padding=(size[0] // 2, size[1] // 2))
    return summed


def class_linear(x_ND: Tensor, class_N: Tensor, weight_KMD: Tensor, block: int = BLOCK) -> Tensor:
    """Every row times the matrix of its class: (N, M). class: int64, in [0, K).

    Rows go to places sorted by class, every class padded to whole blocks, so that a block needs one matrix; the number
    of blocks depends on N and K alone, and nothing waits for the device.
    """
    count, classes = len(x_ND), len(weight_KMD)
    size_K = torch.zeros(classes, dtype=torch.long, device=x_ND.device)
    size_K.scatter_add_(0, class_N, torch.ones_like(class_N))
    blocks_K = (size_K + block - 1) // block
    order_N = class_N.argsort(stable=True)
    sorted_N = class_N[order_N]
    rank_N = torch.arange(count, device=x_ND.device) - (size_K.cumsum(0) - size_K)[sorted_N]
    place_N = torch.empty_like(order_N)
    place_N[order_N] = (blocks_K.cumsum(0) - blocks_K)[sorted_N] * block + rank_N

    total = count // block + classes  # the sum of ceil(size / block) is never more
    class_of_block = torch.searchsorted(blocks_K.cumsum(0), torch.arange(total, device=x_ND.device), right=True)
    matrices = weight_KMD.index_select(0, class_of_block.clamp(max=classes - 1))  # surplus blocks are all zero
    rows = x_ND.new_zeros(total * block, x_ND.shape[1]).index_copy(0, place_N, x_ND)
    product = torch.bmm(rows.view(total, block, -1), matrices.transpose(1, 2))
    return product.flatten(0, 1).index_select(0, place_N)


def one_hot(group_Bhw: Tensor, classes: int, weight_Bhw: Tensor) -> Tensor:
    """(B, K, h, w): the pixel's weight at its class, 0 at the others."""
    of = torch.arange(classes, device=group_Bhw.device)[:, None, None]
    return torch.where(group_Bhw[:, None] == of, weight_Bhw[:, None], 0)
