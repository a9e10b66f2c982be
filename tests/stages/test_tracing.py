"""Outlines of a label map: drawn again they are the map, without a gap or an overlap at any tolerance."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.sources.polygons.outlines import area, filled
from semiseg_cli.stages.tracing import Outline, traced

EMPTY = 254


def drawn(outlines: list[Outline], shape: tuple[int, ...]) -> np.ndarray:
    """The label map of outlines; no two of which may cover a pixel."""
    mask = np.full(shape, EMPTY, np.uint8)
    for label, ring in outlines:
        top, left, inside = filled(ring, *shape)
        part = mask[top : top + inside.shape[0], left : left + inside.shape[1]]
        assert (part[inside] == EMPTY).all()
        part[inside] = label
    return mask


def blobs(height: int, width: int, classes: int, seed: int = 0) -> np.ndarray:
    """Smooth regions as a network predicts them."""
    noise = np.random.default_rng(seed).normal(size=(classes, 6, 8)).astype(np.float32)
    scores = [cv2.resize(each, (width, height), interpolation=cv2.INTER_CUBIC) for each in noise]
    return np.argmax(scores, axis=0).astype(np.uint8)


@settings(max_examples=30, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3)))
def test_pixels_as_they_are(labels: np.ndarray) -> None:
    """Noise: regions that touch at corners, lie within each other, are a single pixel."""
    assert np.array_equal(drawn(traced(labels, 0), labels.shape), labels)


@settings(max_examples=30, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3)), st.floats(0.1, 9))
def test_simplified_outlines_neither_gape_nor_overlap(labels: np.ndarray, tolerance: float) -> None:
    assert (drawn(traced(labels, tolerance), labels.shape) != EMPTY).all()


def test_a_tolerance_of_one_changes_less_than_half_a_percent() -> None:
    labels = blobs(150, 200, 4)
    exact, simple = traced(labels, 0), traced(labels, 1)
    assert 0 < (drawn(simple, labels.shape) != labels).mean() < 0.005
    assert sum(len(ring) for _, ring in simple) < 0.5 * sum(len(ring) for _, ring in exact)


def test_holes_and_what_lies_in_them() -> None:
    labels = np.zeros((40, 40), np.uint8)
    labels[5:35, 5:35] = 1
    labels[8:18, 8:18] = labels[20:30, 20:30] = 0
    labels[10:14, 10:14] = 2
    found = traced(labels, 0, without=[0])
    assert [label for label, _ in found] == [1, 2]
    assert [area(ring) for _, ring in found] == [30 * 30 - 2 * 10 * 10, 4 * 4]
    mask = drawn(found, labels.shape)
    assert np.array_equal(np.where(mask == EMPTY, 0, mask), labels)


def test_one_class_is_one_rectangle() -> None:
    (outline,) = traced(np.full((7, 9), 3, np.uint8), 1)
    assert outline.label == 3
    assert sorted(map(tuple, outline.ring.tolist())) == [(0, 0), (0, 7), (9, 0), (9, 7)]


def test_without_shapely_there_is_a_fix_to_paste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shapely", None)
    with pytest.raises(UsageError) as caught:
        traced(np.zeros((3, 3), np.uint8), 1)
    assert caught.value.fix == "pip install 'semiseg[labels]'"
