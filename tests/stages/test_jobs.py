"""Several processes at once: as many as allowed, a failure stops no other, an exception asks them to stop."""

from __future__ import annotations

from pathlib import Path

import pytest

from semiseg_cli.stages import jobs
from semiseg_cli.stages.jobs import Job, run_jobs


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of semiseg: a program that exits with its first word, or waits for a signal and then leaves a file."""
    package = tmp_path / "semiseg_cli"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import pathlib, signal, sys, time\n"
        "def saved(*_):\n    pathlib.Path(sys.argv[2]).write_text('saved')\n    sys.exit(130)\n"
        "if sys.argv[1] == 'wait':\n    signal.signal(signal.SIGTERM, saved)\n"
        "    pathlib.Path(sys.argv[2]).touch()\n    time.sleep(60)\n"
        "print('said')\nsys.exit(int(sys.argv[1]))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(jobs, "POLL", 0.02)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_job_ends_with_its_code_and_its_words_in_its_log(program: Path) -> None:
    every = [Job(f"j{code}", (str(code),), program / "logs" / f"{code}.txt") for code in (0, 0, 3, 5)]
    assert every[0] == every[1]  # both at work at once
    told: list[tuple[str, int]] = []
    codes = run_jobs(every, 2, ended=lambda job, code: told.append((job.name, code)))
    assert codes == {"j0": 0, "j3": 3, "j5": 5}
    assert sorted(told) == [("j0", 0), ("j0", 0), ("j3", 3), ("j5", 5)]
    assert (program / "logs" / "3.txt").read_text() == "said\n"


def test_an_interrupt_lets_those_at_work_save(program: Path) -> None:
    places = [program / f"{name}.out" for name in "abc"]
    every = [Job(place.name, ("wait", str(place)), program / "log.txt") for place in places]

    def watch() -> None:
        if places[0].exists() and places[1].exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(every, 2, watch=watch)
    assert [place.read_text() for place in places[:2]] == ["saved", "saved"]
    assert not places[2].exists()  # the third was never begun
