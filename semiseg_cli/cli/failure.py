"""What the terminal says when a command fails: what, why, what to try, and the exit code. Tracebacks go to a file."""

from __future__ import annotations

import shlex
import sys
import tempfile
import traceback

from semiseg_cli.cli import console, ranks
from semiseg_cli.core.errors import DeviceError, Interrupted, SemisegError


def report(error: Exception) -> int:
    """Tell about `error` on stderr (and on stdout as JSON under --json); returns the exit code."""
    known = _known(error)
    if known and known.code == Interrupted.code and not ranks.is_main():
        return known.code  # every process stops: one says so
    if known and known.told:
        return known.code
    notes = getattr(error, "__notes__", [])
    if known is None:
        where = notes[-1] if notes else f"the traceback is in {_keep(error)}"
        known = SemisegError(f"this is a bug in semiseg: {type(error).__name__}: {error}", why=where)
        notes = []
    if console.state.debug:
        console.stderr().print("".join(traceback.format_exception(error)), soft_wrap=True)
    stopped = known.code == Interrupted.code  # which is what was asked for, and no error
    if stopped:
        console.stderr().print(known.what, soft_wrap=True)
    else:
        _print("error:", known.what, "bold red")
    _print("  why:", known.why, "bold")
    _print("  next:" if stopped else "  try:", known.fix, "bold")
    for note in notes:
        console.stderr().print(f"       {note}", soft_wrap=True, style="dim")
    _answer(known.what, known.why, known.fix, known.code)
    return known.code


def usage() -> None:
    """The JSON document for a command line that Typer refused and has explained on stderr."""
    _answer("the command line is not understood", "the message is on stderr", "semiseg --help", 2)


def _known(error: Exception) -> SemisegError | None:
    """The error as one that the user can act on; None for a bug. Names are compared so that torch stays unimported."""
    if isinstance(error, SemisegError):
        return error
    short = any(words in str(error) for words in ("can't allocate memory", "Insufficient memory"))  # PyTorch, OpenCV
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError) or short:
        first = (str(error).splitlines() or [""])[0]
        fix = "a smaller --batch, -s train.crop=..., or -s train.micro_batch=... (accumulation: the same batch)"
        return DeviceError("the device ran out of memory", why=first, fix=fix)
    if isinstance(error, OSError) and error.filename is not None:  # a disk, a right, a link in a circle: no bug
        name = error.filename.decode(errors="replace") if isinstance(error.filename, bytes) else error.filename
        fix = f"ls -l {shlex.quote(str(name))}"
        return SemisegError(f"cannot use {name}", why=error.strerror or str(error), fix=fix)
    return None


def _keep(error: Exception) -> str:
    with tempfile.NamedTemporaryFile("w", prefix="semiseg-", suffix=".log", delete=False, encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    return file.name


def _print(word: str, text: str, style: str) -> None:
    from rich.text import Text

    if text:
        console.stderr().print(Text.assemble((word, style), f" {text}"), soft_wrap=True)


def _answer(what: str, why: str, fix: str, code: int) -> None:
    if "--json" in console.state.arguments:
        command = next((word for word in console.state.arguments if not word.startswith("-")), "")
        console.document({"command": command, "error": {"what": what, "why": why, "fix": fix, "code": code}})
    sys.stdout.flush()
