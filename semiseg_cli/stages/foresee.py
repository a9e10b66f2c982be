"""What a run would cost, told before it takes it: a dry run, and large recipes on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from semiseg_cli.core.config.layers import Resolved, with_steps
from semiseg_cli.core.data.again import at_hand
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.data.spec import Dataset, Partition
from semiseg_cli.core.errors import DeviceError
from semiseg_cli.core.models import to_download
from semiseg_cli.core.partitions.splits import resolve_partition
from semiseg_cli.core.settings import Config
from semiseg_cli.core.training.alike import same_members
from semiseg_cli.core.training.distributed import World, join
from semiseg_cli.core.training.estimate import estimate, is_large
from semiseg_cli.core.training.measure import measure, steps_taken
from semiseg_cli.core.training.session import Session
from semiseg_cli.core.training.setup import open_session
from semiseg_cli.stages.progress import Screen, Silent
from semiseg_cli.stages.sizing import sized

STEPS = 3  # that a dry run times


def members(config: Config, data_root: Path, world: World | None = None) -> tuple[Dataset, Partition]:
    """Dataset and partition of a configuration. world: of processes who all ask, and must find the same."""

    def found() -> tuple[Dataset, Partition]:
        dataset = at_hand(load_dataset(data_root, config.data.name))
        labeled, balance = config.data.labeled, config.data.balance
        return dataset, resolve_partition(dataset, labeled, balance=balance, seed=config.split_seed)

    return same_members(found, world) if world else found()


def planned(resolved: Resolved, data_root: Path, device: str = "auto") -> Resolved:
    """The configuration with its number of steps, and sizes that nobody typed, which follow from the images."""
    _, partition = members(resolved.config, data_root)
    resolved = fitted(resolved, data_root, device)
    return replace(resolved, config=with_steps(resolved.config, len(partition.unlabeled) or len(partition.labeled)))


def fitted(
    resolved: Resolved, data_root: Path, device: str = "auto", note: Callable[[str], None] = lambda line: None
) -> Resolved:
    """The configuration with sizes that nobody typed, as `semiseg train` chooses them on this device."""
    return sized(resolved, load_dataset(data_root, resolved.config.data.name), join(device).device.type == "cuda", note)


def cost_of_run(config: Config, data_root: Path, world: World, screen: Screen, init: Path | None) -> dict[str, Any]:
    """The cost of a run. Everything is checked but weights that would have to be downloaded: they change no cost."""
    download = "" if init else to_download(config.model.backbone, config.model.weights)
    if download:
        screen.note(f"a run would download {download}; a dry run does without")
    session = open_session(config, *members(config, data_root, world), world, screen.note, init, bool(download))
    return _cost(session, screen)


def foresee(config: Config, data_root: Path, world: World, screen: Screen) -> None:
    """Tell what a large recipe takes on a CPU, by networks of its own, and where its memory may not be there.

    DeviceError where the memory is not there that a step needs in any case.
    """
    if not _is_large(config, world):
        return
    session = open_session(config, *members(config, data_root, world), world, Silent().note, bare=True)
    found = _cost(session, screen)
    screen.foreseen(found)
    need, least, there = found["peak_memory_bytes"], found["least_memory_bytes"], found["memory_bytes_there"]
    if need <= there:
        return
    words = f"a step takes about {_gib(need)} of memory, {_gib(least)} in any case, and {_gib(there)} are there"
    fits = found["micro_batch"]
    parts = f"-s train.micro_batch={fits} (the same batch, in parts), " * bool(fits)
    fix = f"{parts}a smaller -s train.crop, a lighter encoder (-b mobilenet_v2), or -p small"
    if least <= there:
        screen.note(f"it may run out of memory: {words}; {fix}")
        return
    raise DeviceError(
        words,
        why=f"{config.model.backbone}, crop {config.train.crop}, {session.plan.micro} images of a kind at once",
        fix=fix,
    )


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


def _cost(session: Session, screen: Screen) -> dict[str, Any]:
    if _is_large(session.config, session.world):
        with screen.progress("a large recipe for a CPU: trying smaller steps", 2) as advance:
            found = estimate(session, advance)
    else:
        with screen.progress("measuring steps", steps_taken(session, STEPS)) as advance:
            found = measure(session, STEPS, advance=advance)
    return found | {"steps": session.plan.steps}


def _is_large(config: Config, world: World) -> bool:
    return world.size == 1 and world.device.type == "cpu" and is_large(config.train)
