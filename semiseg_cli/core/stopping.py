"""The signals at which a run saves and ends: a key, a scheduler before its time is over, a terminal that closes."""

from __future__ import annotations

import signal

ALWAYS = ("SIGINT", "SIGTERM")
UNLESS_IGNORED = ("SIGUSR1", "SIGHUP", "SIGQUIT")  # as `nohup` has it


def asking() -> list[signal.Signals]:
    """Those that this process answers: what whoever started it had it ignore (`nohup`) stays ignored."""
    there = [getattr(signal, name) for name in (*ALWAYS, *UNLESS_IGNORED) if hasattr(signal, name)]
    return [each for each in there if each.name in ALWAYS or signal.getsignal(each) != signal.SIG_IGN]
