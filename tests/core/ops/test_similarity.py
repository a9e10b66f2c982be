"""Nearest neighbours against a brute force in float64, ties to the lowest index, within the memory that is promised."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from semiseg_cli.core.ops.similarity import SCORES, Neighbours, chunk_rows, nearest_in_batch


def brute_force(query: Tensor, reference: Tensor, k: int, cosine: bool) -> tuple[np.ndarray, np.ndarray]:
    """Every difference squared and summed in float64; numpy's stable sort keeps equal ones in order of index."""
    q, r = query.double().numpy(), reference.double().numpy()
    if cosine:
        q, r = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300) for x in (q, r))
    distance = np.sqrt(((q[:, None] - r[None]) ** 2).sum(2))
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(distance, order, 1)


@given(
    st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 60), st.integers(1, 70), st.booleans(),
    st.sampled_from([1.0, 1e-3, 300.0]),
)  # fmt: skip
@settings(max_examples=60)
def test_against_brute_force(seed: int, queries: int, references: int, width: int, cosine: bool, offset: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    query, reference = (
        (torch.randn(n, width, generator=rng) + offset).half().float() for n in (queries, references)
    )
    k = int(torch.randint(1, references + 1, (1,), generator=rng))
    index, distance = Neighbours(reference, k, cosine=cosine)(query)
    expected, exact = brute_force(query, reference, k, cosine)
    assert (index.dtype, distance.dtype) == (torch.int64, torch.float32)
    np.testing.assert_allclose(distance.numpy(), exact, rtol=2e-3, atol=1e-7)
    if not cosine:
        np.testing.assert_array_equal(index.numpy(), expected)
        return
    whole, of = brute_force(query, reference, references, cosine)  # scaling to length 1 rounds: ties may fall apart
    where = np.take_along_axis(of, np.argsort(whole, axis=1), 1)
    np.testing.assert_allclose(np.take_along_axis(where, index.numpy(), 1), exact, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("copies", [2, 7, 40])
@pytest.mark.parametrize("k", [1, 3, 8])
def test_ties_go_to_the_lowest_index(copies: int, k: int) -> None:
    """Every reference several times, shuffled; more copies than candidates too."""
    rng = torch.Generator().manual_seed(copies)
    reference = torch.randn(6, 33, generator=rng).half().float().repeat(copies, 1)
    reference = reference[torch.randperm(len(reference), generator=rng)]
    query = torch.cat([torch.randn(20, 33, generator=rng).half().float(), reference[:5]])
    index, distance = Neighbours(reference, k)(query)
    expected, exact = brute_force(query, reference, k, cosine=False)
    np.testing.assert_array_equal(index.numpy(), expected)
    assert (distance[-5:, 0] == 0).all()  # an image is at no distance from its copy
    np.testing.assert_allclose(distance.numpy(), exact, rtol=2e-3)


def test_near_ties_that_float32_cannot_tell_apart() -> None:
    """References on a sphere around the query, each a little further out: far below a product's rounding."""
    rng = torch.Generator().manual_seed(0)
    centre = 100 * torch.rand(256, generator=rng)
    steps = torch.randperm(30, generator=rng)
    reference = centre.repeat(30, 1)
    reference[torch.arange(30), torch.arange(30)] += 1 + steps * 2.0**-12
    index, _ = Neighbours(reference, 30)(centre[None])
    expected, _ = brute_force(centre[None], reference, 30, cosine=False)
    np.testing.assert_array_equal(index.numpy(), expected)
    assert index[0].tolist() == steps.argsort().tolist()


@pytest.mark.parametrize("width", [2, 32, 320])
@pytest.mark.parametrize("norm", [1e-3, 1e-4, 1e-5])
def test_queries_near_the_centre(width: int, norm: float) -> None:
    """A product with so short a query is small, and its rounding too; that of |x|^2 is not."""
    rng = torch.Generator().manual_seed(0)
    around = torch.nn.functional.normalize(torch.randn(150, width, generator=rng))
    query = norm * torch.nn.functional.normalize(torch.randn(300, width, generator=rng))
    reference = torch.cat([around, -around])
    index, _ = Neighbours(reference, 8)(query)
    np.testing.assert_array_equal(index.numpy(), brute_force(query, reference, 8, cosine=False)[0])


@pytest.mark.parametrize("width", [2, 32, 320])
def test_directions_close_together(width: int) -> None:
    """Scaled to length 1 they differ in a float32's last digits only."""
    rng = torch.Generator().manual_seed(0)
    common = torch.randn(width, generator=rng)
    reference, query = (common + 1e-5 * torch.randn(n, width, generator=rng) for n in (300, 100))
    index, _ = Neighbours(reference, 8, cosine=True)(query)
    np.testing.assert_array_equal(index.numpy(), brute_force(query, reference, 8, cosine=True)[0])


def test_the_way_products_are_computed_elsewhere_does_not_matter() -> None:
    rng = torch.Generator().manual_seed(0)
    reference, query = torch.randn(50, 64, generator=rng), torch.randn(30, 64, generator=rng)
    expected = Neighbours(reference, 5)(query)
    torch.set_float32_matmul_precision("medium")
    try:
        found = Neighbours(reference, 5)(query)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_a_million_against_ten_thousand_fits() -> None:
    """Chunk of queries and its scores at width 2,048, beside the references (twice) and the result: below 1 GB."""
    rows = chunk_rows(10_000)
    chunk = 4 * rows * (3 * 2048 + 2 * 10_000)
    assert chunk + 2 * 4 * 10_000 * 2048 + 1_000_000 * 8 * (8 + 4) < 2**30
    assert chunk_rows(1500) == 4096
    assert chunk_rows(10**9) == 1
    assert all(chunk_rows(n) * n <= SCORES or chunk_rows(n) == 1 for n in (1, 10**3, 10**5, 10**7))


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="5 neighbours of 4 references"):
        Neighbours(torch.zeros(4, 3), 5)
    with pytest.raises(ValueError, match="width 2, references of 3"):
        Neighbours(torch.zeros(4, 3), 1)(torch.zeros(1, 2))


def test_nearest_in_batch() -> None:
    reference = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0], [1.0, 0.0]])
    query = torch.tensor([[3.0, 4.1], [0.1, 0.0], [0.5, 0.0]])
    none = torch.zeros(len(query), len(reference), dtype=torch.bool)
    assert nearest_in_batch(query, reference, none).tolist() == [1, 0, 0]
    assert nearest_in_batch(reference, reference, torch.eye(len(reference)).bool()).tolist() == [3, 2, 1, 0]
    assert nearest_in_batch(reference.half(), reference, none[:1].expand(4, -1)).tolist() == [0, 1, 1, 3]
    assert nearest_in_batch(query, reference, ~none).tolist() == [0, 0, 0]
