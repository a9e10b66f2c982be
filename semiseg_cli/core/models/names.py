"""Which backbones and decoders there are. Importing this does not import torch: command-line completion lists them.

A backbone is a file and a line here, a decoder likewise; nothing else in the program knows their names.
"""

from __future__ import annotations

from typing import NamedTuple

_HERE = "semiseg_cli.core.models"


class Backbone(NamedTuple):
    """factory: "module:attribute", from the output stride to an `Encoder`.

    torchvision, timm: what its ImageNet weights are called there; "" where there are none. Those of torchvision are
    downloaded, those of timm are named in a hint.
    """

    factory: str
    torchvision: str = ""
    timm: str = ""


BACKBONES = {
    "tiny": Backbone(f"{_HERE}.backbones.tiny:tiny"),
    "mobilenet_v2": Backbone(f"{_HERE}.backbones.mobilenet:MobileNetV2", torchvision="mobilenet_v2"),
    "resnet18": Backbone(f"{_HERE}.backbones.resnet:resnet18", torchvision="resnet18"),
    "resnet34": Backbone(f"{_HERE}.backbones.resnet:resnet34", torchvision="resnet34"),
    "resnet50": Backbone(f"{_HERE}.backbones.resnet:resnet50", torchvision="resnet50"),
    "resnet101": Backbone(f"{_HERE}.backbones.resnet:resnet101", torchvision="resnet101"),
    "resnet50s": Backbone(f"{_HERE}.backbones.resnet:resnet50s", timm="resnet50s.gluon_in1k"),
    "resnet101s": Backbone(f"{_HERE}.backbones.resnet:resnet101s", timm="resnet101s.gluon_in1k"),
    "dinov2_s": Backbone(f"{_HERE}.backbones.vit:dinov2_s", timm="vit_small_patch14_dinov2.lvd142m"),
    "dinov2_b": Backbone(f"{_HERE}.backbones.vit:dinov2_b", timm="vit_base_patch14_dinov2.lvd142m"),
    "dinov2_l": Backbone(f"{_HERE}.backbones.vit:dinov2_l", timm="vit_large_patch14_dinov2.lvd142m"),
    "dinov2_s_reg": Backbone(f"{_HERE}.backbones.vit:dinov2_s_reg", timm="vit_small_patch14_reg4_dinov2.lvd142m"),
    "dinov2_b_reg": Backbone(f"{_HERE}.backbones.vit:dinov2_b_reg", timm="vit_base_patch14_reg4_dinov2.lvd142m"),
    "dinov2_l_reg": Backbone(f"{_HERE}.backbones.vit:dinov2_l_reg", timm="vit_large_patch14_reg4_dinov2.lvd142m"),
}
DECODERS = {  # subclasses of `Decoder`; of those that fit an encoder the first is what `auto` means
    "deeplabv3plus": f"{_HERE}.decoders.deeplabv3plus:DeepLabV3Plus",
    "mitrans": f"{_HERE}.decoders.mitrans:MITransDecoder",
    "mitrans_local": f"{_HERE}.decoders.mitrans:MITransLocal",
    "upernet": f"{_HERE}.decoders.upernet:UPerNet",
    "dpt": f"{_HERE}.decoders.dpt:DPT",
    "linear": f"{_HERE}.decoders.heads:Linear",
    "mlp": f"{_HERE}.decoders.heads:MLP",
}
