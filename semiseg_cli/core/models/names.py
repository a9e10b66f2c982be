"""Which backbones and decoders there are. Importing this does not import torch: command-line completion lists them.

A backbone is a file and a line here, a decoder likewise; nothing else in the program knows their names.
"""

from __future__ import annotations

from typing import NamedTuple

_HERE = "semiseg_cli.core.models"
_OWN = f"{_HERE}.backbones"


class Backbone(NamedTuple):
    """factory: "module:attribute", from the output stride to an `Encoder`; "" for a network of timm's.

    timm: what timm calls it, with the tag of the weights that it starts from: the hub has them under that name.
    torchvision: what its ImageNet weights are called there, where timm has none that fit.
    licence, megabytes: of the published weights; "" and 0 where only timm knows.
    """

    factory: str = ""
    timm: str = ""
    torchvision: str = ""
    licence: str = ""
    megabytes: int = 0


BSD, APACHE = "bsd-3-clause", "apache-2.0"
DINOV3 = "dinov3-license"  # its terms hold for whatever is derived from the weights
BACKBONES = {
    "tiny": Backbone(f"{_OWN}.tiny:tiny"),
    "mobilenet_v2": Backbone(f"{_OWN}.mobilenet:MobileNetV2", torchvision="mobilenet_v2", licence=BSD, megabytes=14),
    "resnet18": Backbone(f"{_OWN}.resnet:resnet18", "resnet18.tv_in1k", licence=BSD, megabytes=47),
    "resnet34": Backbone(f"{_OWN}.resnet:resnet34", "resnet34.tv_in1k", licence=BSD, megabytes=87),
    "resnet50": Backbone(f"{_OWN}.resnet:resnet50", "resnet50.tv_in1k", licence=BSD, megabytes=102),
    "resnet101": Backbone(f"{_OWN}.resnet:resnet101", "resnet101.tv_in1k", licence=BSD, megabytes=178),
    "resnet50s": Backbone(f"{_OWN}.resnet:resnet50s", "resnet50s.gluon_in1k", licence=APACHE, megabytes=103),
    "resnet101s": Backbone(f"{_OWN}.resnet:resnet101s", "resnet101s.gluon_in1k", licence=APACHE, megabytes=179),
    "efficientnet_lite0": Backbone(timm="tf_efficientnet_lite0.in1k", licence=APACHE, megabytes=19),
    "convnext_t": Backbone(timm="convnext_tiny.fb_in22k_ft_in1k", licence=APACHE, megabytes=114),
    "convnext_s": Backbone(timm="convnext_small.fb_in22k_ft_in1k", licence=APACHE, megabytes=201),
    "convnext_b": Backbone(timm="convnext_base.fb_in22k_ft_in1k", licence=APACHE, megabytes=354),
    "swin_t": Backbone(timm="swin_tiny_patch4_window7_224.ms_in22k_ft_in1k", licence="mit", megabytes=113),
    "dinov2_s": Backbone(timm="vit_small_patch14_dinov2.lvd142m", licence=APACHE, megabytes=88),
    "dinov2_b": Backbone(timm="vit_base_patch14_dinov2.lvd142m", licence=APACHE, megabytes=346),
    "dinov2_l": Backbone(timm="vit_large_patch14_dinov2.lvd142m", licence=APACHE, megabytes=1217),
    "dinov2_s_reg": Backbone(timm="vit_small_patch14_reg4_dinov2.lvd142m", licence=APACHE, megabytes=88),
    "dinov2_b_reg": Backbone(timm="vit_base_patch14_reg4_dinov2.lvd142m", licence=APACHE, megabytes=346),
    "dinov2_l_reg": Backbone(timm="vit_large_patch14_reg4_dinov2.lvd142m", licence=APACHE, megabytes=1217),
    "dinov3_s": Backbone(timm="vit_small_patch16_dinov3.lvd1689m", licence=DINOV3, megabytes=86),
    "dinov3_b": Backbone(timm="vit_base_patch16_dinov3.lvd1689m", licence=DINOV3, megabytes=343),
    "dinov3_l": Backbone(timm="vit_large_patch16_dinov3.lvd1689m", licence=DINOV3, megabytes=1212),
}
LIBRARY = "timm:"  # before the name of any other network of timm's


def known(name: str) -> Backbone | None:
    """What is known of a backbone: a short name's entry, or `timm:NAME`, whether timm has it or not."""
    return Backbone(timm=name.removeprefix(LIBRARY)) if name.startswith(LIBRARY) else BACKBONES.get(name)


def architecture(name: str) -> str:
    """What timm calls the network of a backbone, without the tag of its weights; "" where timm has none."""
    return (known(name) or Backbone()).timm.partition(".")[0]


def short(name: str) -> str:
    """The short name of a `timm:NAME` that is the same network; any other name as it is."""
    if not name.startswith(LIBRARY):
        return name
    return next((other for other in BACKBONES if architecture(other) == architecture(name)), name)


DECODERS = {  # subclasses of `Decoder`; of those that fit an encoder the first is what `auto` means
    "deeplabv3plus": f"{_HERE}.decoders.deeplabv3plus:DeepLabV3Plus",
    "mitrans": f"{_HERE}.decoders.mitrans:MITransDecoder",
    "mitrans_local": f"{_HERE}.decoders.mitrans:MITransLocal",
    "upernet": f"{_HERE}.decoders.upernet:UPerNet",
    "dpt": f"{_HERE}.decoders.dpt:DPT",
    "linear": f"{_HERE}.decoders.heads:Linear",
    "mlp": f"{_HERE}.decoders.heads:MLP",
}
