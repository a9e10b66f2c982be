"""Which network a path stands for, and files that are written whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from semiseg_cli.core import files
from semiseg_cli.core.data.imaging import write_image
from semiseg_cli.core.errors import CheckpointError
from semiseg_cli.core.files import network_of, sweep, whole, write_bytes, write_text
from semiseg_cli.core.inference.predictions import save_confidence, save_index, save_probabilities
from semiseg_cli.core.training import checkpoint


def test_best_is_preferred_and_last_is_enough(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint") as caught:
        network_of(tmp_path)
    assert caught.value.fix.startswith(f"semiseg train -c {tmp_path / 'config.toml'}, or ")  # nothing to go on from
    (tmp_path / files.STATE).parent.mkdir()
    (tmp_path / files.STATE).touch()
    with pytest.raises(CheckpointError) as caught:
        network_of(tmp_path)
    assert caught.value.fix.startswith(f"semiseg train --resume {tmp_path}")
    (tmp_path / "last.safetensors").touch()
    assert network_of(tmp_path) == tmp_path / "last.safetensors"
    (tmp_path / "best.safetensors").touch()
    assert network_of(tmp_path) == tmp_path / "best.safetensors"
    assert network_of(tmp_path / "last.safetensors") == tmp_path / "last.safetensors"


WRITERS = {
    "a text": lambda path: write_text(path, "new"),
    "bytes": lambda path: write_bytes(path, b"new"),
    "an image or mask": lambda path: write_image(path.with_suffix(".png"), np.ones((3, 3), np.uint8)),
    "a prediction": lambda path: save_index(path, np.ones((3, 3), np.uint8), [[0, 0, 0], [9, 9, 9]]),
    "a confidence": lambda path: save_confidence(path, np.ones((3, 3), np.float32)),
    "probabilities": lambda path: save_probabilities(path, torch.ones(1, 2, 3, 3), (3, 3)),
    "a checkpoint": lambda path: checkpoint.write(path, {"a": torch.ones(3)}, {}),
}


@pytest.mark.parametrize("what", WRITERS)
def test_a_write_that_ends_in_the_middle_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Whoever writes, the file that has its name is never the one that is written to."""
    file, seen = tmp_path / "file.png", list[str]()
    file.write_bytes(b"old")

    def broken(new: Path, old: Path) -> None:
        seen.append(Path(new).name)
        assert Path(old).read_bytes() == b"old"
        assert Path(new).stat().st_size > 0  # all of it is there before it gets the name
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", broken)
    with pytest.raises((OSError, CheckpointError, ValueError)):
        WRITERS[what](file)
    assert len(seen) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file.png"]
    assert file.read_bytes() == b"old"


def test_what_costs_a_run_is_on_the_disk_before_it_has_its_name_and_the_name_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, sync, replace = list[str](), os.fsync, os.replace

    def synced(handle: int) -> None:
        order.append("folder" if Path(f"/proc/self/fd/{handle}").resolve() == tmp_path.resolve() else "file")
        sync(handle)

    monkeypatch.setattr(files.os, "fsync", synced)
    monkeypatch.setattr(files.os, "replace", lambda new, old: (order.append("name"), replace(new, old)))
    checkpoint.write(tmp_path / "state.safetensors", {"a": torch.ones(3)}, {})
    assert order == ["file", "name", "folder"]
    order.clear()
    write_text(tmp_path / "page.html", "may be made again")
    assert order == ["name"]


def test_names_and_rights_are_as_if_the_file_had_been_written_directly(tmp_path: Path) -> None:
    long = tmp_path / ("ä" * 120 + ".png")  # 244 bytes of the 255 that a name may have
    before = os.umask(0o027)
    try:
        write_text(long, "text")
        assert long.stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


def test_what_a_killed_writer_leaves_is_swept_and_nothing_else(tmp_path: Path) -> None:
    program = "import os, sys; from pathlib import Path; from semiseg_cli.core.files import whole\n"
    program += "with whole(Path(sys.argv[1])) as new: new.write_bytes(b'half'); os.kill(os.getpid(), 9)"
    command = [sys.executable, "-c", program, str(tmp_path / "last.safetensors")]
    assert subprocess.run(command, timeout=60).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".last.safetensors.")
    (tmp_path / ".tmpaSsTqa").touch()  # as safetensors calls it what it writes
    others = [tmp_path / name for name in ("last.safetensors", ".last.other", "x.last.safetensors.1", ".hidden")]
    for other in others:
        other.touch()
    sweep(tmp_path, ["last.safetensors", "best.safetensors"])
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_an_error_within_is_passed_on_and_no_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), whole(tmp_path / "file"):
        raise KeyboardInterrupt
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "absent" / "file", "text")
    assert list(tmp_path.iterdir()) == []
