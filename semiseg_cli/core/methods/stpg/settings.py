"""The settings of STPG (arXiv 2409.12680), and which of them nothing would read where a part of it is off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated as Doc
from typing import Any, ClassVar, Literal

from semiseg_cli.core.methods.base import SemiSettings
from semiseg_cli.core.methods.stpg.mismatch import SETS
from semiseg_cli.core.settings import Below1, Count, Natural, NotNegative, Positive, Probability, require, unread

CONTRAST = ("match_after", "memory_topk", "phi", "pixels_per_class", "temperature", "embedding")  # how it is done


@dataclass(frozen=True, kw_only=True)
class STPGSettings(SemiSettings):
    retired: ClassVar[Mapping[str, Any]] = {"projection_input": "aspp", "deployed": "gen_student"}

    modules: Doc[Literal["dual", "single"], "both modules, or Gen-Student with its own teacher alone"] = "dual"
    pixel_selection: Doc[str, "pseudo-labels that Pro-Student learns: all, or consistent, high, low joined by +"] = (
        "consistent+high"
    )
    alpha: Doc[Below1, "decay of the teachers' moving averages"] = 0.99
    lambda_u: Doc[NotNegative, "weight of the unlabeled losses"] = 1.0
    lambda_ctr: Doc[NotNegative, "weight of the contrastive losses; 0: none"] = 0.1
    match_after: Doc[Count, "steps with labeled pixels of a class after which it is matched with an anchor"] = 100
    memory_size: Doc[Natural, "features remembered of every class, N; 0: no contrastive learning"] = 256
    memory_topk: Doc[Count, "at most so many new ones of a class and batch, those nearest to its anchor"] = 32
    phi: Doc[Probability, "confidence of Gen-Teacher that a remembered pixel needs more than"] = 0.95
    pixels_per_class: Doc[Count, "at most so many pixels of a class, batch and student are contrasted"] = 256
    temperature: Doc[Positive, "tau of the anchors and of the anchor loss"] = 0.5
    embedding: Doc[Count, "dimensions that features are projected to"] = 256
    colour: Doc[bool, "also colour augmentation in the strong view"] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.modules == "single":
            unread(self, "pixel_selection", "method.modules is single: without a Pro-Student nothing is selected")
        if self.lambda_ctr == 0:
            unread(self, "memory_size", "method.lambda_ctr is 0")
        if self.memory_size == 0:
            unread(self, "lambda_ctr", "method.memory_size is 0")
        for name in () if self.contrasts else CONTRAST:
            unread(self, name, "method.lambda_ctr or memory_size is 0")
        parts, sets = self.pixel_selection.split("+"), ", ".join(SETS)
        known = self.pixel_selection == "all" or (set(parts) <= set(SETS) and len(set(parts)) == len(parts))
        gone = " ('none', under which Pro-Student learned no pseudo-label, is gone)"
        allowed = f"all, or any of {sets} joined by +{gone if self.pixel_selection == 'none' else ''}"
        require(known, "method.pixel_selection", self.pixel_selection, allowed)

    @property
    def selected(self) -> frozenset[str]:
        """The sets of pseudo-labels that Pro-Student learns, out of SETS."""
        return frozenset(SETS if self.pixel_selection == "all" else self.pixel_selection.split("+"))

    @property
    def contrasts(self) -> bool:
        """Whether there is contrastive learning."""
        return self.lambda_ctr > 0 and self.memory_size > 0
