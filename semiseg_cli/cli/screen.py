"""What training looks like: a live screen on a terminal, one plain line per log interval elsewhere.

The training stage reports to a `Screen`: `start` once, then `advance`, `log`, `progress`, `evaluated` and `note` in any
order, and `stop` at the end (again is harmless). A logged row holds step and loss, and may hold parts of the loss
("loss_x"), lr, images_per_second, step_s (seconds a step), and further scalars by name, or by class in a dictionary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from semiseg_cli.cli import console

if TYPE_CHECKING:
    from rich.console import RenderableType

BARS = "▁▂▃▄▅▆▇█"
PARTS = "loss_"
ELSEWHERE = ("step", "loss", "lr", "images_per_second", "step_s", "epoch")  # shown in places of their own, or not
SHARES = ("kept", "largest_class")  # fractions, shown in percent
KEPT = "kept_pixels"  # of every class, per micro-batch
EVERY = 30.0  # seconds between plain lines about one piece of work


class Screen:
    """Plain lines on stderr."""

    def start(self, title: str, steps: int) -> None:
        self.title, self.steps = title, steps
        console.note(title)

    def advance(self, step: int) -> None:
        """`step` steps are done; cheap, may be called after every one."""

    def log(self, row: dict[str, Any]) -> None:
        left = [f"{duration((self.steps - row['step']) * row['step_s'])} left"] if "step_s" in row else []
        words = [*losses(row), *speed(row), *left, *stats(row), *fewest(row)]
        console.note(f"step {row['step']}/{self.steps}  " + "  ".join(words))

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[..., None]]:
        """Announce a piece of work, and say every now and then how far it is. Yields `advance(count=1)`."""
        console.note(f"{description}, {total} in all")
        began = told = time.monotonic()
        done = 0

        def advance(count: int = 1) -> None:
            nonlocal told, done
            done, now = done + count, time.monotonic()
            if now - told >= EVERY and done < total:
                told, left = now, (now - began) / done * (total - done)
                console.note(f"{description}, {done}/{total}  {duration(left)} left")

        yield advance

    def evaluated(self, row: dict[str, Any]) -> None:
        """`row`: step, miou (percent), best_miou, and best_by where the best is chosen by something else."""
        console.note(f"step {row['step']}/{self.steps}  mIoU {row['miou']:.2f}  {best(row)}")

    def foreseen(self, cost: dict[str, Any]) -> None:
        """`cost` of a run on a CPU, before it begins: see `cost_lines`."""
        for line in cost_lines(cost):
            console.note(line)

    def note(self, text: str) -> None:
        console.note(text)

    def stop(self) -> None:
        """Leave the terminal as it was."""


class LiveScreen(Screen):
    """A few lines that stay in place: progress, losses, speed and the mIoU so far."""

    def __init__(self) -> None:
        from rich.live import Live

        self.title, self.steps, self.step = "", 0, 0
        self.row: dict[str, Any] = {}
        self.advanced = 0.0  # when `step` was done
        self.evaluations: list[dict[str, Any]] = []
        self.work = ""  # what is done beside the steps, and how far it is
        self.live = Live(console=console.stderr(), get_renderable=self.render, refresh_per_second=4)

    def start(self, title: str, steps: int) -> None:
        self.title, self.steps = title, steps
        self.live.start()

    def advance(self, step: int) -> None:
        self.step, self.advanced = step, time.monotonic()

    def log(self, row: dict[str, Any]) -> None:
        self.row = row
        self.advance(row["step"])

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[..., None]]:
        if not self.live.is_started:
            with console.progress(description, total) as advance:
                yield advance
            return
        done = 0

        def advance_line(count: int = 1) -> None:
            nonlocal done
            done += count
            self.work = f"{description}, {done}/{total}"

        advance_line(0)
        try:
            yield advance_line
        finally:
            self.work = ""

    def evaluated(self, row: dict[str, Any]) -> None:
        self.evaluations.append(row)

    def stop(self) -> None:
        self.live.stop()

    def render(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        done = self.step / max(self.steps, 1)
        head = Table.grid(expand=True, padding=(0, 2, 0, 0))
        head.add_column(ratio=1)
        head.add_column(no_wrap=True)
        eta = self.eta()
        where = f"{self.step}/{self.steps}  {done:4.0%}" + (f"  {eta} left" if eta else "")
        head.add_row(ProgressBar(total=max(self.steps, 1), completed=self.step), where)
        lines: list[RenderableType] = [Text(self.title, style="bold"), head]
        if self.row:
            lines.append(Text("  ".join(losses(self.row))))
            lines.append(Text("  ".join([*speed(self.row), *stats(self.row)]), style="dim"))
            lines += [Text(line, style="dim", overflow="ellipsis", no_wrap=True) for line in fewest(self.row)]
        if self.work:
            lines.append(Text(self.work, style="cyan"))
        if self.evaluations:
            last = self.evaluations[-1]
            curve = sparkline([row["miou"] for row in self.evaluations])
            lines.append(Text.assemble(("mIoU ", "bold"), f"{last['miou']:.2f} at step {last['step']}  ",
                                       f"{best(last)}  ", (curve, "cyan")))  # fmt: skip
        else:
            lines.append(Text("not evaluated yet", style="dim"))
        return Group(*lines)  # the last line is short: the "^C" of a terminal must not wrap and shift the rest

    def eta(self) -> str:
        """The steps that are left of the bar, less what has gone of the one at work."""
        if "step_s" not in self.row or self.step >= self.steps:
            return ""
        step_s, gone = self.row["step_s"], time.monotonic() - self.advanced
        return duration((self.steps - self.step) * step_s - min(gone, step_s))


def make_screen() -> Screen:
    """The live screen if somebody is looking at stderr, else plain lines (silent under -q)."""
    return LiveScreen() if console.stderr().is_terminal and not console.state.quiet else Screen()


def best(row: dict[str, Any]) -> str:
    """The mIoU of the best evaluation, which need not be the highest where another number chooses it."""
    by = str(row.get("best_by", "miou"))
    return f"best {row['best_miou']:.2f}" + f" (by {by})" * (by != "miou")


def losses(row: dict[str, Any]) -> list[str]:
    parts = [f"{name.removeprefix(PARTS)} {value:.3f}" for name, value in row.items() if name.startswith(PARTS)]
    if "loss" not in row:  # every step was skipped
        return []
    return [f"loss {row['loss']:.4f}" + (f" ({', '.join(parts)})" if parts else "")]


def speed(row: dict[str, Any]) -> list[str]:
    words = {"lr": "lr {:.2e}".format, "images_per_second": "{:.1f} images/s".format, "step_s": pace}
    return [word(row[name]) for name, word in words.items() if name in row]


def stats(row: dict[str, Any]) -> list[str]:
    """Further scalars of a row, e.g. `kept 63%`."""
    named = {name: value for name, value in row.items() if name not in ELSEWHERE and not name.startswith(PARTS)}
    scalars = {name: value for name, value in named.items() if isinstance(value, int | float)}
    words = {name: f"{value:.0%}" if name in SHARES else f"{value:.3g}" for name, value in scalars.items()}
    return [f"{name.replace('_', ' ')} {word}" for name, word in words.items()]


def fewest(row: dict[str, Any], count: int = 3) -> list[str]:
    """The classes of which the fewest pseudo-labels are kept, e.g. `fewest kept: pole 12, sign 35, fence 60 px`."""
    kept = sorted(row.get(KEPT, {}).items(), key=lambda item: float(item[1]))[:count]
    return [f"fewest kept: {', '.join(f'{name} {pixels:.0f}' for name, pixels in kept)} px"] if kept else []


def cost_lines(cost: dict[str, Any]) -> list[str]:
    """What a step and a run take; for one that was estimated, from what, and what is at hand instead."""
    memory = f"{cost['peak_memory_bytes'] / 2**30:.1f} GiB of memory"
    there = cost.get("memory_bytes_there")
    memory = f"{memory} at most" if there is None else f"about {memory}; {there / 2**30:.1f} are there"
    lines = [
        f"{pace(cost['step_ms'] / 1000)}, {cost['gflop_per_step']:.1f} GFLOP, "
        f"{cost['images_per_second']:.3g} images/s, {memory}",
        f"{cost['steps']:,} steps: about {duration(cost['estimated_hours'] * 3600)} in all, evaluations not counted",
    ]
    if small := cost.get("estimated_from"):
        lines += [
            f"(estimated from steps of {small['images']} images of a kind at {small['crop']} pixels)",
            "lighter: -p small (for a CPU), -b mobilenet_v2, a smaller -s train.crop, or fewer steps (--steps 2000)",
        ]
    return lines


def pace(step_s: float) -> str:
    """`12 ms a step`, `61.5 s a step`."""
    if step_s < 1:
        return f"{1000 * step_s:.0f} ms a step"
    return f"{step_s:.3g} s a step" if step_s < 100 else f"{step_s:.0f} s a step"


def duration(seconds: float) -> str:
    """`0:42`, `12:05`, `3:12:05`, `9 days`."""
    if seconds >= 48 * 3600:
        return f"{seconds / 86400:.0f} days"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def sparkline(values: list[float], width: int = 24) -> str:
    """The last `width` values as bars between the lowest and the highest of them."""
    values = values[-width:]
    low, span = min(values), max(values) - min(values)
    return "".join(BARS[round((value - low) / span * (len(BARS) - 1)) if span else 0] for value in values)
