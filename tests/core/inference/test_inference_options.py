"""How a network is asked to be applied: what stands where nothing is said, and what is refused."""

from __future__ import annotations

import pytest
import torch

from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.inference.options import Inference
from semiseg_cli.core.inference.predictor import Predictor

META = {
    "data": {"window": 801},
    "normalise": {"mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 3.0]},
    "config": {"eval.window": "auto", "eval.stride": 0.5, "eval.batch": 3, "train.amp": "auto"},
}
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"stride": 0.0}, "stride"),
        ({"stride": 1.5}, "stride"),
        ({"batch": 0}, "batch"),
        ({"scales": ()}, "scales"),
        ({"scales": (1.0, -1.0)}, "scales"),
        ({"scales": (9.0,)}, "scales"),
        ({"window": "wide"}, "window 'wide'"),
        ({"window": "31"}, "window '31'"),
    ],
)
def test_what_no_prediction_can_be_made_with(how: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Inference(**how)
    assert caught.value.fix.startswith(f"--{next(iter(how))}")


def test_what_is_not_said_is_as_in_training() -> None:
    found = Predictor.of(torch.nn.Identity(), META, CPU)
    assert (found.window, found.stride, found.batch, found.scales, found.flip) == (801, 0.5, 3, (1.0,), False)
    assert (found.mean, found.std, found.amp) == ([0.1, 0.2, 0.3], [1.0, 2.0, 3.0], False)


def test_what_is_said_goes_before() -> None:
    how = Inference(window="none", stride=1.0, batch=5, scales=(0.5, 1.0), flip=True)
    found = Predictor.of(torch.nn.Identity(), META, CPU, how)
    assert (found.window, found.stride, found.batch, found.scales, found.flip) == (0, 1.0, 5, (0.5, 1.0), True)


@pytest.mark.parametrize(
    ("trained", "asked", "protocol", "wanted"),
    [
        ("auto", "auto", None, 801),  # the checkpoint's dataset
        ("auto", "auto", 0, 0),  # another dataset
        ("65", "auto", None, 65),
        ("65", "auto", 0, 65),
        ("65", "97", None, 97),
        ("none", "auto", None, 0),
    ],
)
def test_the_window_is_the_nearest_that_was_named(trained: str, asked: str, protocol: int | None, wanted: int) -> None:
    meta = {**META, "config": {**META["config"], "eval.window": trained}}
    assert Predictor.of(torch.nn.Identity(), meta, CPU, Inference(window=asked), protocol).window == wanted
