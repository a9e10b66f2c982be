"""The class memory against queues of Python."""

from __future__ import annotations

from collections import deque

import pytest
import torch
from torch import Tensor

from semiseg_cli.core.methods.stpg.memory import ClassMemory

K, D = 3, 2


def candidates(rng: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
    vectors, score = torch.randn(K, count, D, generator=rng), torch.rand(K, count, generator=rng)
    return vectors, score.masked_fill(torch.rand(K, count, generator=rng) < 0.4, -torch.inf)


def held(memory: ClassMemory, k: int) -> list[list[float]]:
    """What class k's queue holds, the oldest first."""
    size, written = memory.bank_KND.shape[1], int(memory.written_K[k])
    rows = memory.bank_KND[k].tolist()
    return rows[:written] if written <= size else rows[written % size :] + rows[: written % size]


@pytest.mark.parametrize(("size", "most", "count"), [(8, 3, 5), (4, 9, 6), (5, 5, 5), (1, 2, 4), (3, 3, 1)])
def test_first_in_first_out_of_the_best(size: int, most: int, count: int) -> None:
    """Also with a size below the number taken at a time: then as many as it holds."""
    memory, rng = ClassMemory(K, size, D), torch.Generator().manual_seed(0)
    queues = [deque[list[float]](maxlen=size) for _ in range(K)]
    for _ in range(9):
        vectors, score = candidates(rng, count)
        memory.push(vectors, score, most)
        for k, queue in enumerate(queues):
            there = [i for i in score[k].argsort(descending=True).tolist() if score[k, i] > -torch.inf]
            queue.extend(vectors[k, i].tolist() for i in there[: min(most, size)])
            assert held(memory, k) == list(queue)
            mean = torch.tensor(list(queue)).mean(0) if queue else torch.zeros(D)
            torch.testing.assert_close(memory.means()[k], mean)
    assert (memory.written_K > size).any()


def test_no_candidate_changes_nothing() -> None:
    memory, rng = ClassMemory(K, 4, D), torch.Generator().manual_seed(1)
    memory.push(*candidates(rng, 3), 2)
    before = {key: value.clone() for key, value in memory.state_dict().items()}
    memory.push(torch.randn(K, 3, D), torch.full((K, 3), -torch.inf), 2)
    assert all(torch.equal(value, before[key]) for key, value in memory.state_dict().items())
    assert set(before) == {"bank_KND", "written_K"}
    assert torch.equal(ClassMemory(K, 4, D).means(), torch.zeros(K, D))
