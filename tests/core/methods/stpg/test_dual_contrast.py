"""Section 3.3 of STPG as a whole: what the memory takes in, prototypes, matching, both losses, several processes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from semiseg_cli.core.methods.stpg.dual_contrast import RARE, DualContrast
from semiseg_cli.core.types import Clock

K, C, D = 3, 5, 8
AFTER = 4  # updates, then classes are matched
SIZE, SIDE = 4, 13  # of feature map and image: corners on corners, so every fourth pixel


def make(**changes: Any) -> DualContrast:
    settings = {"students": 2, "seed": 0, "temperature": 0.5, "match_after": AFTER, "memory_size": 6,
                "memory_topk": 2, "pixels_per_class": 100, "phi": 0.4} | changes  # fmt: skip
    return DualContrast(K, C, D, **settings)


def images(seed: int, count: int = 2, classes: tuple[int, ...] = (0, 1, 2, 255)) -> tuple[Tensor, Tensor, Tensor]:
    """Features, logits that are right about two pixels of three, and a mask."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.tensor(classes)[torch.randint(len(classes), (count, SIZE, SIZE), generator=rng)]
    mask = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, 2 : 2 + SIDE, 2 : 2 + SIDE]
    right = torch.rand(mask.shape, generator=rng) < 0.7
    predicted = mask.where(right & (mask < K), torch.randint(K, mask.shape, generator=rng))
    sure = 3 * torch.rand(mask.shape, generator=rng)
    logits = F.one_hot(predicted, K).permute(0, 3, 1, 2) * sure[:, None]
    return torch.randn(count, C, SIZE, SIZE, generator=rng), logits, mask


def on_grid(x: Tensor) -> Tensor:
    return x[..., ::4, ::4]


def learn(contrast: DualContrast, steps: range, **options: Any) -> None:
    for step in steps:
        contrast.collect(*images(step, **options))
        contrast.after_step(Clock(step, 100), 0.99)
        contrast.settle(Clock(step, 100))


def numbers(seed: int = 0, students: int = 2, count: int = 2) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randint(-(2**31), 2**31, (count,), generator=rng).int() for _ in range(students)]


def matched(**changes: Any) -> DualContrast:
    contrast = make(**changes)
    learn(contrast, range(AFTER))
    assert (contrast.assignment_K >= 0).all()
    return contrast


def test_prototypes_follow_the_means() -> None:
    """The mean of the first hundred updates, then eq. 13."""
    contrast, expected, updates = make(), dict[int, Tensor](), [0] * K
    for step in range(130):
        classes = (0, 1, 255) if step < 5 else (1, 2)
        features, _, mask = images(step, classes=classes)
        unit = contrast.teacher.net(features.permute(0, 2, 3, 1)).double().detach()  # the head does not train here
        for k in range(K):
            own = unit[on_grid(mask) == k]
            if len(own):
                updates[k] += 1
                share = 1 / min(updates[k], 100)
                expected[k] = (1 - share) * expected.get(k, torch.zeros(D)) + share * own.mean(0)
        contrast.collect(features, images(step)[1], mask)
        contrast.after_step(Clock(step, 200), 0.99)
        assert contrast.seen_K.tolist() == updates
    assert updates[1] == 130
    for k in range(K):
        torch.testing.assert_close(contrast.prototypes_KD[k].double(), expected[k], rtol=1e-4, atol=1e-5)


def test_classes_are_matched_together_when_all_prototypes_are_stable() -> None:
    contrast = make()
    learn(contrast, range(AFTER), classes=(0, 1))
    learn(contrast, range(AFTER, 2 * AFTER - 1))  # class 2 lacks an update
    assert contrast.seen_K.tolist() == [2 * AFTER - 1, 2 * AFTER - 1, AFTER - 1]
    assert (contrast.assignment_K == -1).all()
    learn(contrast, range(2 * AFTER - 1, 2 * AFTER))
    first = contrast.assignment_K.tolist()
    assert sorted(first) == [0, 1, 2]
    cost = torch.cdist(contrast.prototypes_KD, contrast.anchors_KD)
    sums = [sum(cost[k, v].item() for k, v in enumerate(order)) for order in itertools.permutations(range(K))]
    assert sum(cost[k, v].item() for k, v in enumerate(first)) == pytest.approx(min(sums))
    learn(contrast, range(2 * AFTER, 4 * AFTER))
    assert contrast.assignment_K.tolist() == first  # for good


def test_a_class_of_one_step_is_not_stable_yet() -> None:
    contrast = make()
    learn(contrast, range(AFTER - 1), classes=(0, 1))
    learn(contrast, range(AFTER - 1, AFTER))
    assert contrast.seen_K.tolist() == [AFTER, AFTER, 1]
    assert (contrast.assignment_K == -1).all()
    learn(contrast, range(AFTER, 2 * AFTER))
    assert sorted(contrast.assignment_K.tolist()) == [0, 1, 2]


def test_a_rare_class_is_not_waited_for_without_end() -> None:
    contrast = make()
    learn(contrast, range(RARE * AFTER - 1), classes=(0, 2))
    assert (contrast.assignment_K == -1).all()
    learn(contrast, range(RARE * AFTER - 1, RARE * AFTER), classes=(0, 2))
    before = contrast.assignment_K.tolist()
    assert [k >= 0 for k in before] == [True, False, True]
    learn(contrast, range(RARE * AFTER, RARE * AFTER + AFTER - 1))
    assert contrast.assignment_K.tolist() == before
    learn(contrast, range(RARE * AFTER + AFTER - 1, RARE * AFTER + AFTER))
    assert sorted(contrast.assignment_K.tolist()) == [0, 1, 2]
    assert [contrast.assignment_K[k] for k in (0, 2)] == [before[k] for k in (0, 2)]


def test_a_state_of_before_updates_were_counted() -> None:
    """It says of each class whether it was seen; what was matched stays, what was not waits for its updates."""
    contrast, other = matched(), make()
    state = contrast.state_dict()
    other.load_state_dict(state | {"seen_K": torch.ones(K, dtype=torch.bool)})
    learn(other, range(AFTER, 2 * AFTER))
    assert torch.equal(other.assignment_K, contrast.assignment_K)
    waiting = make()
    waiting.load_state_dict(make().state_dict() | {"seen_K": torch.ones(K, dtype=torch.bool)})
    learn(waiting, range(1, AFTER))
    assert sorted(waiting.assignment_K.tolist()) == [0, 1, 2]


def test_the_memory_takes_the_nearest_of_the_confident_and_right() -> None:
    contrast = matched()
    before = contrast.memory.written_K.clone()
    assert not before.any()  # there were no anchors to be near to
    features, logits, mask = images(50)
    contrast.collect(features, logits, mask)
    contrast.after_step(Clock(50, 100), 0.99)
    unit = contrast.teacher.net(features.permute(0, 2, 3, 1)).detach()
    conf, predicted = on_grid(logits).softmax(1).max(1)
    for k in range(K):
        good = (on_grid(mask) == k) & (predicted == k) & (conf > 0.4)
        anchor = contrast.anchors_KD[contrast.assignment_K[k]]
        nearest = sorted(unit[good].tolist(), key=lambda f: torch.dist(torch.tensor(f), anchor).item())[:2]
        held = contrast.memory.bank_KND[k, : contrast.memory.written_K[k]]
        torch.testing.assert_close(held, torch.tensor(nearest).view(-1, D))
    assert contrast.memory.written_K.any()


@pytest.mark.parametrize("change", [{"phi": 1.0}, {"memory_topk": 50}])
def test_no_confident_pixel_and_a_memory_smaller_than_what_is_taken(change: dict[str, Any]) -> None:
    contrast = matched(**change)
    learn(contrast, range(20, 30))
    assert contrast.memory.written_K.any() == (change != {"phi": 1.0})
    loss_ac, loss_sim = contrast([images(1)[0]] * 2, [images(1)[2]] * 2, numbers())
    assert loss_ac > 0
    assert (loss_sim > 0) == (change != {"phi": 1.0})


def test_both_losses_over_all_pixels_of_both_students() -> None:
    contrast = matched()
    learn(contrast, range(20, 26))
    contrast.eval()  # no dropout
    maps, masks = [images(60)[0], images(61)[0]], [images(60)[2], images(61)[2]]
    ac, sim = list[float](), list[float]()
    for head, features, mask in zip(contrast.heads, maps, masks, strict=True):
        unit = head(features.permute(0, 2, 3, 1)).double()
        for f, k in zip(unit.flatten(0, 2), on_grid(mask).flatten().tolist(), strict=True):
            if k == 255:
                continue
            scores = contrast.anchors_KD[contrast.assignment_K].double() @ f / 0.5
            ac.append((scores.logsumexp(0) - scores[k]).item())
            queue = contrast.memory.bank_KND[k, : contrast.memory.written_K[k]].double()
            sim.append((1 - queue @ f).mean().item())
    loss_ac, loss_sim = contrast(maps, masks, numbers())
    assert loss_ac.item() == pytest.approx(sum(ac) / len(ac), rel=1e-5)
    assert loss_sim.item() == pytest.approx(sum(sim) / len(sim), rel=1e-5)


def test_which_pixels_are_drawn_and_what_drops_out_follows_from_the_numbers() -> None:
    contrast = matched(pixels_per_class=2)
    maps, masks = [images(60)[0]] * 2, [images(60)[2]] * 2

    def losses(seed: int) -> set[float]:
        return {contrast(maps, masks, numbers(seed))[0].item() for _ in range(2)}

    for mode in (True, False):  # with dropout, without
        contrast.train(mode)
        found = [losses(seed) for seed in range(4)]
        assert all(len(same) == 1 for same in found)
        assert len(set.union(*found)) > 1
    everything = matched(pixels_per_class=100)
    assert len({everything(maps, masks, numbers(seed))[0].item() for seed in range(4)}) > 1  # dropout alone
    contrast(maps, masks, numbers())[0].backward()
    assert all(p.grad is not None and p.grad.any() for p in contrast.heads.parameters())


def test_before_any_class_has_an_anchor_the_losses_are_zero_and_reach_every_weight() -> None:
    contrast = make()
    losses = contrast([images(1)[0]] * 2, [images(1)[2]] * 2, numbers())
    assert [loss.item() for loss in losses] == [0, 0]
    sum(losses).backward()
    assert all(p.grad is not None and not p.grad.any() for p in contrast.heads.parameters())


def test_more_classes_than_a_simplex_has_corners() -> None:
    contrast = DualContrast(9, C, 2, students=1, seed=0, temperature=0.5, match_after=1, memory_size=6,
                            memory_topk=2, pixels_per_class=9, phi=0.1)  # fmt: skip
    assert torch.allclose(contrast.anchors_KD.norm(dim=1), torch.ones(9))
    assert torch.pdist(contrast.anchors_KD).min() > 0.68  # a regular polygon: 2 sin(pi / 9)


def test_first_weights_follow_the_seed_and_differ_between_students() -> None:
    one, two, other = make(), make(), make(seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    weights = [head.out.weight for each in (one, other) for head in each.heads]
    assert len({tuple(w.flatten().tolist()) for w in weights}) == 4
    assert torch.equal(one.teacher.net.out.weight, one.heads[0].out.weight)


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)  # a forked process has none of its parent's threads
    dist.init_process_group("gloo", store=dist.FileStore(f"{folder}/store", 2), rank=rank, world_size=2)
    contrast = make()
    for step in range(AFTER + 3):
        contrast.collect(*images(2 * step + rank))
        contrast.after_step(Clock(step, 100), 0.99)
        contrast.settle(Clock(step, 100))
    torch.save(contrast.state_dict(), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_processes_and_micro_batches_change_nothing(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(process, (str(tmp_path),), nprocs=2, start_method="fork")
    alone = make()
    for step in range(AFTER + 3):
        alone.collect(*images(2 * step))
        alone.collect(*images(2 * step + 1))
        alone.after_step(Clock(step, 100), 0.99)
        alone.settle(Clock(step, 100))
    assert alone.memory.written_K.any()
    zero, one = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for key, value in alone.state_dict().items():
        assert torch.equal(zero[key], one[key])
        torch.testing.assert_close(zero[key], value)
