"""Mean, deviation and interval against SciPy's own interval and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import sem, t

from semiseg_cli.core.spread import spread


@given(st.lists(st.floats(0, 100), min_size=2, max_size=9))
def test_the_interval_is_students(values: list[float]) -> None:
    found = spread(values)
    assert found.count == len(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.deviation == pytest.approx(np.std(values, ddof=1), abs=1e-9)
    low = t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=max(sem(values), 1e-300))[0]
    assert found.half is not None
    assert found.mean - found.half == pytest.approx(low, abs=1e-6)


def test_one_value_has_no_deviation() -> None:
    found = spread([3.5])
    assert (found.mean, found.deviation, found.half, found.count) == (3.5, None, None, 1)
