"""Free memory as a system tells it."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from semiseg_cli.core.machine import free_memory, resident_memory

GIB = 2**30


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    folder = tmp_path / "proc"
    folder.mkdir()
    (folder / "meminfo").write_text(f"MemTotal: {32 * 2**20} kB\nMemAvailable:   {20 * 2**20} kB\n")
    return folder


def test_what_the_system_has_available(proc: Path, tmp_path: Path) -> None:
    assert free_memory(proc, tmp_path) == 20 * GIB


@pytest.mark.parametrize(
    ("limit", "use", "cached"),
    [
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ],
)
def test_a_control_group_may_allow_less(proc: Path, tmp_path: Path, limit: str, use: str, cached: str) -> None:
    (tmp_path / limit).parent.mkdir(exist_ok=True)
    (tmp_path / use).write_text(f"{6 * GIB}\n")
    (tmp_path / use).with_name("memory.stat").write_text(f"anon 5\n{cached} {2 * GIB}\n")
    for most, free in (("max", 20), (str(8 * GIB), 4), (str(1 * GIB), 0), (str(64 * GIB), 20)):
        (tmp_path / limit).write_text(f"{most}\n")
        assert free_memory(proc, tmp_path) == free * GIB


def test_a_system_that_says_nothing(tmp_path: Path) -> None:
    assert free_memory(tmp_path, tmp_path) > 2**26
    assert resident_memory(tmp_path) == 0


def test_this_process() -> None:
    with mmap.mmap(-1, 2**27) as block:  # pages that the process cannot have already
        before = resident_memory()
        assert 2**24 < before < 2**38
        block.write(b"x" * 2**27)
        assert resident_memory() - before > 2**26
