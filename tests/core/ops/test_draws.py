"""Draws are a function of (seed, step, slot, key) and of nothing else."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.ops.draws import Draws, neighbours


def draws(*slots: int, seed: int = 0, step: int = 0) -> Draws:
    return Draws(seed, step, np.array(slots), 64)


@given(st.integers(0, 2**31), st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 8), st.integers(1, 20))
def test_micro_batches_do_not_matter(seed: int, step: int, first: int, more: int, count: int) -> None:
    whole = draws(*range(first + more), seed=seed, step=step).uniform("strong/s1", count)
    part = draws(*range(first, first + more), seed=seed, step=step).uniform("strong/s1", count)
    assert np.array_equal(whole[first:], part)


def test_rows_are_those_of_one_long_table() -> None:
    """Whatever slots are asked for, in whatever order: runs that began earlier go on with the same numbers."""
    slots = [9, 8, 3, 40, 41, 3]
    table = np.random.default_rng([5, 7, zlib.crc32(b"a")]).random((64, 11))
    assert np.array_equal(draws(*slots, seed=5, step=7).uniform("a", 11), table[slots])
    assert np.array_equal(draws(*slots, seed=5).at(7).uniform("a", 11), table[slots])


def test_what_makes_a_draw_differ() -> None:
    base = draws(0, 1).uniform("a", 4)
    assert np.array_equal(base, draws(0, 1).uniform("a", 4))
    others = [draws(0, 1).uniform("b", 4), draws(0, 1, step=1).uniform("a", 4), draws(0, 1, seed=1).uniform("a", 4)]
    for i, one in enumerate([base, *others]):
        for other in [base, *others][i + 1 :]:
            assert not np.isclose(one, other).any()
    assert not np.isclose(base[0], base[1]).any()


def test_draws_are_uniform() -> None:
    values = draws(*range(64)).uniform("a", 1000)
    assert values.shape == (64, 1000)
    assert values.min() >= 0
    assert values.max() < 1
    assert abs(values.mean() - 0.5) < 0.005
    assert abs(values.var() - 1 / 12) < 0.002


@given(st.integers(2, 65))
def test_everybody_has_another_and_is_had_once(batch: int) -> None:
    partners = neighbours(np.arange(batch), batch)
    assert sorted(partners) == list(range(batch))
    assert not (partners == np.arange(batch)).any()


def test_alone_an_image_is_its_own_neighbour() -> None:
    assert neighbours(np.arange(1), 1).tolist() == [0]


@given(st.integers(1, 6), st.integers(1, 6))
def test_even_micro_batches_hold_their_neighbours(half: int, parts: int) -> None:
    micro, batch = 2 * half, 2 * half * parts
    for part in range(parts):
        slots = np.arange(part * micro, (part + 1) * micro)
        places = Draws(0, 0, slots, batch).neighbours()
        assert (slots[places] == neighbours(slots, batch)).all()


def test_a_suffix_makes_other_draws() -> None:
    plain, other = draws(0, 1).uniform("a/x", 3), Draws(0, 0, np.arange(2), 64, "/x").uniform("a", 3)
    assert np.array_equal(plain, other)


@pytest.mark.parametrize(("slots", "batch"), [([0], 2), ([0, 2], 4), ([0, 1, 2], 6), ([4], 5)])
def test_pairs_that_are_torn_apart_are_refused(slots: list[int], batch: int) -> None:
    with pytest.raises(UsageError, match="pairs are torn apart") as caught:
        Draws(0, 0, np.array(slots), batch).neighbours()
    assert "train.micro_batch" in caught.value.fix
