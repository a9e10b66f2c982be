"""Trading stride for dilation, so that a classification network gives finer maps with the weights it has."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

FULL = (4, 8, 16, 32)  # strides of the four maps of a classification network


def held(output_stride: int, maps: int = 4) -> tuple[int, ...]:
    """Strides of the maps (four in most networks: 4, 8, 16, 32) with none above the output stride."""
    return tuple(min(stride, output_stride) for stride in FULL[:maps])


def set_output_stride(stages: Sequence[nn.Module], output_stride: int) -> None:
    """Hold the map at `output_stride` in the last stages of a network whose last stride would be larger.

    stages: those of stride 16 and 32, in this order, or of 16 alone where that is the last. Each halves the map once,
    by a convolution on its main path and perhaps another on its shortcut. They are changed in place; parameters keep
    their names and shapes.
    output_stride: 32 (nothing changes), 16 (the last stage is dilated) or 8 (the last two are).
    The rule is exact: every second value of a held map (every fourth where two stages are held) is the strided map's.
    Raises ValueError for a stage with a layer of which that cannot be made true.
    """
    assert output_stride in FULL[1:]
    dilation = 1
    assert len(stages) <= 2, "the stages of stride 16 and 32 alone"
    for stage, stride in zip(stages, FULL[2:], strict=False):
        if stride > output_stride:
            _hold(stage, dilation)
            dilation *= 2


def _hold(stage: nn.Module, dilation: int) -> None:
    """Take a stage's stride of 2 away and double the dilation of what comes after the convolution that had it.

    That convolution keeps the dilation of the stage before. In a bottleneck network this is torchvision's
    `replace_stride_with_dilation`: the first block keeps the old dilation, the others have the new one.
    """
    current = dilation
    for name, module in stage.named_modules():
        if not isinstance(module, nn.Conv2d):
            if hasattr(module, "kernel_size"):
                raise ValueError(f"{name} looks at neighbours and is no convolution: {module}")
            continue
        if module.stride not in ((1, 1), (2, 2)) or isinstance(module.padding, str) or module.padding_mode != "zeros":
            raise ValueError(f"{name} is not of stride 1 or 2 with a stated number of zeros around: {module}")
        strided = module.stride == (2, 2)
        _dilate(module, dilation if strided else current)  # a shortcut's reads what the main path's does
        if strided:
            module.stride = (1, 1)
            current = 2 * dilation
    if current == dilation:
        raise ValueError(f"no convolution of stride 2 in {stage}")


def _dilate(conv: nn.Conv2d, factor: int) -> None:
    """Let a convolution of any kernel step over `factor` values where it stepped over one, at the border too."""
    assert not isinstance(conv.padding, str)
    (height, width), (top, left), (down, across) = conv.kernel_size, conv.padding, conv.dilation
    conv.padding = (top * factor, left * factor)
    conv.dilation = (down * factor if height > 1 else down, across * factor if width > 1 else across)
