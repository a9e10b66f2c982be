"""IPixMatch. Wu et al., "IPixMatch: Boost Semi-supervised Semantic Segmentation with Inter-Pixel Relation", 2024,
arXiv 2404.18891.

UniMatch, and on top of it the inter-pixel loss: L_sum = L_o + alpha L_IPix (eq. 6). L_o is the step of
`methods/unimatch.py`, L_IPix that of `methods/plugins/interpixel.py`, in which the equations stand; this file is both,
as the paper is, and `--method unimatch --add interpixel` is the same to the last bit.

The paper speaks of an EMA teacher, UniMatch has none: `ema_teacher` is off by default, and then the teacher's logits
are the student's own on the weak view. The paper's runs are deterministic: `train.deterministic = true` with
`model.upsampling = "nearest"` and `train.seed = 12345`, which the presets of VOC and Cityscapes set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated as Doc
from typing import ClassVar

from semiseg_cli.core.methods.base import Build, SemiBatch, StepOutput, Views
from semiseg_cli.core.methods.plugins.interpixel import InterPixel, InterPixelSettings
from semiseg_cli.core.methods.unimatch import UniMatch, UniMatchSettings
from semiseg_cli.core.ops.teacher import USUAL
from semiseg_cli.core.settings import Below1


@dataclass(frozen=True, kw_only=True)
class IPixMatchSettings(InterPixelSettings, UniMatchSettings):
    section = "method"
    renamed: ClassVar[Mapping[str, str]] = {**InterPixelSettings.renamed, "ema_decay": "alpha"}

    ema_teacher: Doc[bool, "pseudo-labels and logits from a moving average of the student, which is evaluated"] = False
    alpha: Doc[Below1, "decay of that moving average"] = 0.99


class IPixMatch(UniMatch):
    Settings = IPixMatchSettings
    includes = frozenset({"interpixel"})
    rule = USUAL

    def __init__(self, settings: IPixMatchSettings, build: Build) -> None:
        super().__init__(settings, build)
        self.interpixel = InterPixel(settings, build)

    def step(self, batch: SemiBatch, views: Views) -> StepOutput:
        out = super().step(batch, views)  # L_o
        return out.plus(self.interpixel.step(out, batch, views))  # + alpha L_IPix, eq. 6
