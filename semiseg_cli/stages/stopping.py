"""Signals: before the first step they end a command at once, from then on they ask the loop to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from semiseg_cli.core.errors import Interrupted
from semiseg_cli.core.files import resuming
from semiseg_cli.core.stopping import asking

if TYPE_CHECKING:
    from torch import nn


class Signals:
    """Whether one has come, and what it does: `at_once` it interrupts, else it waits for somebody to ask."""

    def __init__(self, run: Path | None, root: Path | None) -> None:
        self.run, self.root, self.asked, self.at_once = run, root, False, True
        self.told: Callable[[], object] = lambda: None  # called when one comes that waits

    def __call__(self) -> bool:
        return self.asked

    def interrupted(self) -> Interrupted:
        """The error of a command that ends before there is anything to save."""
        if self.run:
            what = f"stopped before the next step; {self.run} is as it was"
            return Interrupted(what, fix=resuming(self.run, self.root))
        return Interrupted("stopped before the first step; nothing was saved", fix="the same command starts it anew")

    def take(self, number: int, frame: object) -> None:
        again, self.asked = self.asked, True
        if number == signal.SIGINT if again else self.at_once:  # a second SIGTERM (timeout sends two) changes nothing
            raise KeyboardInterrupt  # which, unlike an error, no library takes for its own
        if not again:
            with suppress(RuntimeError, OSError):  # somebody was about to write on the same stream, or it is closed
                self.told()


def let_in(net: nn.Module) -> None:
    """Let a KeyboardInterrupt into the backward pass of a network on a CPU, which may take a minute.

    Python looks for signals where Python runs: from now on whenever the gradient of a parameter is done.
    """
    for parameter in net.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda _: None)


@contextmanager
def signals(run: Path | None = None, root: Path | None = None) -> Iterator[Signals]:
    """Takes the signals of `core.stopping`; one that comes while they interrupt at once becomes Interrupted.

    A second SIGINT is a KeyboardInterrupt. run: the one that is resumed; None: a new one. root: the data
    root that was given for it.
    """
    found = Signals(run, root)
    try:
        old = {number: signal.signal(number, found.take) for number in asking()}
    except ValueError:  # not the main thread: the caller has the signals
        yield found
        return
    try:
        yield found
    except (Exception, KeyboardInterrupt):  # an import that is interrupted may end in an error of its own
        if not (found.asked and found.at_once):
            raise
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    if found.asked and found.at_once:
        raise found.interrupted()
