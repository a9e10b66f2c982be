"""One owner at a time: a file that says who writes to a run or prepares a dataset, and shows that it lives.

A second one is told who it is. What a dead owner left is taken over: on one machine its process is gone, or another one
has its number; from other machines all that is seen is whether the file was touched within the last minutes.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.locks import hold
from semiseg_cli.core.reading import read_json

NAME = ".owner"
BEAT, DEAD = 20.0, 180.0  # seconds from one touch to the next; without one after which an owner elsewhere is dead


@contextmanager
def owned(lock: Path, what: str) -> Iterator[None]:
    """Within it nobody else has `lock`, a file in a folder that is there. UsageError, naming `what`, if somebody does.

    Where this process may not write, nobody needs to be kept out.
    """
    me = _me()
    try:
        with _one_at_a_time(lock.parent):
            _take(lock, what, me)
    except OSError:
        if os.access(lock.parent, os.W_OK):
            raise
        yield
        return
    ended = threading.Event()
    threading.Thread(target=_beat, args=(lock, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        with suppress(OSError):
            if _read(lock).get("token") == me["token"]:
                lock.unlink()


def holder(lock: Path) -> str:
    """Who has `lock` and lives, in words; "" where nobody does."""
    if not lock.exists():
        return ""
    owner = _read(lock)
    if not _lives(owner, _age(lock), _me()):
        return ""
    return f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"


def _take(lock: Path, what: str, me: dict[str, Any]) -> None:
    if lock.exists():
        owner, age = _read(lock), _age(lock)
        if _lives(owner, age, me):
            raise _in_use(lock, what, owner, age, me)
        lock.unlink(missing_ok=True)
    try:
        handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:  # a machine whose locks of folders do not reach this one was faster
        raise _in_use(lock, what, _read(lock), 0.0, me) from None
    try:
        os.write(handle, json.dumps(me).encode())
    finally:
        os.close(handle)


def _in_use(lock: Path, what: str, owner: dict[str, Any], age: float, me: dict[str, Any]) -> UsageError:
    since = owner.get("since", "a time that it does not say")
    why = f"process {owner.get('pid', '?')} on {owner.get('host', '?')} has it since {since}"
    fix = "wait until it ends"
    if not _here(owner, me):
        why += f"; its last sign of life is {age:.0f} s old"
        fix += f"; if it is gone: rm {shlex.quote(str(lock))}, or wait until that is {DEAD:.0f} s old"
    return UsageError(f"{what} is in use", why=why, fix=fix)


def _lives(owner: dict[str, Any], age: float, me: dict[str, Any]) -> bool:
    if not _here(owner, me):
        return age < DEAD
    pid = owner.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _started(pid) == owner.get("started")  # else another process has its number now


def _here(owner: dict[str, Any], me: dict[str, Any]) -> bool:
    return all(owner.get(key) == me[key] for key in ("host", "space"))


def _me() -> dict[str, Any]:
    pid, now = os.getpid(), datetime.now().astimezone().isoformat(timespec="seconds")
    space = ""  # of process numbers: containers of one name have their own
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    host, token = socket.gethostname(), secrets.token_hex(8)
    return {"pid": pid, "started": _started(pid), "host": host, "space": space, "since": now, "token": token}


def _started(pid: int) -> str:
    """When a process began, in the system's own words; "" where it does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _read(lock: Path) -> dict[str, Any]:
    """Who has it; empty where that cannot be read."""
    try:
        found: dict[str, Any] = read_json(lock, dict[str, Any], 4096)
    except (OSError, ValueError):
        return {}
    return found


def _age(lock: Path) -> float:
    """Seconds since it was touched, by the clock of the disk that it is on."""
    now = lock.with_name(f"{lock.name}.{secrets.token_hex(4)}")
    now.touch()
    try:
        return now.stat().st_mtime - lock.stat().st_mtime
    except FileNotFoundError:
        return DEAD
    finally:
        now.unlink(missing_ok=True)


def _beat(lock: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        with suppress(OSError):
            os.utime(lock)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Of those on this machine that look at an owner's file of a folder; a dead one's must not be taken over twice.

    Where there are no locks, only two that find the same dead one in the same moment are not kept apart.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        hold(handle)
        yield
    finally:
        os.close(handle)
