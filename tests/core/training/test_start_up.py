"""A run that compiles nothing, and its dry run, import no compiler, which takes a second of the processor."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fresh import begun

from semiseg_cli.core.config.layers import resolve
from semiseg_cli.core.training.optimizers import SGD, AdamW
from semiseg_cli.stages.train import train

COMPILERS = ("torch._dynamo", "torch._inductor", "torchvision")


def trains(data_root: Path, runs_root: Path) -> None:
    """Prints which compilers there are after two runs, and then after two dry runs, of which one is estimated."""

    def run(settings: dict[str, Any], **how: Any) -> dict[str, Any]:
        quick = {
            "method.name": "unimatch", "data.name": "shapes", "model.backbone": "tiny", "model.weights": "none",
            "train.steps": 1, "train.batch": 2, "train.crop": 33, "train.workers": 0,
        }  # fmt: skip
        roots = {"data_root": data_root, "runs_root": runs_root}
        return train(resolve([("test", quick | settings)]), **roots, device="cpu", **how)

    for optimizer in ("sgd", "adamw"):
        run({"train.optimizer": optimizer})
    loaded = [name for name in (*COMPILERS, "triton") if name in sys.modules]
    measured, estimated = run({}, dry_run=True), run({"train.batch": 16, "train.crop": 177}, dry_run=True)
    assert "estimated_from" in estimated
    assert "estimated_from" not in measured
    assert measured["gflop_per_step"] > 0
    assert estimated["gflop_per_step"] > 0
    print(loaded, [name for name in COMPILERS if name in sys.modules])


def test_whole_runs_and_dry_runs_without_the_compiler(shapes_root: Path, tmp_path: Path) -> None:
    """Nor has what a fresh process imports loaded one: all stages that train, and more."""
    process = begun(trains, shapes_root, tmp_path / "runs", folder=tmp_path)
    process.join(300)
    assert process.exitcode == 0, (tmp_path / "stderr").read_text()
    assert (tmp_path / "stdout").read_text().splitlines()[-1] == "[] []"


@pytest.mark.parametrize(
    ("ours", "theirs", "how"),
    [(SGD, torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}), (AdamW, torch.optim.AdamW, {"weight_decay": 0.1})],
)
def test_the_steps_are_pytorchs(ours: type, theirs: type, how: dict[str, float]) -> None:
    weights = [torch.nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(2)]
    optimizers = [kind([w], lr=0.1, fused=True, **how) for kind, w in zip((ours, theirs), weights, strict=True)]
    called: list[int] = []
    optimizers[0].register_step_pre_hook(lambda *_: called.append(1))
    for step in range(4):
        for optimizer, w in zip(optimizers, weights, strict=True):
            (w.sin() * (step + 1)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            assert w.grad is None
        assert torch.equal(*weights)
        optimizers[0].load_state_dict(copy.deepcopy(optimizers[1].state_dict()))
    assert len(called) == 4
    assert optimizers[0].state_dict().keys() == optimizers[1].state_dict().keys()
