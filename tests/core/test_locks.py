"""Locks of files: held in turn until these are closed, and told where the file system has none."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from semiseg_cli.core.locks import hold


def test_a_lock_is_held_until_its_file_is_closed(tmp_path: Path) -> None:
    path, order = tmp_path / "file", list[str]()
    with path.open("ab") as first, path.open("ab") as second:
        assert hold(first.fileno()) is True
        assert hold(second.fileno(), wait=False) is False
        waiting = threading.Thread(target=lambda: order.append(f"second: {hold(second.fileno())}"))
        waiting.start()
        waiting.join(0.05)
        order.append("first")
        first.close()
        waiting.join(10)
    assert order == ["first", "second: True"]


def test_a_folder_has_a_lock_too(tmp_path: Path) -> None:
    first, second = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    assert hold(first) is True
    assert hold(second, wait=False) is False
    os.close(first)
    assert hold(second, wait=False) is True
    os.close(second)


@pytest.mark.parametrize("without_locks", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL], indirect=True)
def test_a_file_system_without_locks_is_told(tmp_path: Path, without_locks: None) -> None:
    with (tmp_path / "file").open("ab") as file:
        assert hold(file.fileno()) is None
        assert hold(file.fileno(), wait=False) is None
