"""Draws are a function of (seed, step, slot, key) and of nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from semiseg_cli.core.ops.draws import Draws


def draws(*slots: int, seed: int = 0, step: int = 0) -> Draws:
    return Draws(seed, step, np.array(slots))


@given(st.integers(0, 2**31), st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 8), st.integers(1, 20))
def test_micro_batches_do_not_matter(seed: int, step: int, first: int, more: int, count: int) -> None:
    whole = draws(*range(first + more), seed=seed, step=step).uniform("strong/s1", count)
    part = draws(*range(first, first + more), seed=seed, step=step).uniform("strong/s1", count)
    assert np.array_equal(whole[first:], part)


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


@given(st.integers(0, 1000), st.integers(0, 100), st.integers(0, 3), st.integers(2, 12))
def test_nobody_is_his_own_partner(seed: int, step: int, part: int, count: int) -> None:
    order = Draws(seed, step, np.arange(part * count, (part + 1) * count)).derangement("partners/s1")
    assert sorted(order) == list(range(count))
    assert not (order == np.arange(count)).any()


def test_alone_an_image_is_its_own_partner() -> None:
    assert draws(3).derangement("a").tolist() == [0]


def test_partners_change_with_step_key_and_micro_batch() -> None:
    def order(first: int = 0, step: int = 0, key: str = "a") -> tuple[int, ...]:
        return tuple(Draws(0, step, np.arange(first, first + 16)).derangement(key).tolist())

    assert order() == order()
    assert len({order(), order(first=16), order(step=1), order(key="b")}) == 4


def test_every_other_image_can_be_the_partner() -> None:
    seen = {int(Draws(0, step, np.arange(4)).derangement("a")[0]) for step in range(50)}
    assert seen == {1, 2, 3}
