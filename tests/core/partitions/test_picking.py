"""Picking against brute force: every choice of medoids, greedy orders and duplicates by definition."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from semiseg_cli.core.partitions import picking
from semiseg_cli.core.partitions.picking import ALIKE, doubt, in_order, k_means, near_duplicates, pick, unit_rows

NOBODY = np.zeros(0, np.int64)


def unit(x: Any) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def clouds(seed: int = 0, sizes: tuple[int, ...] = (6, 5, 4), width: int = 12, spread: float = 0.15) -> np.ndarray:
    """Rows around one axis each."""
    rng = np.random.default_rng(seed)
    means = np.eye(width)[np.repeat(np.arange(len(sizes)), sizes)]
    return unit(means + spread * rng.normal(size=(sum(sizes), width)))


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(((x[:, None].astype(float) - y) ** 2).sum(2))


def test_medoids_of_the_best_clusters_by_trying_all() -> None:
    x = clouds(sizes=(3, 3, 1))
    def cost(labels: tuple[int, ...]) -> float:
        groups = [x[np.array(labels) == k].astype(float) for k in range(3)]
        return sum(((g - g.mean(0)) ** 2).sum() for g in groups) if all(map(len, groups)) else np.inf

    best = np.array(min(itertools.product(range(3), repeat=7), key=cost))
    expected = set()
    for k in range(3):
        rows = np.flatnonzero(best == k)
        summed = (distances(x[rows], x[rows]) ** 2).sum(1)  # the medoid by its definition
        expected.add(int(rows[summed.argmin()]))
    found = pick(x, NOBODY, 3)
    assert set(found.places) == expected
    assert [set(np.flatnonzero(found.nearest == k)) for k in range(3)] == [
        set(np.flatnonzero(best == best[place])) for place in found.places
    ]


def test_labeled_photos_stand_for_what_is_like_them() -> None:
    x = clouds()  # rows 0 to 5, 6 to 10 and 11 to 14
    found = pick(x, np.array([0, 1]), 2)
    assert {6 <= place < 11 for place in found.places} == {True, False}
    assert all(place >= 6 for place in found.places)
    assert (found.nearest[:6] == -1).all()
    assert (found.nearest[6:] >= 0).all()
    assert pick(x, np.array([0, 6, 11]), 1).places[0] not in (0, 6, 11)


def test_the_mean_of_a_cluster_is_weighted() -> None:
    x = unit(np.eye(8) + 0.05 * np.random.default_rng(4).normal(size=(8, 8)))
    for heavy in range(8):
        weight = np.full(8, 1e-4)
        weight[heavy] = 1
        assert pick(x, NOBODY, 1, weight_N=weight).places == [heavy]


def test_every_next_photo_is_the_one_that_helps_most() -> None:
    rng = np.random.default_rng(1)
    x, fixed = (unit(rng.normal(size=(rows, 5))) for rows in (6, 2))
    sizes = rng.uniform(1, 9, 6).astype(np.float32)
    for there in (fixed, fixed[:0]):
        order = in_order(x, sizes, there)
        assert sorted(order) == list(range(6))
        for step in range(6):
            def rest(k: int) -> float:
                return float(sizes @ distances(x, np.concatenate([there, x[[*order[:step], k]]])).min(1) ** 2)  # noqa: B023

            assert order[step] == min((k for k in range(6) if k not in order[:step]), key=rest)


@pytest.mark.parametrize("rows", [4096, 7])
def test_near_duplicates_by_definition(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(picking, "ROWS", rows)
    x = clouds(3, sizes=(9, 9, 9), spread=0.06)
    away, expected, kept = distances(x, x), [], list[int]()
    for row in range(len(x)):
        near = [other for other in kept if away[row, other] <= 0.2]
        expected.append(min(near, key=lambda other: away[row, other]) if near else row)
        kept += [] if near else [row]
    assert near_duplicates(x, 0.2).tolist() == expected
    assert 3 < len(kept) < 27


def test_near_duplicates_count_as_one_and_are_never_both_picked() -> None:
    x = clouds(sizes=(3, 3, 3), spread=0.2)
    burst = unit(x[0] + 0.005 * np.random.default_rng(2).normal(size=(200, x.shape[1])))
    many = np.concatenate([x, burst])
    found = pick(many, NOBODY, 9)
    assert len(set(found.places)) == 9
    assert (found.alike[9:] == 0).all()
    assert set(found.places) == set(range(9))
    assert set(pick(many, NOBODY, 3).places) == set(pick(x, NOBODY, 3).places)
    assert pick(many, np.array([9]), 9).places != []
    assert not {0, *range(9, 209)} & set(pick(many, np.array([9]), 9).places)  # all like the labeled one


def test_fewer_where_no_more_are_different() -> None:
    same = np.repeat(clouds(sizes=(1,)), 50, 0)
    found = pick(same, NOBODY, 5)
    assert found.places == [0]
    assert (found.nearest == 0).all()
    assert pick(same, np.array([7]), 5).places == []
    assert len(pick(clouds(), NOBODY, 99).places) == 15


def test_a_seed_repeats_and_no_photo_comes_twice() -> None:
    x = unit(np.random.default_rng(5).normal(size=(300, 16)))
    picks = [pick(x, np.arange(4), 12, seed=seed).places for seed in (0, 0, 1)]
    assert picks[0] == picks[1] != picks[2]
    assert len({*picks[0]} - {0, 1, 2, 3}) == 12


def test_clusters_improve_on_their_start_and_none_is_empty() -> None:
    x = unit(np.random.default_rng(6).normal(size=(60, 4)))
    fixed = x[:3]
    for count in (1, 5, 40):
        cluster, square = k_means(x[3:], np.ones(57, np.float32), fixed, count, 0)
        assert set(range(3, 3 + count)) <= set(cluster.tolist())
        drawn = [np.random.default_rng(seed).permutation(57)[:count] for seed in range(20)]
        random = [distances(x[3:], np.concatenate([fixed, x[3:][rows]])).min(1) ** 2 for rows in drawn]
        assert square.sum() < min(each.sum() for each in random)


def _reader(x: np.ndarray) -> Callable[[slice], np.ndarray]:
    return lambda rows: 3 * x[rows]


def test_rows_that_do_not_fit_are_kept_on_their_principal_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    flat = unit(rng.normal(size=(40, 5)) @ rng.normal(size=(5, 30)))
    np.testing.assert_allclose(unit_rows(_reader(flat), 40, 30), flat, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(picking, "NUMBERS", 40 * 5)
    monkeypatch.setattr(picking, "ROWS", 16)
    small = unit_rows(_reader(flat), 40, 30)
    assert small.shape == (40, 5)
    np.testing.assert_allclose(distances(small, small), distances(flat, flat), atol=1e-5)  # five axes hold all


def test_doubt_is_the_mean_entropy_where_classes_are_as_frequent() -> None:
    pixels = np.array([[50.0, 50.0], [50.0, 50.0]])
    entropy = np.array([[5.0, 20.0], [10.0, 10.0]])
    found = doubt(entropy, pixels)
    np.testing.assert_allclose(found / found[0], [1, 20 / 25], rtol=1e-6)
    rare = doubt(np.array([[10.0, 0.0], [0.0, 10.0]]), np.array([[99.0, 1.0], [60.0, 40.0]]))
    share = np.array([159, 41]) / 200
    np.testing.assert_allclose(rare, 0.1 / np.sqrt(share), rtol=1e-6)
    assert (doubt(np.zeros((2, 2)), pixels) > 0).all()  # a weight, also where nothing is unsure
    assert ALIKE < 0.2


def test_what_resembles_any_labeled_photo_is_not_picked() -> None:
    """Labeled photos that resemble each other stand for what resembles either."""
    angle = np.array([0, 0.1, 0.2, 1.5])  # 0.1 apart, the third 0.2 from the first
    x = unit(np.stack([np.cos(angle), np.sin(angle)], 1))
    found = pick(x, np.array([0, 1]), 2)
    assert found.places == [3]
    assert found.alike.tolist() == [0, 1, 1, 3]


def test_an_empty_cluster_never_takes_the_last_row_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a line: 10 is alone with the centre at 18 and the farthest row, when the centre at -50 has none."""
    x = np.array([[0], [1], [10]], np.float32)
    start = np.array([[18], [0.5], [-50]], np.float32)
    monkeypatch.setattr(picking, "_spread", lambda *given: start)
    with warnings.catch_warnings(action="error"):  # of a mean of nothing
        cluster, square = k_means(x, np.ones(3, np.float32), np.zeros((0, 1), np.float32), 3, 0)
    assert sorted(cluster.tolist()) == [0, 1, 2]
    assert square.tolist() == [0, 0, 0]
