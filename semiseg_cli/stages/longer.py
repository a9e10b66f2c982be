"""A finished run that goes on for longer: its state, its log and its best network stay, as do result and last network.

From the step reached on, all that follows the clock is as in a run of the new length: the learning rate rises to what
it would be there and decays to zero at the new end, and a warm-up that is a share of the steps is a share of the new
ones. It is not the run that would have been that long from the start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from semiseg_cli.core import runs
from semiseg_cli.core.commands import command
from semiseg_cli.core.config.coerce import coerce
from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.errors import CheckpointError, UsageError
from semiseg_cli.core.files import STATE
from semiseg_cli.core.runs.results import read_result
from semiseg_cli.core.settings import BadSetting, Config
from semiseg_cli.core.training.checkpoint import read, write
from semiseg_cli.core.training.distributed import World, barrier
from semiseg_cli.core.training.optim import POWER


def lengthened(run: Path, config: Config, steps: Any, world: World, note: Callable[[str], None]) -> Config:
    """The configuration with `steps`, as typed, of a finished run, which is then unfinished; as it is with no more.

    Raises UsageError for fewer steps than it took, CheckpointError for a run without a resume state (a probe).
    """
    try:
        total = coerce(steps, int)
    except ValueError:
        raise BadSetting("train.steps", steps, "a whole number") from None
    done = read_result(run)["steps"]
    if total == done:
        return config
    if total < done:
        fix = command("train", "--resume", run, "--steps", 2 * done)
        raise UsageError(f"{run} has taken {done:,} steps, and goes on to more, not to {total:,}", fix=fix)
    if not (run / STATE).is_file():
        raise CheckpointError(f"{run} holds no resume state", why="it is a probe, or its folder resume/ was removed")
    longer = replace(config, train=replace(config.train, steps=total))
    barrier(world)  # all have read what the first now changes
    if world.main:
        with runs.owned(run):
            if config.train.patience:
                _wait_anew(run)
            origins = runs.read_origins(run) | {"train.steps": f"--steps, after {done}"}
            runs.lengthen(run, Resolved(longer, origins))
    barrier(world)
    rate = longer.train.lr * (1 - done / total) ** POWER
    note(
        f"{run} goes on from step {done} to {total} at the learning rate that a run of {total} steps has there: "
        f"{rate:.3g} of {longer.train.lr:.3g}; its result after {done} stays in result-{done}.json"
    )
    return longer


def _wait_anew(run: Path) -> None:
    """Patience counts from here on, against what is measured from here on: the learning rate rises once more."""
    tensors, meta = read(run / STATE)
    write(run / STATE, tensors, meta | {"waited": 0, "rival": None})
