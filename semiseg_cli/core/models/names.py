"""Which backbones and decoders there are. Importing this does not import torch: command-line completion lists them.

A backbone is a file and a line here, a decoder likewise; nothing else in the program knows their names.
"""

from __future__ import annotations

from typing import NamedTuple

_HERE = "semiseg_cli.core.models"


class Backbone(NamedTuple):
    """factory: "module:attribute", from the output stride to an `Encoder`; "" for a network of timm's.

    timm: what timm calls it, with the tag of the weights that it starts from. torchvision: what its ImageNet weights
    are called there, where timm has none that fit.
    """

    factory: str = ""
    timm: str = ""
    torchvision: str = ""


BACKBONES = {
    "tiny": Backbone(f"{_HERE}.backbones.tiny:tiny"),
    "mobilenet_v2": Backbone(f"{_HERE}.backbones.mobilenet:MobileNetV2", torchvision="mobilenet_v2"),
    "resnet18": Backbone(f"{_HERE}.backbones.resnet:resnet18", torchvision="resnet18"),
    "resnet34": Backbone(f"{_HERE}.backbones.resnet:resnet34", torchvision="resnet34"),
    "resnet50": Backbone(f"{_HERE}.backbones.resnet:resnet50", torchvision="resnet50"),
    "resnet101": Backbone(f"{_HERE}.backbones.resnet:resnet101", torchvision="resnet101"),
    "resnet50s": Backbone(f"{_HERE}.backbones.resnet:resnet50s", "resnet50s.gluon_in1k"),
    "resnet101s": Backbone(f"{_HERE}.backbones.resnet:resnet101s", "resnet101s.gluon_in1k"),
    "efficientnet_lite0": Backbone(timm="tf_efficientnet_lite0.in1k"),
    "convnext_t": Backbone(timm="convnext_tiny.fb_in22k_ft_in1k"),
    "convnext_s": Backbone(timm="convnext_small.fb_in22k_ft_in1k"),
    "convnext_b": Backbone(timm="convnext_base.fb_in22k_ft_in1k"),
    "swin_t": Backbone(timm="swin_tiny_patch4_window7_224.ms_in22k_ft_in1k"),
    "dinov2_s": Backbone(timm="vit_small_patch14_dinov2.lvd142m"),
    "dinov2_b": Backbone(timm="vit_base_patch14_dinov2.lvd142m"),
    "dinov2_l": Backbone(timm="vit_large_patch14_dinov2.lvd142m"),
    "dinov2_s_reg": Backbone(timm="vit_small_patch14_reg4_dinov2.lvd142m"),
    "dinov2_b_reg": Backbone(timm="vit_base_patch14_reg4_dinov2.lvd142m"),
    "dinov2_l_reg": Backbone(timm="vit_large_patch14_reg4_dinov2.lvd142m"),
    "dinov3_s": Backbone(timm="vit_small_patch16_dinov3.lvd1689m"),
    "dinov3_b": Backbone(timm="vit_base_patch16_dinov3.lvd1689m"),
    "dinov3_l": Backbone(timm="vit_large_patch16_dinov3.lvd1689m"),
}
LIBRARY = "timm:"  # before the name of any other network of timm's


def known(name: str) -> Backbone | None:
    """What is known of a backbone: a short name's entry, or `timm:NAME`, whether timm has it or not."""
    return Backbone(timm=name.removeprefix(LIBRARY)) if name.startswith(LIBRARY) else BACKBONES.get(name)


DECODERS = {  # subclasses of `Decoder`; of those that fit an encoder the first is what `auto` means
    "deeplabv3plus": f"{_HERE}.decoders.deeplabv3plus:DeepLabV3Plus",
    "mitrans": f"{_HERE}.decoders.mitrans:MITransDecoder",
    "mitrans_local": f"{_HERE}.decoders.mitrans:MITransLocal",
    "upernet": f"{_HERE}.decoders.upernet:UPerNet",
    "dpt": f"{_HERE}.decoders.dpt:DPT",
    "linear": f"{_HERE}.decoders.heads:Linear",
    "mlp": f"{_HERE}.decoders.heads:MLP",
}
