"""Locks of open files, which processes and threads of a machine hold in turn; some network file systems have none."""

from __future__ import annotations


def hold(handle: int, *, wait: bool = True) -> bool | None:
    """Whether the lock of an open file is held from here on, until it is closed; None where there are no locks.

    wait: until nobody else holds it; else False where somebody does. A file system without locks says so with one of
    many errors (ENOLCK, ENOSYS, ENOTSUP, EINVAL), and one that fails altogether fails again as the file is written.
    """
    import fcntl  # not there on Windows

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
