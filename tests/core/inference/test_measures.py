"""What is counted of predictions, against published conventions and loops; and how a metric is added."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation
from torch import Tensor

from semiseg_cli.core.inference import measures, metrics
from semiseg_cli.core.inference.measures import Counts, Tally
from semiseg_cli.core.inference.metrics import METRICS, NOTHING_MORE, Asked, Metric

CLASSES = ("ground", "leaf", "stone", "gone")
CPU = torch.device("cpu")


def maps(seed: int, size: tuple[int, int] = (24, 40)) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels of three images, of the first three classes; some pixels are ignored."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, (3, size[0] // 8, size[1] // 8)).repeat(8, 1).repeat(8, 2)
    label[2] = np.minimum(label[2], 1)  # an image without stone
    pred = np.roll(label, 1, axis=2)
    pred[rng.random(pred.shape) < 0.02] = 1
    label[rng.random(label.shape) < 0.02] = 255
    return pred, label


def tally(pred: np.ndarray, label: np.ndarray, asked: Asked = NOTHING_MORE) -> Tally:
    found = Tally(CLASSES, 255, asked, CPU)
    for one, other in zip(pred, label, strict=True):
        found.add(torch.tensor(one)[None], torch.tensor(other)[None])
    return found


def published_f(pred: np.ndarray, label: np.ndarray, threshold: float = 0.0003) -> float:
    """The boundary F as segmentation papers compute it, in percent.

    Every class in every image has a score, 1 where neither map has a boundary of it; mean over images, then classes.
    """

    def edges(inside: np.ndarray) -> np.ndarray:
        right, below, both = (np.zeros_like(inside) for _ in range(3))
        right[:, :-1], below[:-1], both[:-1, :-1] = inside[:, 1:], inside[1:], inside[1:, 1:]
        edge = (inside ^ right) | (inside ^ below) | (inside ^ both)
        edge[-1], edge[:, -1] = inside[-1] ^ right[-1], inside[:, -1] ^ below[:, -1]
        edge[-1, -1] = False
        return edge

    radius = int(np.ceil(threshold * np.linalg.norm(label.shape[1:])))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = x**2 + y**2 <= radius**2
    scores = np.zeros((len(pred), len(CLASSES)))
    for i, k in np.ndindex(scores.shape):
        ours, theirs = edges((pred[i] == k) & (label[i] != 255)), edges(label[i] == k)
        if not ours.any() or not theirs.any():
            scores[i, k] = float(ours.any() == theirs.any())
            continue
        precision = (ours & binary_dilation(theirs, disk)).sum() / ours.sum()
        recall = (theirs & binary_dilation(ours, disk)).sum() / theirs.sum()
        scores[i, k] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return float(100 * scores.mean(0).mean())


@pytest.mark.parametrize("seed", range(4))
def test_absent_as_one_is_the_published_boundary_f(seed: int) -> None:
    pred, label = maps(seed)
    plain, _ = tally(pred, label, Asked(boundary=True)).read()
    parity, _ = tally(pred, label, Asked(boundary=True, absent_as_one=True)).read()
    assert parity["boundary_f"] == pytest.approx(published_f(pred, label), rel=1e-12)
    assert parity["boundary_f"] > plain["boundary_f"] + 2  # one class of four is nowhere
    assert parity["miou"] == plain["miou"]


def test_absent_as_zero_is_of_the_iou_alone() -> None:
    pred, label = maps(0)
    plain, by_class = tally(pred, label, Asked(boundary=True)).read()
    parity, zeros = tally(pred, label, Asked(boundary=True, absent_as_zero=True)).read()
    assert (by_class["iou"]["gone"], zeros["iou"]["gone"]) == (None, 0.0)
    assert parity["miou"] == pytest.approx(plain["miou"] * 3 / 4)
    assert parity["boundary_f"] == plain["boundary_f"]


def test_what_is_not_asked_for_is_not_measured() -> None:
    numbers, by_class = tally(*maps(0)).read()
    assert set(numbers) | set(by_class) == {metric.name for metric in METRICS if not metric.option}


def recall(counts: Counts) -> list[float | None]:
    pixels = counts.matrix_KK.sum(1).tolist()
    hits = counts.matrix_KK.diagonal().tolist()
    return [100.0 * hit / n if n else None for hit, n in zip(hits, pixels, strict=True)]


def present(pred_BHW: Tensor, label_BHW: Tensor, classes: int, ignore: int, asked: Asked) -> Tensor:
    """1 where a class is both labeled and predicted in an image, 0 where it is labeled alone."""
    both = [((pred_BHW == k).flatten(1).any(1), (label_BHW == k).flatten(1).any(1)) for k in range(classes)]
    return torch.stack([torch.where(there, ours.double(), torch.nan) for ours, there in both], 1)


@pytest.mark.parametrize(
    "metric",
    [
        Metric(name="recall", title="recall", counted=f"{__name__}:recall", by_class=True),
        Metric(name="present", title="present", image=f"{__name__}:present", by_class=True),
        Metric(name="present", title="present", image=f"{__name__}:present"),
    ],
    ids=["of counts, by class", "of images, by class", "of images"],
)
def test_a_metric_is_an_entry_and_its_function(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "METRICS", (*METRICS, metric))
    pred, label = maps(1)
    pred[0][pred[0] == 2] = 0  # one of the two images with stone has none predicted
    numbers, by_class = tally(pred, label).read()
    if metric.by_class:
        found = by_class[metric.name]
        assert found["gone"] is None
        if metric.name == "present":
            assert found == {"ground": 100.0, "leaf": 100.0, "stone": 50.0, "gone": None}
        else:
            known = label == 2
            assert found["stone"] == pytest.approx(100 * (pred[known] == 2).mean())
    else:
        assert numbers["present"] == pytest.approx((100 + 100 + 50) / 3)


def test_names_and_titles_are_of_one_metric_each() -> None:
    assert len({metric.name for metric in METRICS}) == len({metric.title for metric in METRICS}) == len(METRICS)
    assert all(bool(metric.counted) != bool(metric.image) for metric in METRICS)
    assert all(hasattr(NOTHING_MORE, metric.option) for metric in METRICS if metric.option)
    assert not metrics.HEADLINE.option
