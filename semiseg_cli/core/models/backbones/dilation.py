"""Trading stride for dilation, so that a classification network gives finer maps with the weights it has."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn


def set_output_stride(stages: Iterable[nn.Module], output_stride: int) -> None:
    """Hold the map at `output_stride` in the last stages of a network whose last stride would be 32.

    stages: the stages of stride 16 and 32, in this order; each holds one strided convolution on its main path,
    and perhaps another on its shortcut. They are changed in place; parameters keep their names and shapes.
    output_stride: 32 (nothing changes), 16 (the last stage is dilated) or 8 (the last two are).
    """
    assert output_stride in (8, 16, 32)
    dilation = 1
    for stage, stride in zip(stages, (16, 32), strict=True):
        if stride > output_stride:
            _hold(stage, dilation)
            dilation *= 2


def _hold(stage: nn.Module, dilation: int) -> None:
    """Take a stage's stride of 2 away and double the dilation of what comes after the convolution that had it.

    That convolution keeps the dilation of the stage before. In a bottleneck network this is torchvision's
    `replace_stride_with_dilation`: the first block keeps the old dilation, the others have the new one.
    The rule is exact: every second pixel of the result is the strided stage's result.
    """
    current = dilation
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            if module.kernel_size == (3, 3):
                module.dilation = module.padding = (current, current)
            if module.stride == (2, 2):
                module.stride = (1, 1)
                current = 2 * dilation
