"""Parts one after the other within a time: what would not fit is left out, what fails is told, and the rest goes on."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

PATIENCE = 3  # a part may take this many times the seconds it usually takes

Found = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """Something to measure. seconds: about what it takes; with less left it is not begun. run: told its limit in s."""

    kind: str
    name: str
    seconds: float
    run: Callable[[float], Found]


class OutOfTime(Exception):
    """A part reached its limit."""


def work_through(parts: Sequence[Part], seconds: float, done: Callable[[Found], None]) -> list[Found]:
    """Run the parts in order for `seconds` altogether; `done` is told of each.

    An outcome has the part's kind and name, a state (done, failed, left out), its seconds, and what it found or why
    not.
    """
    ends, outcomes = time.monotonic() + seconds, list[Found]()
    for part in parts:
        outcome = {"kind": part.kind, "name": part.name} | _outcome(part, ends - time.monotonic())
        outcomes.append(outcome)
        done(outcome)
    return outcomes


def _outcome(part: Part, left: float) -> Found:
    if left < part.seconds:
        return {"state": "left out", "why": f"it takes about {part.seconds:.0f} s, {max(left, 0):.0f} were left"}
    limit, began = min(left, PATIENCE * part.seconds), time.monotonic()
    try:
        with limited(limit):
            found = {"state": "done", **part.run(limit)}
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        found = {"state": "failed", "why": f"{type(error).__name__}: {first}", "trace": traceback.format_exc(limit=-6)}
    return found | {"seconds": time.monotonic() - began}


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the block after `seconds`, and every 5 s from then on: a destructor swallows exceptions."""

    def ring(_signal: int, _frame: object) -> None:
        raise OutOfTime(f"not done after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
