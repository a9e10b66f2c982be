"""`tiny`: a ResNet of one basic block a stage, for demonstrations and tests on a CPU. No pretrained weights exist.

With the DeepLabV3+ decoder it has 0.75 M parameters. Its stages are 32, 64, 96 and 128 wide: doubling at every stage,
as its larger kin do, would put 70 % of all parameters into the last block.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from semiseg_cli.core.models.backbones.resnet import BasicBlock, ResNet, conv
from semiseg_cli.core.ops.batchnorm import BatchNorm2d

CHANNELS = (32, 64, 96, 128)


def tiny(output_stride: int) -> ResNet:
    stages = [_stage(CHANNELS[0], CHANNELS[0], stride=1)]
    stages += [_stage(a, b, stride=2) for a, b in pairwise(CHANNELS)]
    return ResNet(conv(3, CHANNELS[0], 7, stride=2), BatchNorm2d(CHANNELS[0]), stages, CHANNELS, output_stride)


def _stage(channels: int, out: int, stride: int) -> nn.Module:
    shortcut = None
    if channels != out:
        shortcut = nn.Sequential(conv(channels, out, 1, stride), BatchNorm2d(out))
    for inner in (channels, out):  # these draws once made weights that were thrown away: a seed's networks stay
        torch.rand(out, inner, 3, 3)
    return nn.Sequential(BasicBlock(channels, out, stride, shortcut))
