"""The order of images: a permutation of every number of them, keyed, and the same for ever."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from semiseg_cli.core.data import order
from semiseg_cli.core.data.order import FILES, HEADS, STORED, Blocks, by_blocks, permuted, pick


@given(st.integers(1, 120), st.text(max_size=5))
def test_every_place_goes_to_another_one(count: int, key: str) -> None:
    assert sorted(permuted(place, count, key) for place in range(count)) == list(range(count))


def test_keys_and_counts_have_orders_of_their_own() -> None:
    orders = {tuple(permuted(i, count, key) for i in range(40)) for count in (40, 41) for key in ("0 2 0", "0 2 1")}
    assert len(orders) == 4


def test_an_order_is_as_even_as_a_random_one() -> None:
    """Where a place goes, and how far from its neighbour, says nothing: both chi-squared over 16 intervals."""
    count = 10_007
    moved = np.array([permuted(place, count, "even") for place in range(count)])
    ahead = np.diff(moved) % count
    pairs = np.histogram2d(np.arange(count), moved, bins=(4, 4))[0].ravel()
    assert min(chisquare(each).pvalue for each in (pairs, np.histogram(ahead, 16)[0])) > 1e-3


def test_the_order_of_a_large_pool_never_changes() -> None:
    """A run goes on with the images that it would have seen: these are written down."""
    seen = [pick(7, "unlabeled", 10**7, position) for position in (0, 1, 2, 10**7 - 1, 10**7, 3 * 10**7 + 5)]
    assert seen == [9218743, 2941386, 3525685, 2995518, 4453186, 1812277]
    assert max(pick(0, "labeled", STORED + 1, position) for position in range(50)) > STORED // 2


def test_the_order_of_a_small_pool_is_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick(3, "unlabeled", 50, 60) == np.random.default_rng([3, 2, 1]).permutation(50)[10]
    assert [pick(7, "labeled", 5, position) for position in range(5)] == [3, 0, 2, 1, 4]
    monkeypatch.setattr(order, "permuted", None)
    assert pick(0, "unlabeled", STORED, 0) == np.random.default_rng([0, 2, 0]).permutation(STORED)[0]


@pytest.mark.parametrize("extra", [0, 1])
def test_a_pass_of_a_large_pool_has_every_image_once(extra: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "STORED", 10)
    count = 11 + extra
    passes = [[pick(1, "unlabeled", count, number * count + i) for i in range(count)] for number in range(3)]
    assert all(sorted(each) == list(range(count)) for each in passes)
    assert passes[0] != passes[1] != passes[2]


@given(st.integers(1, 400), st.integers(1, 60), st.integers(0, 59), st.text(max_size=3))
def test_a_pass_by_blocks_has_every_image_once(count: int, size: int, begin: int, key: str) -> None:
    seen = [by_blocks(place, count, key, Blocks(size, begin)) for place in range(count)]
    assert sorted(seen) == list(range(count))


@pytest.mark.parametrize(("count", "begin"), [(6400, 0), (6400 + 37, 5), (6000, 63)])
def test_reads_stay_within_few_shards(count: int, begin: int) -> None:
    """A step of eight reads eight shards, and a cache of twice as many fetches each about once a pass."""
    shards = [(by_blocks(place, count, "few", Blocks(64, begin)) - begin) % count // 64 for place in range(count)]
    assert max(len(set(shards[i : i + 8])) for i in range(count)) == HEADS
    held, fetched = OrderedDict[int, None](), 0
    for shard in shards:
        fetched += shard not in held
        held[shard] = None
        held.move_to_end(shard)
        if len(held) > 2 * HEADS:
            held.popitem(last=False)
    assert len(set(shards)) <= fetched <= len(set(shards)) + HEADS


def test_shards_and_what_is_in_them_come_in_another_order_in_every_pass() -> None:
    """When a shard is read, and an image within it, says nothing of the next pass: chi-squared over pairs of passes."""
    count, size, passes = 512, 8, 20
    places = np.empty((passes, count), int)
    for number, place in np.ndindex(passes, count):
        places[number, pick(0, "unlabeled", count, number * count + place, Blocks(size))] = place
    each = places.reshape(passes, -1, size)
    within, when = each.argsort(-1).argsort(-1), each.mean(-1).argsort(-1).argsort(-1)
    for ranks in (within.reshape(passes, -1), when):
        pairs = np.histogram2d(ranks[:-1].ravel(), ranks[1:].ravel(), bins=(8, 8))[0].ravel()
        assert chisquare(pairs).pvalue > 1e-3


def test_the_short_block_is_not_always_the_last() -> None:
    last = [by_blocks(109, 110, str(key), Blocks(50)) // 50 for key in range(60)]
    assert set(last) == {0, 1, 2}


def test_the_order_of_a_pool_in_shards_never_changes() -> None:
    seen = [pick(7, "unlabeled", 10**7, position, Blocks(640, 40)) for position in (0, 1, 2, 10**7 - 1, 10**7)]
    assert seen == [7639676, 9411282, 8272012, 8287266, 3301270]
    assert pick(7, "unlabeled", 50, 3, FILES) == pick(7, "unlabeled", 50, 3)
