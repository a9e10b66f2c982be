"""Any network of timm's that gives feature maps, as an encoder. Plain transformers are opened by `vit.py`.

What a network takes is found out by showing it small images, since timm does not say it: nothing is listed by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from difflib import get_close_matches
from io import StringIO
from math import ceil
from sys import modules
from typing import Any

import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.drop import DropPath
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.patch_embed import PatchEmbed
from timm.models import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.models.backbones.dilation import FULL
from semiseg_cli.core.models.backbones.naming import left_out
from semiseg_cli.core.models.backbones.vit import META, ViT, quarters
from semiseg_cli.core.models.backbones.windows import counted_windows
from semiseg_cli.core.networks import Encoder
from semiseg_cli.core.ops.batchnorm import BatchNorm2d

SIZES: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})  # of other images


TRIED = dict[tuple[str, int], tuple[tuple[int, ...], int]]()  # by `_tried`: a network of a run is built more than once


class NormAct(BatchNormAct2d):
    """timm's batch norm with an activation, without the counter."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.drop(BatchNorm2d.forward(self, x)))  # type: ignore[arg-type]
        return out


class EvenlyPadded(Conv2dSame):
    """timm's convolution with TensorFlow's padding, of maps whose sides are a multiple of its stride and 1: the padding
    is then the same for all of them, and a graph for images of any size does not ask for it."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = ((side - 1) * gap for side, gap in zip(self.kernel_size, self.dilation, strict=True))
        x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


UNCOUNTED: dict[type[nn.Module], type[nn.Module]] = {nn.BatchNorm2d: BatchNorm2d, BatchNormAct2d: NormAct}


class FromLibrary(Encoder):
    """A network of timm's without what only its classifier needs; its parameters are named as timm names them.

    lopsided: TensorFlow's padding is even at sides of 32 n + 1 alone. At others it shifts a map of stride s by up to
    s - 1 pixels, out of register with the image (`core/ops/register.py`): images are padded to such sides.
    """

    def __init__(self, name: str, net: Any, output_stride: int) -> None:
        super().__init__()
        published, whole = net.pretrained_cfg, list(_quiet(net).state_dict())
        self.mean, self.std = published["mean"], published["std"]
        reductions = [info["reduction"] for info in net.feature_info]
        self.plain = len(set(reductions)) == 1  # a transformer, whose maps go through its final norm
        wanted = _taps(len(reductions), name) if self.plain else _stages(reductions)
        self.strides = tuple(reductions[index] for index in wanted)
        self.indices = net.prune_intermediate_layers(wanted, prune_norm=not self.plain, prune_head=True)
        self.net, self.unused = net, tuple(f"net.{start}" for start in left_out(whole, net.state_dict()))
        same = [module for module in net.modules() if type(module) is Conv2dSame]
        for module in same:
            module.__class__ = EvenlyPadded
        self.lopsided = bool(same)
        counted_windows(net)
        found = TRIED.get((name, output_stride))
        self.channels, self.multiple = found or _tried(name, self)
        if not self.plain and self.strides[-1] > output_stride:
            self.remark = f"its strides are {_listed(self.strides)}: it cannot be held at {output_stride}"

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        sides = (image_B3HW.shape[2], image_B3HW.shape[3])
        if self.lopsided:
            below, beside = ((side + FULL[-1] - 2) // FULL[-1] * FULL[-1] + 1 - side for side in sides)
            image_B3HW = F.pad(image_B3HW, (0, beside, 0, below), mode="replicate")
        maps: list[Tensor] = self.net.forward_intermediates(
            image_B3HW, indices=self.indices, norm=self.plain, intermediates_only=True
        )
        # of nothing negative: a graph's integer division rounds to 0
        heights, widths = ([(side + s - 1) // s for s in self.strides] for side in sides)
        return [x[:, :, :h, :w] for x, h, w in zip(maps, heights, widths, strict=True)]

    def renamed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """timm's names; others go through timm's own translation, where it has one for this network."""
        named, expected = dict(tensors), set(self.net.state_dict())
        translation = getattr(modules[type(self.net).__module__], "checkpoint_filter_fn", None)
        if expected - named.keys() and translation is not None:
            named = _translated(translation, named, self.net)
        return {f"net.{name}": tensor for name, tensor in named.items()}


def opened(name: str, output_stride: int) -> Encoder:
    """timm's network of that name (`convnext_tiny`, `convnext_tiny.fb_in22k`), with random weights.

    Its last strides are held at `output_stride` where timm can do that for it. Raises UsageError for a name that timm
    does not know, and a network that gives no feature maps of images of any size.
    """
    check_name(name)
    net = _created(name, output_stride)
    if type(net) is VisionTransformer and type(net.patch_embed) is PatchEmbed:
        by_meta = "_dinov2" in name and net.reg_token is None
        return ViT(_quiet(net), _taps(len(net.blocks), name), META if by_meta else None)
    if not hasattr(net, "forward_intermediates") or not getattr(net, "feature_info", None):
        raise _no_maps(name, "it is made for classes of whole images alone")
    encoder = FromLibrary(name, net, output_stride)
    TRIED[name, output_stride] = (encoder.channels, encoder.multiple)
    return encoder


def check_name(name: str) -> None:
    """Raises UsageError, with names that are near, for a name or a tag that timm does not know."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        close = get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.5)
        guess = f"did you mean {' or '.join(f'timm:{other}' for other in close)}? " if close else ""
        listed = "timm's list: python -c \"import timm; print(*timm.list_models(), sep='\\n')\""
        raise UsageError(f"timm {timm.__version__} has no network called '{architecture}'", fix=f"{guess}{listed}")
    tagged = timm.list_pretrained(f"{architecture}.*")
    if tag and name not in tagged:
        tagged = tagged or [architecture]
        fix = f"one of {', '.join(f'timm:{other}' for other in tagged)}"
        raise UsageError(f"timm {timm.__version__} has no weights '{tag}' for {architecture}", fix=fix)


def _created(name: str, output_stride: int) -> Any:
    """The network, of images of any size and with its strides held, where it can be told so."""
    held: tuple[dict[str, Any], ...] = ({"output_stride": output_stride}, {}) if output_stride < FULL[-1] else ({},)
    for options in [size | stride for stride in held for size in SIZES]:
        try:
            return timm.create_model(name, pretrained=False, **options)
        except (TypeError, NotImplementedError, AssertionError) as error:
            refusal = error
    raise _no_maps(name, str(refusal))


def _quiet(net: Any) -> Any:
    """Without dropout of values or paths, and without batch norms that count (core/ops/batchnorm.py says why)."""
    for module in net.modules():
        if isinstance(module, DropPath):
            module.drop_prob = 0.0
        elif isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif type(module) in UNCOUNTED:
            module.__class__ = UNCOUNTED[type(module)]  # all its tensors and settings stay as they are
    return net


def _taps(depth: int, name: str) -> tuple[int, ...]:
    """The blocks of a plain transformer that give maps. Those of Meta's heads for ViT-L: 4, not 5, an old slip."""
    return (4, 11, 17, 23) if "vit_large" in name and "_dinov" in name else quarters(depth)


def _stages(reductions: Sequence[int]) -> list[int]:
    """Of a network with many stages those from stride 4 to 32; where strides are held, as many as there would be."""
    fitting = [index for index, stride in enumerate(reductions) if FULL[0] <= stride <= FULL[-1]]
    return fitting[-len(FULL) :]


def _tried(name: str, encoder: FromLibrary) -> tuple[tuple[int, ...], int]:
    """Channels of the maps, and of what the sides of images are multiples: of nothing, or of the deepest stride."""
    deepest, encoder_mode = max(encoder.strides), encoder.training
    refusal = ""
    encoder.eval()
    for multiple, sizes in ((1, [(33, 50), (47, 32)]), (deepest, [(deepest, 2 * deepest), (3 * deepest, 2 * deepest)])):
        try:
            with torch.no_grad():
                shapes = [[tuple(x.shape[1:]) for x in encoder(torch.zeros(1, 3, *size))] for size in sizes]
        except Exception as error:  # whatever timm's networks raise of sizes that they do not take
            refusal = str(error).splitlines()[0][:200]
            continue
        channels = tuple(shape[0] for shape in shapes[0])
        expected = [
            [(c, ceil(height / s), ceil(width / s)) for c, s in zip(channels, encoder.strides, strict=True)]
            for height, width in sizes
        ]
        if shapes == expected:
            encoder.train(encoder_mode)
            return channels, multiple
        refusal = f"of an image of {sizes[-1][0]} x {sizes[-1][1]} pixels its maps are {shapes[-1]}"
    raise _no_maps(name, refusal)


def _translated(translation: Any, tensors: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """By timm's names, from a publisher's. What timm prints while it tries is nobody's business."""
    try:
        with redirect_stdout(StringIO()):
            found: dict[str, Tensor] = translation(dict(tensors), net)
    except (KeyError, IndexError, RuntimeError, AttributeError, ValueError):  # weights of something else
        return tensors
    return found


def _no_maps(name: str, why: str) -> UsageError:
    return UsageError(
        f"timm:{name} gives no feature maps of images of any size",
        why=why,
        fix="an encoder that does: -b dinov2_s, convnext_t, efficientnet_lite0 or resnet50",
    )


def _listed(strides: Sequence[int]) -> str:
    return f"{', '.join(map(str, strides[:-1]))} and {strides[-1]}"
