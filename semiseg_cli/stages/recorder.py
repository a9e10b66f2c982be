"""What a run leaves behind while it goes on: metrics, its networks, the resume state; and what is told of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from semiseg_cli.core.config.layers import flatten
from semiseg_cli.core.errors import few
from semiseg_cli.core.files import STATE
from semiseg_cli.core.inference.evaluation import BrokenOff, Evaluation
from semiseg_cli.core.inference.metrics import quality
from semiseg_cli.core.networks import Net
from semiseg_cli.core.runs.log import append_metrics, numbers, settle_metrics
from semiseg_cli.core.runs.results import finish, write_evaluation
from semiseg_cli.core.training.checkpoint import save_network, save_state
from semiseg_cli.core.training.distributed import barrier
from semiseg_cli.core.training.measure import peak_memory
from semiseg_cli.core.training.session import Session, deployed_meta
from semiseg_cli.stages.progress import Screen


class Recorder:
    """What a run leaves behind while it goes on: metrics, the last and the best network, the resume state."""

    def __init__(
        self,
        session: Session,
        run: Path | None,
        screen: Screen,
        before: dict[str, Any],
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """stopping: whether this process or another was asked to stop."""
        self.session, self.run, self.screen = session, run, screen
        self.best: dict[str, Any] | None = before.get("best")
        self.last: dict[str, Any] | None = before.get("last")
        self.saved: int | None = before.get("step")  # the step of the state
        self.step: int = before.get("step", 0)
        self.seconds: float = before.get("seconds", 0.0)
        self.rival: dict[str, Any] | None = before.get("rival", self.best)  # the best since a run went on for longer
        self.waited: int = before.get("waited", 0)  # evaluations since that
        self.told: set[str] = set()
        self.asked, self.evaluating = stopping, False
        self.writer = _tensorboard(run)

    def advance(self, step: int) -> None:
        self.step = step
        self.screen.advance(step)

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
                f"If this lasts, {self._against_one_class()}"
            )
        unseen = [name for name, share in row.get("unseen", {}).items() if share == 1]
        if unseen and row["epoch"] >= 1 and "unseen" not in self.told:
            self.told.add("unseen")
            self.screen.note(
                f"step {row['step']}: no labeled pixel yet of: {', '.join(unseen)}. Training goes on; what needs a "
                "label of a class (its anchor, its memory) waits for the first one"
            )

    def _against_one_class(self) -> str:
        """What can be tried where a network knows few of the classes; nothing that is set already."""
        config = self.session.config
        remedies = ["lower train.lr"]
        if config.train.class_weights == "none":
            remedies.append("set train.class_weights=sqrt")
        if hasattr(config.method, "warmup"):
            remedies.append(f"give it a longer method.warmup (now {config.method.warmup:g})")
        return " or ".join(remedies)

    def _tell_unfound(self, step: int, found: Evaluation) -> None:
        """Name the labeled classes that nothing is found of, once the run should know them, and at its end."""
        steps, shares = self.session.config.train.steps, found.frequency
        unfound = [name for name, value in found.by_class["iou"].items() if value == 0 and shares[name]]
        when = "end" if step == steps else "half"
        if not unfound or 2 * step < steps or f"unfound {when}" in self.told:
            return
        self.told.add(f"unfound {when}")
        advice = f"If this lasts, {self._against_one_class()}" if step < steps else "Train longer"
        self.screen.note(f"step {step}: nothing is found of: {few(unfound, 8)} (IoU 0). {advice}, or label more of it")

    def owes_evaluation(self) -> bool:
        """Whether the run was saved after a step whose evaluation a bad file, or a request to stop, prevented."""
        train, step = self.session.config.train, self.step
        due = step == train.steps or (train.eval_every and step % train.eval_every == 0)
        return bool(step and due and (self.last or {}).get("step") != step)

    def evaluate(self, step: int) -> bool:
        """Measure the network and note it; whether that came to its end before somebody asked to stop."""
        records, world = self.session.dataset.val, self.session.world
        if not records:
            return True
        self.evaluating = True
        try:
            with self.session.deployed(step) as net:
                with self.screen.progress(f"step {step}: evaluating", -(-len(records) // world.size)) as advance:
                    found = self.session.evaluate(advance, self.asked)
                best = self._measured(step, found, net)
        except BrokenOff:
            return False
        self.evaluating = False
        row = {"step": step, **found.metrics, "best_miou": best["miou"]}
        self.screen.evaluated(row | {"best_by": self.session.config.train.best_by})
        self._tell_unfound(step, found)
        if self.enough() and step < self.session.config.train.steps:
            self.screen.note(f"step {step} is the last: no better network in {self.waited} evaluations (patience)")
        self._append(row)
        if self.run:
            write_evaluation(self.run, found.of(self.session.dataset, step))
        return True

    def _measured(self, step: int, found: Evaluation, net: Net) -> dict[str, Any]:
        """Note what was found of the network, and save it if none was better; the best so far."""
        self.last = {"step": step, **found.metrics}
        by = self.session.config.train.best_by
        self.waited += 1
        if self.rival is None or quality(self.last, by) > quality(self.rival, by):
            self.rival, self.waited = self.last, 0
        if self.best is None or quality(self.last, by) > quality(self.best, by):
            self.best = self.last
            if self.run:
                save_network(self.run / "best.safetensors", net, self._meta(step, True))
        return self.best

    def enough(self) -> bool:
        """Whether `train.patience` evaluations in a row were not better than the best."""
        return 0 < self.session.config.train.patience <= self.waited

    def save(self, step: int) -> None:
        """The deployed network and the state: only the first process writes, all wait."""
        if self.run:
            with self.session.deployed(step) as net:
                save_network(self.run / "last.safetensors", net, self._meta(step, False))
            state = {"step": step, "partition": self.session.partition.fingerprint, "seconds": self.seconds}
            state |= {"unlabeled": len(self.session.partition.unlabeled)}
            state |= {"best": self.best, "last": self.last, "rival": self.rival, "waited": self.waited}
            state |= {"encoder": asdict(self.session.method.deployed().encoder.origin)}
            settle_metrics(self.run)  # no state is on the disk before its log
            save_state(self.run / STATE, self.session.train, self.session.optimizer, state, self.session.meter)
        barrier(self.session.world)
        self.saved = step

    def stopping(self) -> None:
        """Answer the first signal."""
        if self.session.world.peers.lost:  # whoever started the processes ends this one too
            return
        saved = "nothing is saved yet" if self.saved is None else f"the saved state is of step {self.saved}"
        where = self.place() if self.evaluating else f"after step {self.step + 1}"
        self.screen.note(f"stopping {where}, then saving; Ctrl-C again ends it now ({saved})")

    def place(self) -> str:
        """Where the run is."""
        return f"in the evaluation after step {self.step}" if self.evaluating else f"within step {self.step + 1}"

    def kept(self) -> str:
        """What a run that ends in the middle of a step still has."""
        best = f"the best network, of step {self.best['step']}" if self.best else ""
        if self.saved is None:
            return f"{best} was kept, a state had not been saved yet" if best else "nothing had been saved yet"
        return f"state and network of step {self.saved} were kept" + (f", and {best}" if best else "")

    def finish(self) -> dict[str, Any]:
        result = {
            "run": str(self.run) if self.run else None,
            "method": self.session.config.title,
            "partition": self.session.partition.name,
            "steps": self.step,
            "seconds": round(self.seconds, 1),
            "peak_memory_bytes": peak_memory(self.session.world.device),
            "last": self.last,
            "best": self.best,
            "best_by": self.session.config.train.best_by,
        }
        if self.run:
            finish(self.run, result)
        if self.writer:
            self.writer.close()
        return result

    def _meta(self, step: int, best: bool) -> dict[str, Any]:
        miou = self.last["miou"] if self.last and self.last["step"] == step else None
        return deployed_meta(self.session, flatten(self.session.config), step=step, miou=miou, best=best)

    def _append(self, row: dict[str, Any]) -> None:
        if self.run:
            append_metrics(self.run, row)
        if self.writer:
            for name, number in numbers(row):
                if isinstance(number, float):
                    self.writer.add_scalar(name, number, row["step"])


def _tensorboard(run: Path | None) -> Any:
    """A TensorBoard writer into the run, if TensorBoard is installed."""
    if run is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(run / "tensorboard"))
