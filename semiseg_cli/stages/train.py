"""Train a method on a prepared dataset: from a resolved configuration to a run directory with its networks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from semiseg_cli.core import runs
from semiseg_cli.core.config.layers import Resolved, flatten, refuse_changes, resolve
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.data.loader import close
from semiseg_cli.core.errors import CheckpointError, Diverged, Interrupted
from semiseg_cli.core.files import STATE, resuming
from semiseg_cli.core.partitions.splits import resolve_partition
from semiseg_cli.core.places import find_root, remember
from semiseg_cli.core.settings import Config
from semiseg_cli.core.training.checkpoint import load_state, save_network, save_state
from semiseg_cli.core.training.distributed import World, any_process, barrier, joined
from semiseg_cli.core.training.loop import Hooks, fit
from semiseg_cli.core.training.measure import measure
from semiseg_cli.core.training.session import Session, deployed_meta
from semiseg_cli.core.training.setup import open_session, thawed
from semiseg_cli.stages.stopping import Signals, signals


class Screen(Protocol):
    """Who is told what happens; `semiseg_cli.cli.screen.Screen` shows it."""

    def start(self, title: str, steps: int) -> None: ...
    def advance(self, step: int) -> None: ...
    def log(self, row: dict[str, Any]) -> None: ...
    def evaluated(self, row: dict[str, Any]) -> None: ...
    def note(self, text: str) -> None: ...
    def stop(self) -> None: ...


class Silent:
    """A screen for library use and for all processes but the first."""

    def start(self, title: str, steps: int) -> None: ...
    def advance(self, step: int) -> None: ...
    def log(self, row: dict[str, Any]) -> None: ...
    def evaluated(self, row: dict[str, Any]) -> None: ...
    def note(self, text: str) -> None: ...
    def stop(self) -> None: ...


def train(
    resolved: Resolved,
    *,
    data_root: Path,
    runs_root: Path,
    out: Path | None = None,
    init: Path | None = None,
    dry_run: bool = False,
    device: str = "auto",
    screen: Screen | None = None,
) -> dict[str, Any]:
    """Start a run and take it to its end. Returns its result: run directory, last and best mIoU, seconds.

    out: the run directory itself; None: `runs_root` and a name made from the configuration. init: a checkpoint whose
    network the run starts from. dry_run: check everything, take a few steps, return their cost, write nothing.
    """
    with signals() as stop, joined(device) as world:  # networks live in the functions it calls, gone when it ends
        screen = screen if screen and world.main else Silent()
        return _start(resolved, data_root, runs_root, out, init, dry_run, world, screen, stop)


def resume(
    run: Path,
    *,
    data_root: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    device: str = "auto",
    screen: Screen | None = None,
) -> dict[str, Any]:
    """Go on exactly where an interrupted run stood. A changed setting is an error that shows the difference.

    data_root: None is where the run's dataset is found.
    """
    with signals(run, data_root) as stop, joined(device) as world:
        return _resume(run, data_root, overrides or {}, world, screen if screen and world.main else Silent(), stop)


def _start(
    resolved: Resolved,
    data_root: Path,
    runs_root: Path,
    out: Path | None,
    init: Path | None,
    dry_run: bool,
    world: World,
    screen: Screen,
    stop: Signals,
) -> dict[str, Any]:
    config, run = resolved.config, None
    made = bool(out and not out.exists())
    stop.at_once = world.size == 1 or dry_run  # a process that left alone would leave its peers waiting
    try:
        if out and world.main and not dry_run:
            run = runs.claim_run(out)  # before the work of loading: a taken directory is refused at once
        session = open_config(thawed(config, init, screen.note), data_root, world, screen, init)
        if dry_run:
            return measure(session)
        _hold(stop, world)
    except BaseException:
        if run and made:
            with suppress(OSError):
                run.rmdir()  # nothing is in it yet
        raise
    if world.main:
        run = run or runs.create_run(runs_root, runs.run_name(config))
        runs.write_config(run, replace(resolved, config=session.config))
        runs.write_environment(run, session.device_name)
        remember(run, session.dataset.root)
        runs.write_partition(run, session.partition)
    return _go(session, run, screen, stop, start=0)


def _hold(stop: Signals, world: World) -> None:
    """From here on files are written, so a signal waits for the loop, which saves. One that has come ends it now."""
    stop.at_once = False
    if any_process(stop(), world):
        raise stop.interrupted()


def _resume(
    run: Path, data_root: Path | None, overrides: Mapping[str, Any], world: World, screen: Screen, stop: Signals
) -> dict[str, Any]:
    stop.at_once = world.size == 1
    config = resolve([(str(run / "config.toml"), runs.read_config(run))]).config
    refuse_changes(config, overrides)
    if runs.is_finished(run):
        done: dict[str, Any] = json.loads((run / "result.json").read_text(encoding="utf-8"))
        screen.note(f"{run} is finished; nothing to do")
        return done
    if not (run / STATE).is_file():
        raise CheckpointError(
            f"{run} holds no resume state", why="it stopped before its first save", fix="semiseg train starts anew"
        )
    session = open_config(config, find_root(config.data.name, data_root, run), world, screen, bare=True)
    meta = restore(session, run / STATE)
    _hold(stop, world)
    if world.main:
        remember(run, session.dataset.root)
        runs.truncate_metrics(run, meta["step"])
    barrier(world)
    return _go(session, run if world.main else None, screen, stop, start=meta["step"], before=meta)


def open_config(
    config: Config, data_root: Path, world: World, screen: Screen, init: Path | None = None, bare: bool = False
) -> Session:
    """Dataset, partition, networks and optimiser of a configuration. bare: see `open_session`."""
    dataset = load_dataset(data_root, config.data.name)
    partition = resolve_partition(dataset, config.data.labeled, balance=config.data.balance, seed=config.split_seed)
    return open_session(config, dataset, partition, world, screen.note, init, bare)


def restore(session: Session, state: Path) -> dict[str, Any]:
    meta = load_state(state, session.train, session.optimizer)
    if meta["partition"] != session.partition.fingerprint:
        raise CheckpointError(
            f"{state} was written for other labeled images",
            why="the dataset or its splits changed since the run started; perhaps a published list was imported",
            fix="put them back as they were (<dataset>/splits), or start a new run with --init",
        )
    _same_pool(session, meta.get("unlabeled"), state)
    return meta


def _same_pool(session: Session, before: int | None, state: Path) -> None:
    """Raise CheckpointError where other unlabeled images are here than when the state was written; None: not known."""
    now = len(session.partition.unlabeled)
    if "unlabeled" in session.plan.inputs and before not in (None, now):
        raise CheckpointError(
            f"{state} was written with {before:,} unlabeled images, now there are {now:,}",
            why="the dataset was prepared again since, with more or fewer",
            fix="prepare it as it was, or start a new run with --init",
        )


def _go(
    session: Session,
    run: Path | None,
    screen: Screen,
    stop: Signals,
    start: int,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Steps `start` to the end, with log, evaluations and saves. `run` is None in all processes but the first."""
    config, keeper = session.config, Keeper(session, run, screen, dict(before or {}))
    screen.start(session.title, config.train.steps)
    try:
        with runs.recording(run) if run else nullcontext():
            hooks = Hooks(keeper.log, keeper.show, keeper.evaluate, keeper.save, stop, screen.advance)
            plan = replace(session.plan, start=start)
            batches = session.batches(plan)
            try:
                fit(
                    session.wrapped, session.method, session.optimizer, batches, plan,
                    config.train, session.world, hooks, session.epoch_images,
                )  # fmt: skip
            finally:
                close(batches)
    except Interrupted as end:
        end.fix = resuming(run, session.dataset.root.parent) if run else ""  # one process speaks for all
        raise
    except Diverged as end:
        end.why += f"; {keeper.kept()}"
        raise
    finally:
        screen.stop()
    return keeper.finish()


class Keeper:
    """What a run leaves behind while it goes on: metrics, the last and the best network, the resume state."""

    def __init__(self, session: Session, run: Path | None, screen: Screen, before: dict[str, Any]) -> None:
        self.session, self.run, self.screen = session, run, screen
        self.best: dict[str, Any] | None = before.get("best")
        self.last: dict[str, Any] | None = before.get("last")
        self.saved: int | None = before.get("step")  # the step of the state
        self.seconds: float = before.get("seconds", 0.0)
        self.told: set[str] = set()
        self.writer = _tensorboard(run)

    def log(self, row: dict[str, Any]) -> None:
        self.seconds += row["seconds"]
        row = self.show(row)
        self._append(row)
        self._tell(row)

    def show(self, row: dict[str, Any]) -> dict[str, Any]:
        """Put the loop's row on the screen; returns it as it is kept."""
        row, classes, plan = dict(row), self.session.dataset.classes, self.session.plan
        step_s = row.pop("seconds") / row.pop("steps")
        row["images_per_second"] = plan.batch * self.session.images_per_label / step_s
        row = {k: dict(zip(classes, v, strict=True)) if isinstance(v, list) else v for k, v in row.items()}
        self.screen.log({**row, "step_s": step_s})
        return row

    def _tell(self, row: dict[str, Any]) -> None:
        """What a user should know of a log line, each once."""
        if row.get("largest_class", 0.0) > 0.99 and row.get("kept", 0.0) > 0.01 and "largest_class" not in self.told:
            self.told.add("largest_class")
            self.screen.note(
                f"step {row['step']}: {row['largest_class']:.0%} of the kept pseudo-labels are one class. "
                "If this lasts, lower train.lr, or set train.class_weights=sqrt or a longer method.warmup"
            )
        unseen = [name for name, share in row.get("unseen", {}).items() if share == 1]
        if unseen and row["epoch"] >= 1 and "unseen" not in self.told:
            self.told.add("unseen")
            self.screen.note(
                f"step {row['step']}: no labeled pixel yet of: {', '.join(unseen)}. Training goes on; what needs a "
                "label of a class (its anchor, its memory) waits for the first one"
            )

    def evaluate(self, step: int) -> None:
        found = self.session.evaluate()
        if found is None:
            return
        self.last = {"step": step, **found.metrics}
        if self.best is None or found.miou > self.best["miou"]:
            self.best = self.last
            if self.run:
                save_network(self.run / "best.safetensors", self.session.method.deployed(), self._meta(step, True))
        self.screen.evaluated({**self.last, "best_miou": self.best["miou"]})
        self._append({**self.last, "best_miou": self.best["miou"]})

    def save(self, step: int) -> None:
        """The deployed network and the state: only the first process writes, all wait."""
        if self.run:
            save_network(self.run / "last.safetensors", self.session.method.deployed(), self._meta(step, False))
            state = {"step": step, "partition": self.session.partition.fingerprint, "seconds": self.seconds}
            state |= {"unlabeled": len(self.session.partition.unlabeled)}
            state |= {"best": self.best, "last": self.last}
            save_state(self.run / STATE, self.session.train, self.session.optimizer, state)
        barrier(self.session.world)
        self.saved = step

    def kept(self) -> str:
        """What a run that diverged still has."""
        best = f"the best network, of step {self.best['step']}" if self.best else ""
        if self.saved is None:
            return f"{best} was kept, a state had not been saved yet" if best else "nothing had been saved yet"
        return f"state and network of step {self.saved} were kept" + (f", and {best}" if best else "")

    def finish(self) -> dict[str, Any]:
        result = {
            "run": str(self.run) if self.run else None,
            "method": self.session.config.title,
            "partition": self.session.partition.name,
            "steps": self.session.config.train.steps,
            "seconds": round(self.seconds, 1),
            "last": self.last,
            "best": self.best,
        }
        if self.run:
            runs.finish(self.run, result)
        if self.writer:
            self.writer.close()
        return result

    def _meta(self, step: int, best: bool) -> dict[str, Any]:
        miou = self.last["miou"] if self.last and self.last["step"] == step else None
        return deployed_meta(self.session, flatten(self.session.config), step=step, miou=miou, best=best)

    def _append(self, row: dict[str, Any]) -> None:
        if self.run:
            runs.append_metrics(self.run, row)
        if self.writer:
            for name, value in row.items():
                for path, number in _scalars(name, value):
                    self.writer.add_scalar(path, number, row["step"])


def _scalars(name: str, value: Any) -> Iterator[tuple[str, float]]:
    """The numbers of an entry of a row by name; one by class as `name/class`."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _scalars(f"{name}/{key}", part)
    elif isinstance(value, float):
        yield name, value


def _tensorboard(run: Path | None) -> Any:
    """A TensorBoard writer into the run, if TensorBoard is installed."""
    if run is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(run / "tensorboard"))
