"""Tables of an evaluation, from a matrix that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from semiseg_cli.core.report.tables import MOST, by_frequency, colour_of, confusion, mistakes

CLASSES = ("sky", "pole", "road", "ship")
MATRIX = [[90, 0, 10, 0], [5, 15, 20, 0], [30, 0, 170, 0], [0, 0, 0, 0]]


def test_classes_come_by_frequency() -> None:
    rows = by_frequency(CLASSES, [(1, 2, 255)], [29.4, 11.8, 58.8, 0.0], [{"sky": 1.0, "ship": None}, {"sky": 2.0}])
    assert [row.name for row in rows] == ["road", "sky", "pole", "ship"]
    assert (rows[1].colour, rows[1].iou) == ("#0102ff", [1.0, 2.0])
    assert rows[3].iou == [None, None]
    assert [row.name for row in by_frequency(CLASSES, [], [], [{}])] == list(CLASSES)
    assert len({colour_of([], k) for k in range(40)}) == 40


def test_the_matrix_is_in_percent_of_the_truth() -> None:
    found = confusion(CLASSES, MATRIX)
    assert (found.names, found.left_out) == (["road", "sky", "pole"], 1)
    assert found.shares == [[85.0, 15.0, 0.0], [10.0, 90.0, 0.0], [50.0, 12.5, 37.5]]
    many = confusion([str(k) for k in range(30)], np.eye(30, dtype=int).tolist())
    assert (len(many.names), many.left_out) == (MOST, 30 - MOST)


def test_the_worst_mistakes() -> None:
    first, second, *rest = mistakes(CLASSES, MATRIX)
    assert (first.truth, first.taken_for, first.share) == ("road", "sky", 15.0)
    assert first.of_errors == pytest.approx(100 * 30 / 65)
    assert (second.truth, second.taken_for, second.share) == ("pole", "road", 50.0)
    assert len(rest) == 2
    assert mistakes(CLASSES, np.diag([1, 2, 3, 0]).tolist()) == []
