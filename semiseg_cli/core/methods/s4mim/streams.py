"""The images that S4MIM (arXiv 2411.08756) masks: three streams on one batch axis, each as long as the micro-batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

STREAMS = ("labeled", "strong", "feature")  # x^l, x^s, and x^w under feature perturbation


@dataclass(frozen=True)
class Streams:
    """What phase I tells phase II, all without gradient: M = 3B labeled, strong and perturbed weak images in a row.

    Every image is given by its own prediction of phase I, and by the classes it is reconstructed with.
    """

    index_M: Tensor  # of the image in its list
    image_M3HW: Tensor  # normalised
    group_MHW: Tensor  # class of every pixel: own prediction (labeled), mixed weak one (strong), weak one (perturbed)
    label_MHW: Tensor  # argmax of the image's own prediction
    conf_MHW: Tensor  # its maximum
    valid_MHW: Tensor  # not padding
    known_MHW: Tensor  # nor ignored in the label
    prob_MKHW: Tensor | None  # the whole prediction, where the semantic loss is MSE
    pixels_3: Tensor  # what a sum over the valid pixels of each stream is divided by
    maps: list[Tensor]  # of the weak images, unmasked and perturbed; none where unused

    def pictures(self, mask_MHW: Tensor, r_M3HW: Tensor) -> dict[str, Tensor]:
        """What `semiseg viz --reconstruction` draws, e.g. "strong/mask"."""
        shown = {"index": self.index_M, "image": self.image_M3HW, "group": self.group_MHW, "valid": self.valid_MHW}
        shown |= {"mask": mask_MHW, "reconstruction": r_M3HW}
        parts = ((name, zip(STREAMS, x.chunk(3), strict=True)) for name, x in shown.items())
        return {f"{stream}/{name}": part for name, streams in parts for stream, part in streams}


def in_order(both_2B: Tensor, strong_B: Tensor) -> Tensor:
    """The three streams in a row, of what the labeled and perturbed weak images gave together and the strong ones."""
    labeled, perturbed = both_2B.chunk(2)
    return torch.cat([labeled, strong_B, perturbed])


def stream_means(value_MHW: Tensor, streams: Streams) -> Tensor:
    """The sum over the three streams of each one's mean over its valid pixels."""
    total_3 = (value_MHW * streams.valid_MHW).reshape(3, -1).sum(1)
    return (total_3 / streams.pixels_3).sum()
