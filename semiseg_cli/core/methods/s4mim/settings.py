"""The settings of S4MIM (arXiv 2411.08756), and which of them would be ignored where a term is off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated as Doc
from typing import Literal

from semiseg_cli.core.methods.base import SemiSettings
from semiseg_cli.core.settings import Below1, Count, NotNegative, Positive, Probability, Range, unread

# What only says how a term of phase II is made, by the term's weight; and how masks are, by all of them.
MADE_BY = {
    "lambda_mp": ("mim", "fp_target"),
    "lambda_mf": ("dictionary", "confidence", "alpha", "temperature"),
    "lambda_ms": ("semantic",),
}
MASKS = ("patch", "ratio", "masked_statistics", "backward")


@dataclass(frozen=True, kw_only=True)
class S4MIMSettings(SemiSettings):
    tau: Doc[Probability, "confidence a pseudo-label of phase I needs; 0.95 on VOC, 0 on Cityscapes"] = 0.95
    lambda_u: Doc[NotNegative, "weight of each unlabeled loss of phase I"] = 1 / 2
    lambda_mp: Doc[NotNegative, "weight of the masked reconstruction; 0: none"] = 1 / 3
    lambda_mf: Doc[NotNegative, "weight of the aggregation of features by class; 0: none"] = 0.05
    lambda_ms: Doc[NotNegative, "weight of the masked prediction; 0: none"] = 0.1 / 3
    mim: Doc[Literal["classwise", "basic"], "each head reconstructs its class, or all heads everything"] = "classwise"
    semantic: Doc[Literal["ce", "mse"], "masked predictions learn the classes, or the probabilities"] = "ce"
    dictionary: Doc[bool, "prototypes are moving averages; false: of this batch alone"] = True
    confidence: Doc[bool, "prototypes and aggregation weigh pixels by confidence"] = True
    alpha: Doc[Below1, "decay of the prototypes' moving average"] = 0.99
    temperature: Doc[Positive, "what the cosine distance is divided by"] = 10.0
    patch: Doc[Count, "side of a masked patch in pixels"] = 6
    ratio: Doc[float, Range(0, 1, open="()"), "share of the patches that are masked"] = 0.4
    masked_statistics: Doc[bool, "masked images move the running statistics of the batch norms too"] = False
    fp_target: Doc[Literal["model", "image"], "what the perturbed view is to be reconstructed as"] = "model"
    backward: Doc[Literal["phased", "joint"], "a backward pass for each phase (less memory) or one"] = "phased"
    cutmix_partner: Doc[Literal["batch", "self"], "another image, or this image's second weak view"] = "batch"
    exact_bn: Doc[bool, "UniMatch's joint pass in phase I instead of the lean one"] = False

    def __post_init__(self) -> None:
        """Also refuses what would be ignored."""
        super().__post_init__()
        for weight, names in MADE_BY.items():
            self._unused(names, getattr(self, weight) == 0, f"method.{weight} is 0")
        self._unused(MASKS, not self.masks, "nothing is masked: method.lambda_mp, lambda_mf and lambda_ms are 0")
        self._unused(("alpha",), not self.dictionary, "method.dictionary is false")

    def _unused(self, names: tuple[str, ...], off: bool, why: str) -> None:
        for name in names:
            if off:
                unread(self, name, why)

    @property
    def masks(self) -> bool:
        """Whether there is a phase II."""
        return self.lambda_mp > 0 or self.lambda_mf > 0 or self.lambda_ms > 0

    @property
    def teaches_itself(self) -> bool:
        """Whether the perturbed stream is reconstructed as what the model makes of the unmasked image."""
        return self.lambda_mp > 0 and self.fp_target == "model"

    @property
    def divisor(self) -> float:
        return 1 + 2 * self.lambda_u + 3 * (self.lambda_mp + self.lambda_mf + self.lambda_ms)
