"""Train a method on a prepared dataset: from a resolved configuration to a run directory with its networks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from semiseg_cli.core import runs
from semiseg_cli.core.commands import command
from semiseg_cli.core.config.layers import Resolved, refuse_changes, settled
from semiseg_cli.core.data.again import naming_bad_files
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.data.loader import close
from semiseg_cli.core.errors import CheckpointError, DataError, Diverged, Interrupted, WorkerLost, counted
from semiseg_cli.core.files import STATE, resuming
from semiseg_cli.core.networks import Origin
from semiseg_cli.core.places import find_root, remember
from semiseg_cli.core.runs.environment import write_environment
from semiseg_cli.core.runs.log import truncate_metrics
from semiseg_cli.core.runs.results import read_result, write_partition
from semiseg_cli.core.settings import Config
from semiseg_cli.core.training.alike import same_dataset
from semiseg_cli.core.training.checkpoint import load_state
from semiseg_cli.core.training.distributed import World, any_process, barrier, joined, shared
from semiseg_cli.core.training.first_weights import thawed
from semiseg_cli.core.training.loop import Hooks, fit
from semiseg_cli.core.training.peers import heard
from semiseg_cli.core.training.session import Session
from semiseg_cli.core.training.setup import open_session
from semiseg_cli.stages.foresee import cost_of_run, foresee, members
from semiseg_cli.stages.longer import lengthened
from semiseg_cli.stages.progress import Screen, Silent
from semiseg_cli.stages.recorder import Recorder
from semiseg_cli.stages.repeat import begun_from
from semiseg_cli.stages.sizing import sized
from semiseg_cli.stages.stopping import Signals, let_in, signals


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
    # networks live in the functions it calls, gone when it ends
    with signals() as stop, joined(device) as world, ExitStack() as held:
        screen = screen if screen and world.main else Silent()
        return _start(resolved, data_root, runs_root, out, init, dry_run, world, screen, stop, held)


def resume(
    run: Path,
    *,
    data_root: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    device: str = "auto",
    screen: Screen | None = None,
) -> dict[str, Any]:
    """Go on exactly where an interrupted run stood. A changed setting is an error that shows the difference.

    But for train.steps of a finished run, which goes on for longer: see `longer.py`.
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
    held: ExitStack,
) -> dict[str, Any]:
    """held: keeps the run's directory this process's own."""
    config, run = resolved.config, None
    made = bool(out and not out.exists())
    stop.at_once = world.size == 1 or dry_run  # a process that left alone would leave its peers waiting
    try:
        if out and world.main and not dry_run:
            run = runs.claim_run(out)  # before the work of loading: a taken directory is refused at once
            held.enter_context(runs.owned(run))
        dataset = same_dataset(lambda: load_dataset(data_root, config.data.name), world)
        resolved = sized(resolved, dataset, world.device.type == "cuda", screen.note)
        config = thawed(resolved.config, init, screen.note)
        if dry_run:
            return cost_of_run(config, data_root, world, screen, init)
        foresee(config, data_root, world, screen)
        session = open_config(config, data_root, world, screen, init)
        _bring_images(session, screen)
        _hold(stop, world)
    except BaseException:
        held.close()
        if run and made:
            with suppress(OSError):
                run.rmdir()  # nothing is in it yet
        raise
    if world.main:
        if run is None:
            run = runs.create_run(runs_root, runs.run_name(config))
            held.enter_context(runs.owned(run))
        runs.write_config(run, settled(resolved, session.config))
        write_environment(run, session.device_name, begun_from(config, init), world.size)
        remember(run, session.dataset.root)
        write_partition(run, session.partition)
    return _go(session, run, screen, stop, start=0)


def _bring_images(session: Session, screen: Screen) -> None:
    """Have all images on the device where `data.cache` says so, while a signal still ends the command at once."""
    if session.config.data.cache == "device":
        count = len(session.partition.labeled) + len(session.partition.unlabeled)
        with naming_bad_files(session.dataset), screen.progress("decoding images", count) as advance:
            session.pool(advance)


def _hold(stop: Signals, world: World) -> None:
    """From here on files are written, so a signal waits for the loop, which saves. One that has come ends it now."""
    stop.at_once = False
    if any_process(stop(), world):
        raise stop.interrupted()


def _resume(
    run: Path, data_root: Path | None, overrides: Mapping[str, Any], world: World, screen: Screen, stop: Signals
) -> dict[str, Any]:
    stop.at_once = world.size == 1
    config, longer = runs.config_of(run), overrides.get("train.steps")
    if runs.is_finished(run) and longer is not None:
        refuse_changes(config, {name: value for name, value in overrides.items() if name != "train.steps"})
        config = lengthened(run, config, longer, world, screen.note)
    else:
        refuse_changes(config, overrides)
    if runs.is_finished(run):
        screen.note(f"{run} is finished; nothing to do (--steps N with more steps goes on)")
        return read_result(run)
    if not (run / STATE).is_file():
        raise CheckpointError(
            f"{run} holds no resume state",
            why="it stopped before its first save",
            fix=f"it starts anew with {command('train', '-c', run / 'config.toml', root=data_root)}",
        )
    with runs.owned(run) if world.main else nullcontext():
        return _go_on(run, config, data_root, world, screen, stop)


def _go_on(
    run: Path, config: Config, data_root: Path | None, world: World, screen: Screen, stop: Signals
) -> dict[str, Any]:
    session = open_config(config, find_root(config.data.name, data_root, run), world, screen, bare=True)
    meta = restore(session, run / STATE)
    screen.note(f"{run} goes on from step {meta['step']} of {config.train.steps}")
    _bring_images(session, screen)
    _hold(stop, world)
    if world.main:
        remember(run, session.dataset.root)
        runs.sweep(run)
        truncate_metrics(run, meta["step"], (meta.get("last") or {}).get("step", 0))
    barrier(world)
    return _go(session, run if world.main else None, screen, stop, start=meta["step"], before=meta)


def open_config(
    config: Config, data_root: Path, world: World, screen: Screen, init: Path | None = None, bare: bool = False
) -> Session:
    """Dataset, partition, networks and optimiser of a configuration. bare: see `open_session`."""
    return open_session(config, *members(config, data_root, world), world, screen.note, init, bare)


def restore(session: Session, state: Path) -> dict[str, Any]:
    meta = load_state(state, session.train, session.optimizer, session.meter)
    if meta["partition"] != session.partition.fingerprint:
        raise CheckpointError(
            f"{state} was written for other labeled images",
            why="the dataset or its splits changed since the run started; perhaps a published list was imported",
            fix="put them back as they were (<dataset>/splits), or start a new run with --init",
        )
    _same_pool(session, meta.get("unlabeled"), state)
    session.method.deployed().encoder.origin = Origin.of(meta)  # its weights are in the state
    return meta


def _same_pool(session: Session, before: int | None, state: Path) -> None:
    """Raise CheckpointError where other unlabeled images are here than when the state was written; None: not known."""
    now = len(session.partition.unlabeled)
    if "unlabeled" in session.plan.inputs and before not in (None, now):
        raise CheckpointError(
            f"{state} was written with {counted(before, 'unlabeled image')}, now there are {now:,}",
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
    config, world = session.config, session.world
    recorder = Recorder(session, run, screen, dict(before or {}), heard(stop, world.peers))
    screen.start(session.title, config.train.steps)
    on = resuming(shared(run, world), session.dataset.root.parent)
    stop.told, world.peers.resume = recorder.stopping, on
    if world.size == 1 and world.device.type == "cpu":
        let_in(session.train)
    try:
        with runs.recording(run) if run else nullcontext(), naming_bad_files(session.dataset):
            hooks = Hooks(
                recorder.log, recorder.show, recorder.evaluate, recorder.save, stop, recorder.advance, screen.note,
                session.images_of, recorder.enough,
            )  # fmt: skip
            if recorder.owes_evaluation():
                if not recorder.evaluate(start):
                    raise Interrupted(f"stopped before the next step; {run} is as it was")
                recorder.save(start)
            steps = start if recorder.enough() else session.plan.steps  # it was stopped as it ended
            plan = replace(session.plan, start=start, steps=steps)
            batches = session.batches(plan)
            try:
                fit(
                    session.train, session.optimizer, batches, plan,
                    config.train, world, hooks, session.epoch_images, session.meter,
                )  # fmt: skip
            finally:
                close(batches)
    except Interrupted as end:
        end.fix = on if run else ""  # one process speaks for all
        raise
    except KeyboardInterrupt:
        what = f"stopped {recorder.place()}; {recorder.kept()}"
        fix = "the same command starts it anew" if recorder.saved is None else on
        if world.size == 1:
            raise Interrupted(what, fix=fix) from None
        screen.stop()
        screen.note(f"{what}; next: {fix}")
        raise  # the others are not asked: whoever started them ends them
    except Diverged as end:
        end.why += f"; {recorder.kept()}"
        raise
    except (DataError, WorkerLost) as end:
        end.why = "; ".join(filter(None, (end.why, recorder.kept())))
        if run and recorder.saved is not None:
            end.fix += f"; then {on}"
        raise
    finally:
        screen.stop()
    found = recorder.finish()
    if not run:
        return found
    from semiseg_cli.stages.report import report_or_note  # not before the first step

    drawn = {"root": session.dataset.root.parent, "device": world.device.type}
    return found | {"report": report_or_note([run], screen.note, **drawn)}
