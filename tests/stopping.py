"""A screen that keeps what it is told, and asks a run to stop as SLURM does."""

from __future__ import annotations

import os
import signal

from semiseg_cli.stages.progress import Silent


class Stopping(Silent):
    """after: the step after which it asks; -1: it never does. notes: what was said."""

    def __init__(self, after: int = -1) -> None:
        self.after, self.notes = after, list[str]()

    def advance(self, step: int) -> None:
        if step == self.after:
            os.kill(os.getpid(), signal.SIGTERM)

    def note(self, text: str) -> None:
        self.notes.append(text)
