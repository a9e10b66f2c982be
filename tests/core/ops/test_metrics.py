"""The metrics against torchmetrics and plain loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_jaccard_index

from semiseg_cli.core.ops.metrics import confusion, iou, miou, pixel_accuracy


def draw(seed: int, classes: int, size: tuple[int, int, int] = (2, 7, 9)) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    pred = torch.randint(classes, size, generator=rng)
    label = torch.randint(classes, size, generator=rng)
    label[torch.rand(size, generator=rng) < 0.3] = 255
    return pred, label


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**20), classes=st.integers(2, 30))
def test_confusion_equals_torchmetrics(seed: int, classes: int) -> None:
    pred, label = draw(seed, classes)
    found = confusion(pred.to(torch.uint8), label.to(torch.uint8), classes)
    assert found.dtype == torch.int64
    assert torch.equal(found, multiclass_confusion_matrix(pred, label, classes, ignore_index=255))


@pytest.mark.parametrize("classes", [181, 182, 200])  # on both sides of the narrow integers
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_confusion_of_many_classes(classes: int, dtype: torch.dtype) -> None:
    pred, label = draw(1, classes, size=(1, 40, 40))
    wanted = torch.zeros(classes, classes, dtype=torch.int64)
    for p, t in zip(pred.flatten().tolist(), label.flatten().tolist(), strict=True):
        if t != 255:
            wanted[t, p] += 1
    assert torch.equal(confusion(pred.to(dtype), label.to(dtype), classes), wanted)


def test_ignore_may_be_a_class_number() -> None:
    pred, label = torch.tensor([[[0, 1, 1]]]), torch.tensor([[[0, 0, 1]]])
    assert confusion(pred, label, 2, ignore=0).tolist() == [[0, 0], [0, 1]]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**20), classes=st.integers(2, 12))
def test_iou_equals_torchmetrics(seed: int, classes: int) -> None:
    pred, label = draw(seed, classes, size=(1, 4, 5))
    matrix = confusion(pred, label, classes)
    wanted = multiclass_jaccard_index(pred, label, classes, average=None, ignore_index=255)
    assert iou(matrix, absent_as_zero=True) == pytest.approx((100 * wanted).tolist(), abs=1e-4)
    if matrix.any():
        accuracy = (pred == label)[label != 255].double().mean().item()
        assert pixel_accuracy(matrix) == pytest.approx(100 * accuracy)


def test_a_class_is_absent_only_without_labels_and_predictions() -> None:
    matrix = torch.tensor([[3, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]])
    assert iou(matrix) == [60.0, 0.0, None, 50.0]
    assert iou(matrix, absent_as_zero=True) == [60.0, 0.0, 0.0, 50.0]
    assert miou(matrix) == pytest.approx(110 / 3)
    assert miou(matrix, absent_as_zero=True) == pytest.approx(110 / 4)
    assert pixel_accuracy(matrix) == pytest.approx(100 * 4 / 6)


@given(st.lists(st.integers(0, 2**40), min_size=9, max_size=9))
def test_bounds(counts: list[int]) -> None:
    matrix = torch.tensor(counts).view(3, 3)
    values = [value for value in iou(matrix) if value is not None]
    assert all(0 <= value <= 100 for value in values)
    if matrix.any():
        assert min(values) <= miou(matrix) + 1e-9
        assert miou(matrix, absent_as_zero=True) <= miou(matrix) + 1e-9
        assert 0 <= pixel_accuracy(matrix) <= 100
