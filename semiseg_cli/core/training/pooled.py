"""Whole images' statistics for the branch of a decoder that sees the mean of an image.

That branch (`ImagePooling`, of ASPP and of pyramid pooling) has one value per channel and image. In training it is the
mean of a crop, and its batch norm takes running statistics of few crops of few images; whole images have other means,
and less spread, so that what is normalised with those statistics can be far off: 25 deviations in RESULTS.md, "Points
lost to running statistics". Within `having` these batch norms have the statistics of training images as an
evaluation shows them, and so has a network that is measured and saved there; after it, their own again. Training reads
neither: networks in training normalise with their batches, and so does a teacher's branch (`Teacher`, by_batch).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from semiseg_cli.core.data.shards import member
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.errors import DataError
from semiseg_cli.core.inference.predictions import load_image
from semiseg_cli.core.inference.predictor import Predictor
from semiseg_cli.core.models.decoders.blocks import ImagePooling

Statistics = tuple[Tensor, Tensor]  # mean and variance, (C,)
FEWEST = 4  # images, below which a variance says nothing and the running statistics stay


def branches(net: nn.Module) -> list[ImagePooling]:
    return [module for module in net.modules() if isinstance(module, ImagePooling)]


def spread(lists: Sequence[Sequence[Record]], count: int) -> list[Record]:
    """`count` of the records or fewer, in equal parts of each list, evenly over it.

    Of a list in shards, which are random samples of it, they are the last: from one shard or two.
    """
    each = [(records, min(len(records), count // len(lists))) for records in lists]
    whole = [len(records) if n and member(records[-1].image) is None else n for records, n in each]
    return [
        records[len(records) - all_ + i * all_ // n]
        for (records, n), all_ in zip(each, whole, strict=True)
        for i in range(n)
    ]


def of_whole_images(predictor: Predictor, records: Sequence[Record]) -> list[Statistics]:
    """Of every branch of `predictor.net`, with these images shown as in an evaluation.

    An image that cannot be read is left out: training says so where it meets it. Of fewer than FEWEST they are the
    branch's own.
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
    return [
        (y_NC.mean(0), y_NC.var(0)) if len(y_NC) >= FEWEST else _copies(_statistics(branch))
        for branch, y_NC in zip(found, [torch.cat(parts) if parts else torch.empty(0) for parts in seen], strict=True)
    ]


@contextmanager
def having(net: nn.Module, statistics: Sequence[Statistics]) -> Iterator[None]:
    """Within it the branches of `net` have these statistics, and after it their own again."""
    held = [_statistics(branch) for branch in branches(net)]
    own = [_copies(each) for each in held]

    def write(values: Sequence[Statistics]) -> None:
        for (mean_C, var_C), (new_mean_C, new_var_C) in zip(held, values, strict=True):
            mean_C.copy_(new_mean_C)
            var_C.copy_(new_var_C)

    try:
        write(statistics)
        yield
    finally:
        write(own)


def _copies(statistics: Statistics) -> Statistics:
    mean_C, var_C = statistics
    return mean_C.clone(), var_C.clone()


def _statistics(branch: ImagePooling) -> Statistics:
    mean_C, var_C = branch.norm.running_mean, branch.norm.running_var
    assert mean_C is not None
    assert var_C is not None
    return mean_C, var_C
