"""Mismatch scores and the three sets, against loops over pixels in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from semiseg_cli.core.methods.stpg.mismatch import SETS, mismatch_scores, pixel_sets

K = 5


def maps(seed: int, classes: int = K, agree: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions of the two networks that agree on a share of the pixels, and valid pixels."""
    rng = np.random.default_rng(seed)
    gen = rng.integers(0, classes, (2, 6, 7))
    pro = np.where(rng.random(gen.shape) < agree, gen, rng.integers(0, classes, gen.shape))
    return torch.from_numpy(pro), torch.from_numpy(gen), torch.from_numpy(rng.random(gen.shape) < 0.8)


def reference(pro: Tensor, gen: Tensor, valid: Tensor, classes: int = K) -> list[float]:
    """Eq. 5, pixel by pixel: m[p][q] counts pixels of Pro-Student's class p and Gen-Teacher's class q."""
    m = [[0.0] * classes for _ in range(classes)]
    for p, q, ok in zip(pro.flatten().tolist(), gen.flatten().tolist(), valid.flatten().tolist(), strict=True):
        m[p][q] += ok
    scores = []
    for q in range(classes):
        row, column = sum(m[q]), sum(m[k][q] for k in range(classes))
        scores.append((row - m[q][q]) / row if row else 0.0)
        scores[-1] += (column - m[q][q]) / column if column else 0.0
    return scores


@pytest.mark.parametrize("agree", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_scores(seed: int, agree: float) -> None:
    pro, gen, valid = maps(seed, agree=agree)
    found = mismatch_scores(pro, gen, valid, K)
    assert found.tolist() == pytest.approx(reference(pro, gen, valid), abs=1e-12)
    assert (found.max() == 0) == (agree == 1.0)


def test_a_class_that_one_or_both_never_predict() -> None:
    pro = torch.tensor([[[0, 0, 0, 1, 1, 1]]])
    gen = torch.tensor([[[0, 0, 2, 1, 2, 2]]])
    found = mismatch_scores(pro, gen, torch.ones_like(pro, dtype=torch.bool), 4)
    assert found.tolist() == pytest.approx([1 / 3 + 0, 2 / 3 + 0, 0 + 1, 0])
    # class 2 is Gen-Teacher's alone and the most disputed: its pixels are kept, and nobody else's
    assert pixel_sets(pro, gen, found)["high"].tolist() == [[[False, False, True, False, True, True]]]


def test_all_disagree() -> None:
    pro, gen = torch.tensor([[[0, 0, 1]]]), torch.tensor([[[1, 1, 0]]])
    found = mismatch_scores(pro, gen, torch.ones_like(pro, dtype=torch.bool), 2)
    assert found.tolist() == [2, 2]
    sets = pixel_sets(pro, gen, found)
    assert [int(sets[name].sum()) for name in SETS] == [0, 0, 3]  # a tie is not "more mismatched"


def test_no_valid_pixel() -> None:
    pro, gen, valid = maps(0)
    assert mismatch_scores(pro, gen, torch.zeros_like(valid), K).tolist() == [0] * K


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)  # a forked process has none of its parent's threads
    dist.init_process_group("gloo", store=dist.FileStore(f"{folder}/store", 2), rank=rank, world_size=2)
    torch.save(mismatch_scores(*maps(rank), K), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_have_the_scores_of_the_whole_batch(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(process, (str(tmp_path),), nprocs=2, start_method="fork")
    pro, gen, valid = (torch.cat(both) for both in zip(maps(0), maps(1), strict=True))
    alone = mismatch_scores(pro, gen, valid, K)
    assert not torch.equal(alone, mismatch_scores(*maps(0), K))
    for rank in range(2):
        assert torch.equal(torch.load(tmp_path / f"{rank}.pt"), alone)


@given(st.integers(0, 10_000), st.integers(2, 7), st.sampled_from([0.0, 0.2, 0.8, 1.0]))
def test_the_sets_are_disjoint_and_cover_every_pixel(seed: int, classes: int, agree: float) -> None:
    pro, gen, valid = maps(seed, classes, agree)
    scores = reference(pro, gen, valid, classes)
    sets = pixel_sets(pro, gen, mismatch_scores(pro, gen, valid, classes))
    assert tuple(sets) == SETS
    assert (torch.stack(list(sets.values())).sum(0) == 1).all()
    for p, q, consistent, high in zip(
        pro.flatten().tolist(), gen.flatten().tolist(),
        sets["consistent"].flatten().tolist(), sets["high"].flatten().tolist(), strict=True,
    ):  # fmt: skip
        assert consistent == (p == q)
        assert high == (p != q and scores[p] < scores[q])
