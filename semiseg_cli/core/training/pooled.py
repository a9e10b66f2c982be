"""Whole images' statistics for the branch of a decoder that sees the mean of an image.

That branch (`ImagePooling`, of ASPP and of pyramid pooling) has one value per channel and image. In training it is the
mean of a crop, and its batch norm takes running statistics of few crops of few images; whole images have other means,
and less spread, so that what is normalised with those statistics can be far off: 25 deviations in RESULTS.md, "Points
lost to running statistics". Within `shown_whole` these batch norms have the statistics of training images as an
evaluation shows them, and so has a network that is measured and saved there; after it, their own again. Training reads
neither: networks in training normalise with their batches, and so does a teacher's branch (`Teacher`, by_batch).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.errors import DataError
from semiseg_cli.core.inference.predictions import load_image
from semiseg_cli.core.inference.predictor import Predictor
from semiseg_cli.core.models.decoders.blocks import ImagePooling

FEWEST = 4  # images, below which a variance says nothing and the running statistics stay


def branches(net: nn.Module) -> list[ImagePooling]:
    return [module for module in net.modules() if isinstance(module, ImagePooling)]


def spread(lists: Sequence[Sequence[Record]], count: int) -> list[Record]:
    """`count` of the records or fewer, in equal parts of each list, evenly over it."""
    each = [min(len(records), count // len(lists)) for records in lists]
    return [records[i * len(records) // n] for records, n in zip(lists, each, strict=True) for i in range(n)]


@contextmanager
def shown_whole(predictor: Predictor, records: Sequence[Record]) -> Iterator[None]:
    """Within it the branches of `predictor.net` have the statistics of these images, shown as in an evaluation.

    An image that cannot be read is left out: training says so where it meets it.
    """
    found = branches(predictor.net)
    seen: list[list[Tensor]] = [[] for _ in found]
    hooks = [
        branch.conv.register_forward_hook(lambda _, __, y, to=to: to.append(y.detach().float().flatten(1)))
        for branch, to in zip(found, seen, strict=True)
    ]
    try:
        with predictor.evaluating(), torch.no_grad():
            for record in records if found else ():
                try:
                    image_HW3, _ = load_image(record)
                except DataError:
                    continue
                predictor(torch.from_numpy(predictor.seen(image_HW3))[None])
    finally:
        for hook in hooks:
            hook.remove()
    own = [(mean, var, mean.clone(), var.clone()) for mean, var in map(_statistics, found)]
    try:
        for (mean_C, var_C, *_), parts in zip(own, seen, strict=True):
            if len(y_NC := torch.cat([torch.empty(0, len(mean_C), device=mean_C.device), *parts])) >= FEWEST:
                mean_C.copy_(y_NC.mean(0))
                var_C.copy_(y_NC.var(0))
        yield
    finally:
        for mean_C, var_C, mean_before_C, var_before_C in own:
            mean_C.copy_(mean_before_C)
            var_C.copy_(var_before_C)


def _statistics(branch: ImagePooling) -> tuple[Tensor, Tensor]:
    mean_C, var_C = branch.norm.running_mean, branch.norm.running_var
    assert mean_C is not None
    assert var_C is not None
    return mean_C, var_C
