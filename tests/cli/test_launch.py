"""Several processes from one command line: the command, the exit code, and the interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from semiseg_cli.cli import launch


@pytest.mark.parametrize("typed", [["--gpus", "2"], ["--gpus=2"]])
def test_the_command_is_the_same_line_without_gpus(typed: list[str]) -> None:
    command = launch.command(2, ["--debug", "train", *typed, "-d", "my park", "-q"])
    assert command[:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert command[command.index("--nproc-per-node") + 1] == "2"
    assert command[command.index("semiseg_cli") - 1 :] == [
        "-m",
        "semiseg_cli",
        "--debug",
        "train",
        "-d",
        "my park",
        "-q",
    ]


def test_which_process_talks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert launch.is_main()
    assert not launch.joined()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert not launch.is_main()
    assert launch.joined()


def test_the_first_failure_leaves_its_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "code"
    monkeypatch.setenv(launch.CODE_FILE, str(path))
    launch.leave_code(0)
    assert not path.exists()
    launch.leave_code(6)
    launch.leave_code(130)
    assert path.read_text() == "6"


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (6, 6), (None, 1)])
def test_relaunch_returns_the_code_of_the_processes(
    code: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like torchrun, the stand-in turns a failure into 1; a process that was killed leaves no code."""
    left = "" if code is None else f"from semiseg_cli.cli import launch; launch.leave_code({code});"
    stand_in = [sys.executable, "-c", f"{left} raise SystemExit({int(code != 0)})"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(launch, "command", lambda gpus, arguments: stand_in)
    assert launch.relaunch(2, []) == expected


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_an_interruption_waits_for_the_processes_to_save(number: signal.Signals, tmp_path: Path) -> None:
    child = (
        "import signal, sys, time\n"
        "def stop(number, frame): time.sleep(0.3); open('saved', 'w').close(); sys.exit(130)\n"
        "signal.signal(signal.SIGTERM, stop); signal.signal(signal.SIGINT, stop)\n"
        "open('ready', 'w').close(); time.sleep(30)\n"
    )
    parent = (
        "import sys; from semiseg_cli.cli import launch\n"
        f"sys.exit(launch._wait([sys.executable, '-c', {child!r}], dict(__import__('os').environ)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-c", parent], cwd=tmp_path, env=environment, start_new_session=True)
    deadline = time.monotonic() + 20
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # Ctrl-C reaches the whole group
    else:
        process.send_signal(number)
    assert process.wait(20) == 130
    assert (tmp_path / "saved").exists()
