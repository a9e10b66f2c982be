"""What this machine has left: read from the system, without torch."""

from __future__ import annotations

import os
from pathlib import Path

GROUPS = (  # of memory, version 2 and 1: limit, use, and the name of what could be given back at once
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


def free_memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that a process may still take: what the system has available, or its control group if that allows less.

    Where the system does not say, all the memory there is.
    """
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for line in _read(proc / "meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    for limit, use, cached in GROUPS:
        most, now = _read(groups / limit).strip(), _read(groups / use).strip()
        if most.isdecimal() and now.isdecimal():
            rows = (line.split() for line in _read((groups / use).parent / "memory.stat").splitlines())
            given_back = sum(int(value) for name, value in rows if name == cached)
            free = min(free, max(int(most) - int(now) + given_back, 0))
    return free


def resident_memory(proc: Path = Path("/proc")) -> int:
    """Bytes of this process in memory; 0 where the system does not say."""
    pages = _read(proc / "self" / "statm").split()[1:2]
    return int(pages[0]) * os.sysconf("SC_PAGE_SIZE") if pages else 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
