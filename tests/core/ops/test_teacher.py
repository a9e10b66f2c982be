"""The EMA teacher against a loop in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from semiseg_cli.core.ops.teacher import FROM_THE_FIRST, Teacher, decay, from_the_first
from semiseg_cli.core.types import Clock


def student() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.9), nn.Conv2d(3, 2, 1))


@pytest.mark.parametrize(
    ("step", "alpha", "expected"),
    [(0, 0.99, 0.1), (8, 0.99, 0.5), (89, 0.99, 90 / 99), (889, 0.99, 890 / 899), (890, 0.99, 0.99), (10**6, 0.9, 0.9)],
)
def test_decay(step: int, alpha: float, expected: float) -> None:
    assert decay(step, alpha) == pytest.approx(expected, rel=1e-12)


def test_decay_never_falls() -> None:
    values = [decay(step, 0.99) for step in range(1000)]
    assert values == sorted(values)
    assert values[-1] == 0.99


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.0), (1, 0.5), (9, 0.9), (248, 248 / 249), (249, 0.996), (10**6, 0.996)]
)
def test_a_decay_that_begins_with_the_first_student(step: int, expected: float) -> None:
    assert from_the_first(step, 0.996) == pytest.approx(expected, rel=1e-12, abs=0)


def test_buffers_may_be_averaged_and_what_is_not_trained_stays() -> None:
    net = student()
    net[0].requires_grad_(False)
    teacher, kept = Teacher(net), net[0].weight.clone()
    before = teacher.net[1].running_mean.clone()
    with torch.no_grad():
        net[0].weight.add_(1.0)
        net[3].weight.add_(1.0)
        net[1].running_mean.add_(2.0)
        net[1].num_batches_tracked.add_(3)
    teacher.update(net, Clock(3, 9), 0.996, FROM_THE_FIRST)
    torch.testing.assert_close(teacher.net[1].running_mean, before + 2.0 / 4)
    torch.testing.assert_close(teacher.net[3].weight, net[3].weight - 1.0 + 1.0 / 4)
    assert torch.equal(teacher.net[0].weight, kept)
    assert teacher.net[1].num_batches_tracked == 3


def test_the_teacher_is_the_moving_average_of_the_student() -> None:
    net = student()
    teacher = Teacher(net)
    average = {name: p.double().clone() for name, p in net.named_parameters()}
    generator = torch.Generator().manual_seed(1)
    for step in range(12):
        with torch.no_grad():
            for p in net.parameters():
                p += torch.randn(p.shape, generator=generator)
        net(torch.randn(2, 2, 5, 5, generator=generator))  # moves the running statistics
        teacher.update(net, Clock(step, 12), alpha=0.6)
        d = min((1 + step) / (10 + step), 0.6)
        average = {name: d * average[name] + (1 - d) * p.double() for name, p in net.named_parameters()}
    for name, p in teacher.net.named_parameters():
        assert torch.allclose(p.double(), average[name], rtol=1e-5, atol=1e-6)
    for (name, mine), (_, theirs) in zip(teacher.net.named_buffers(), net.named_buffers(), strict=True):
        assert torch.equal(mine, theirs), name


def test_the_teacher_stays_in_eval_mode_and_is_not_trained() -> None:
    net = student()
    teacher = Teacher(net)
    nn.ModuleList([teacher]).train()
    assert not any(m.training for m in teacher.modules())
    assert net.training
    assert not any(p.requires_grad for p in teacher.parameters())
    x = torch.randn(2, 2, 5, 5)
    out = teacher(x)
    assert torch.equal(out, teacher(x))  # no dropout
    assert not out.requires_grad
    assert not teacher.net[1].num_batches_tracked


def test_the_teacher_is_a_copy() -> None:
    net = student()
    teacher = Teacher(net)
    with torch.no_grad():
        net[0].weight.zero_()
    assert teacher.net[0].weight.any()


class Branch(nn.Sequential):
    pass


def test_what_normalises_by_its_batch_does_so_and_keeps_its_statistics() -> None:
    """Against the mean and variance of the batch in float64; the other norm and the dropout are in evaluation mode."""
    net = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm2d(3), Branch(nn.BatchNorm2d(3)))
    teacher = Teacher(net, (Branch,)).train()
    buffers = {name: value.clone() for name, value in teacher.net.named_buffers() if "running" in name}
    x_BCHW = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0)) * 3 + 7
    own = x_BCHW.double() / (1 + 1e-5) ** 0.5  # by running statistics of 0 and 1
    var, mean = torch.var_mean(own, (0, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(teacher(x_BCHW).double(), (own - mean) / (var + 1e-5).sqrt(), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(value, buffers[name]) for name, value in teacher.net.named_buffers() if "running" in name)
    net.train()(x_BCHW)
    teacher.update(net, Clock(3, 9), 0.996)
    assert torch.equal(teacher.net[2][0].running_mean, net[2][0].running_mean)
