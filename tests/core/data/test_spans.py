"""Ranges of rows beside sets of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semiseg_cli.core.data.spans import Spans

numbers = st.sets(st.integers(0, 40))


@given(numbers)
def test_they_are_the_numbers_that_they_were_made_of(some: set[int]) -> None:
    spans, ascending = Spans.of(sorted(some)), sorted(some)
    assert len(spans) == len(some)
    assert spans.at(np.arange(len(some))).tolist() == ascending
    assert [spans.number(place) for place in range(len(some))] == ascending
    everywhere = spans.places(np.arange(50)).tolist()
    assert everywhere == [ascending.index(number) if number in some else -1 for number in range(50)]
    assert [number for first, last in spans.blocks(3) for number in range(first, last)] == ascending
    assert all(0 < last - first <= 3 for first, last in spans.blocks(3))


@given(numbers, numbers)
def test_they_are_taken_apart_as_sets_are(one: set[int], other: set[int]) -> None:
    a, b = Spans.of(sorted(one)), Spans.of(sorted(other))
    assert a.without(b) == Spans.of(sorted(one - other))
    assert a.meet(b) == Spans.of(sorted(one & other))
    assert a.meet(b).within(b).at(np.arange(len(one & other))).tolist() == [
        sorted(other).index(number) for number in sorted(one & other)
    ]
    assert (a == b) == (one == other)


@given(numbers, st.integers(0, 41), st.integers(0, 41))
def test_a_part_of_them(some: set[int], start: int, stop: int) -> None:
    start, stop = min(start, len(some)), min(stop, len(some))
    assert Spans.of(sorted(some)).part(start, stop) == Spans.of(sorted(some)[start:stop])


@pytest.mark.parametrize("bounds", [[(3, 3)], [(5, 4)], [(0, 2), (2, 3)], [(4, 6), (1, 2)], [(-1, 2)], [0, 1, 2]])
def test_what_a_file_may_say_instead_is_refused(bounds: Any) -> None:
    with pytest.raises(ValueError, match=r"ascend|reshape"):
        Spans(bounds)
