"""Holding a stride, for layers that no backbone here has: other kernels, and shortcuts that look at neighbours."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from semiseg_cli.core.models.backbones.dilation import held, set_output_stride


class Block(nn.Module):
    """A main path with a stride somewhere, and a shortcut that has it in its only convolution."""

    def __init__(self, *layers: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.main, self.shortcut = nn.Sequential(*layers), shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.main(x)
        return (y if self.shortcut is None else y + self.shortcut(x)).tanh()


def conv(kernel: int | tuple[int, int], stride: int = 1, **options) -> nn.Conv2d:
    size = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = options.pop("padding", tuple(k // 2 for k in size))
    return nn.Conv2d(4, 4, size, stride, padding, **options)


STAGES = {
    "5 x 5": lambda: Block(conv(5), conv(5, 2), conv(5)),
    "7 x 7 by channel": lambda: Block(conv(1), conv(7, 2, groups=4), conv(7, groups=4)),
    "2 x 2 without padding": lambda: Block(conv(2, 2, padding=0), conv(3)),
    "3 x 1 and 1 x 5": lambda: Block(conv(3, 2), conv((3, 1)), conv((1, 5))),
    "dilated before": lambda: Block(conv(3, 2), conv(3, dilation=2, padding=2)),
    "a shortcut of 3 x 3": lambda: Block(conv(3), conv(3, 2), conv(5), shortcut=conv(3, 2)),
}


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("size", [(24, 32), (23, 29), (9, 5)])
@torch.no_grad()
def test_every_second_value_is_the_strided_stages(name, size):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        strided = nn.ModuleList([STAGES[name](), STAGES[name]()]).double()
    image = torch.randn(1, 4, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    third, fourth = strided[0](image), strided[1](strided[0](image))
    for output_stride, (step, last) in {32: (1, 1), 16: (1, 2), 8: (2, 4)}.items():
        stages = copy.deepcopy(strided)
        set_output_stride(stages, output_stride)
        y = stages[0](image)
        torch.testing.assert_close(y[..., ::step, ::step], third, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(stages[1](y)[..., ::last, ::last], fourth, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([nn.AvgPool2d(2), conv(3)], "no convolution"),
        ([conv(3, 2), nn.MaxPool2d(3, 1, 1)], "no convolution"),
        ([conv(3, 4)], "stride 1 or 2"),
        ([conv(3, 2, padding_mode="reflect")], "zeros"),
        ([conv(3, 2), nn.Conv2d(4, 4, 3, padding="same")], "zeros"),
        ([conv(3)], "no convolution of stride 2"),
    ],
    ids=["mean", "maximum", "stride 4", "reflected", "same", "none"],
)
def test_what_cannot_be_dilated_is_refused(layers, said):
    with pytest.raises(ValueError, match=said):
        set_output_stride([nn.Identity(), nn.Sequential(*layers)], 16)


def test_strides_of_a_held_network():
    assert [held(stride) for stride in (8, 16, 32)] == [(4, 8, 8, 8), (4, 8, 16, 16), (4, 8, 16, 32)]
