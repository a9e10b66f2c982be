"""Tables of a step in one buffer: what the clock itself would give, and made anew in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from semiseg_cli.core.types import Clock, Moment
from semiseg_cli.core.views.tables import Tables

LIKE = torch.zeros(1)


def recipe(clock: Clock) -> dict[str, Any]:
    rng = np.random.default_rng(clock.step)
    return {
        "floats": rng.random((2, 3)).T, "flags": rng.random(5) < 0.5, "whole": rng.integers(0, 9, (1, 2)),
        "small": rng.integers(0, 9, 3).astype(np.int32),
    }  # fmt: skip


def asked(moment: Moment) -> list[Tensor]:
    return [
        *moment.tables(recipe, LIKE).values(),
        moment.value(lambda clock: clock.stage_progress / 3, LIKE),
        moment.value(lambda clock: clock.step, LIKE.double()),
    ]


def filled(clock: Clock, tables: Tables | None = None) -> Tables:
    tables = tables or Tables(torch.device("cpu"))
    tables.fill(clock)
    return tables


def test_every_step_is_given_what_its_clock_says() -> None:
    tables = filled(Clock(0, 9))
    asked(tables)
    for step in range(4):
        clock = Clock(step, 9, stage_began=0.2)
        filled(clock, tables)
        for found, wanted in zip(asked(tables), asked(clock), strict=True):
            assert found.dtype == wanted.dtype
            assert torch.equal(found, wanted)


def test_tables_stay_where_they_are() -> None:
    tables = filled(Clock(0, 9))
    asked(tables)
    first = asked(filled(Clock(1, 9), tables))
    later = asked(filled(Clock(2, 9), tables))
    assert [x.data_ptr() for x in first] == [x.data_ptr() for x in later]
    assert all(torch.equal(a, b) for a, b in zip(first, asked(Clock(2, 9)), strict=True))


def test_a_step_asks_for_no_more_than_the_first() -> None:
    tables = filled(Clock(0, 9))
    tables.tables(recipe, LIKE)
    filled(Clock(1, 9), tables)
    tables.tables(recipe, LIKE)
    with pytest.raises(RuntimeError, match="more tables"):
        tables.tables(recipe, LIKE)


def test_what_reads_the_clock_is_told_the_time_and_noted() -> None:
    tables: Any = filled(Clock(3, 9))
    assert tables.progress == 1 / 3
    assert tables.read[0].startswith("test_step_tables.py:")
    assert tables.read[0].endswith("reads `progress` of the clock")
    with pytest.raises(AttributeError):
        _ = tables.hour
