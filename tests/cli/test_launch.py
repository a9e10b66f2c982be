"""Several processes from one command line: the command, the exit code, and the interruption."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from fresh import begun

from semiseg_cli.cli import launch, ranks


@pytest.mark.parametrize("typed", [["--gpus", "2"], ["--gpus=2"]])
def test_the_processes_get_the_same_line_without_gpus(typed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []

    def start(processes: int, command: list[str]) -> int:
        started.append((processes, command))
        return 6

    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(launch, "launch", start)
    assert launch.relaunch(2, ["--debug", "train", *typed, "-d", "my park", "-q"]) == 6
    assert started == [(2, ["-m", "semiseg_cli", "--debug", "train", "-d", "my park", "-q"])]


def test_which_process_talks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert ranks.is_main()
    assert not ranks.joined()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert not ranks.is_main()
    assert ranks.joined()


def test_srun_is_heard_as_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """What srun says in a step of eight tasks on two machines, and in its batch script, which is no step of several."""
    batch = {"SLURM_JOB_ID": "71", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    task = {"SLURM_STEP_ID": "2", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NODELIST": "gpu[07-08]"}
    task |= batch | {"SLURM_PROCID": "5", "SLURM_LOCALID": "1"}
    alone = dict(batch)
    ranks.adopt(alone)
    assert alone == batch
    there = dict(task)
    ranks.adopt(there)
    said = {name: there[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")}
    assert said == {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "gpu07"}
    assert 1024 < int(there["MASTER_PORT"]) < 32768
    bound = {**task, "SLURM_GPUS_PER_TASK": "1"}  # each sees one GPU, its first
    ranks.adopt(bound)
    assert bound["LOCAL_RANK"] == "0"
    under = {**task, "WORLD_SIZE": "2", "RANK": "1"}  # torchrun, in a task of srun
    ranks.adopt(under)
    assert under == {**task, "WORLD_SIZE": "2", "RANK": "1"}


@pytest.mark.parametrize(
    ("nodes", "first"), [("a1", "a1"), ("a1,b2", "a1"), ("n[3-5,9],x", "n3"), ("r[01-02]-ib", "r01-ib")]
)
def test_the_first_of_slurms_machines(nodes: str, first: str) -> None:
    assert ranks.first_host(nodes) == first


def start(folder: Path, child: str) -> BaseProcess:
    """Two processes of `child` under the launcher, in a session of their own."""
    (folder / "child.py").write_text(child)
    return begun(launch.launch, 2, ["child.py"], folder=folder)


def test_the_first_failure_is_the_exit_code_and_nobody_adds_a_traceback(tmp_path: Path) -> None:
    """Process 1 fails; process 0, which would wait for it for ever, is stopped."""
    child = "import os, sys, time\nif os.environ['RANK'] == '1': sys.exit(6)\ntime.sleep(60)"
    process = start(tmp_path, child)
    process.join(50)
    assert process.exitcode == 6
    assert [(tmp_path / name).read_text() for name in ("stdout", "stderr")] == ["", ""]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_an_interruption_reaches_every_process_once_and_waits_for_it(number: signal.Signals, tmp_path: Path) -> None:
    child = (
        "import os, signal, sys, time\n"
        "rank, asked = os.environ['RANK'], []\n"
        "signal.signal(signal.SIGTERM, lambda *_: asked.append(1))\n"
        "signal.signal(signal.SIGINT, lambda *_: asked.append(1))\n"
        "open('ready' + rank, 'w').close()\n"
        "while not asked: time.sleep(0.02)\n"
        "time.sleep(0.5)\n"
        "open('saved' + rank, 'w').write(str(len(asked)))\n"
        "sys.exit(130)\n"
    )
    process = start(tmp_path, child)
    deadline = time.monotonic() + 50
    while not all((tmp_path / f"ready{rank}").exists() for rank in (0, 1)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert process.pid is not None
    os.killpg(process.pid, number)  # as Ctrl-C does: the whole foreground group
    process.join(50)
    assert process.exitcode == 130
    assert [(tmp_path / f"saved{rank}").read_text() for rank in (0, 1)] == ["1", "1"]
