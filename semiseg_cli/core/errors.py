"""What can go wrong in the user's world: one exception per exit code, each with what happened, why and what to try."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from itertools import islice


class SemisegError(Exception):
    """An error the user can act on.

    what: one sentence that names the file, setting or command concerned.
    why:  the cause, where it is known.
    fix:  what to try, ideally a command that can be pasted.
    agreed: every process of several raises it, at the same place.
    told: another process tells it.
    """

    code = 1
    agreed = told = False

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what, self.why, self.fix = what, why, fix


class UsageError(SemisegError, ValueError):
    """A command line, setting or configuration that cannot be right (exit code 2)."""

    code = 2


class DataError(SemisegError, ValueError):
    """Images, masks, lists or a dataset that cannot be used (exit code 3)."""

    code = 3


class BadFile(DataError):
    """A file of a prepared dataset that cannot be read, or is not as it was prepared."""


class DeviceError(SemisegError, RuntimeError):
    """A device that is absent or out of memory (exit code 4)."""

    code = 4


class ProcessLost(DeviceError):
    """Another process ended unasked."""


class WorkerLost(DeviceError):
    """Processes that load images ended unasked."""


class CheckpointError(SemisegError, RuntimeError):
    """A checkpoint that cannot be read, written or fitted (exit code 5)."""

    code = 5


class Diverged(SemisegError, ArithmeticError):
    """The loss is not finite any more; what had been saved was kept (exit code 6)."""

    code = 6


class CheckFailed(SemisegError):
    """A check ran to its end and found something wrong (exit code 7)."""

    code = 7


class Interrupted(SemisegError):
    """Stopped by a signal, after saving if there was anything to save (exit code 130)."""

    code = 130


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean 'unimatch'? (known: fixmatch, unimatch)`; where none is near, `one of: fixmatch, unimatch`."""
    names = sorted(known)
    if not names:
        return ""
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    every = ", ".join(names)
    return f"did you mean '{close[0]}'? (known: {every})" if close else f"one of: {every}"


def counted(count: int, noun: str) -> str:
    """`1 mask`, `2 masks`, `1,024 masks`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def verb(count: int, one: str, many: str) -> str:
    """The form that goes with a count: `1 mask is`, `2 masks are`."""
    return one if count == 1 else many


def few(words: Collection[object], most: int = 5) -> str:
    """The first of many: `a, b, c, d, e and 1,024 more`."""
    rest = len(words) - most
    return ", ".join(map(str, islice(words, most))) + (f" and {rest:,} more" if rest > 0 else "")


def few_lines(lines: Sequence[str], most: int = 20) -> str:
    """The first of many lines, and how many more there are in the last one."""
    rest = len(lines) - most
    return "\n".join([*lines[:most], *([f"... and {rest:,} more"] if rest > 0 else [])])
