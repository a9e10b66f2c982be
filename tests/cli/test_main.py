"""`semiseg` itself: it starts at once, says what went wrong in words, and exits with the code of the kind of error."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import semiseg_cli.cli as cli
from semiseg_cli import __version__
from semiseg_cli.cli import console
from semiseg_cli.core import errors

HEAVY = ("torch", "torchvision", "timm", "huggingface_hub", "numpy", "cv2", "scipy", "PIL")


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("SEMISEG_DEBUG", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    yield
    console.state = console.State()


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make every command raise the given error."""

    def install(error: BaseException) -> None:
        def app(**kwargs: object) -> None:
            raise error

        monkeypatch.setattr(cli, "app", app)

    return install


def in_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_starting_imports_nothing_slow() -> None:
    lines = [["--help"], ["train", "--help"], ["eval", "--help"], ["--version"], ["trian"], ["train", "x"]]
    code = "import sys\nfrom semiseg_cli.cli import main\n"
    loaded = in_python(f"{code}for line in {lines!r}: main(line), print('LOADED', *sys.modules)").split("LOADED")[1:]
    assert len(loaded) == len(lines)
    for line, modules in zip(lines, loaded, strict=True):
        assert not set(HEAVY) & set(modules.split()), line


def test_help_answers_at_once() -> None:
    def seconds() -> float:
        before = os.times()
        subprocess.run([sys.executable, "-m", "semiseg_cli", "--help"], capture_output=True, check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    # 0.2 s of processor time, which a busy machine does not stretch; importing torch alone takes longer
    assert any(seconds() < 1.0 for _ in range(3))


def test_torch_threads_do_not_spin_while_they_wait() -> None:
    code = "import os; del os.environ['OMP_WAIT_POLICY']; from semiseg_cli.cli import main; main(['--version']); "
    assert in_python(f"{code}print(os.environ['OMP_WAIT_POLICY'])").endswith("passive\n")


def test_commands_are_listed_in_the_order_of_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    listed = re.findall(r"^\W+([a-z]+)  ", capsys.readouterr().out.split("Commands")[1], re.MULTILINE)
    road = ["demo", "prepare", "split", "train", "eval", "viz", "predict", "export"]
    assert [name for name in listed if name in road] == road
    assert sorted(listed) == sorted(cli.IN_USE)


def test_help_cuts_no_command_in_two(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for words in ([], *([name] for name in cli.IN_USE), ["prepare", "folder"], ["config", "init"], ["config", "show"]):
        assert cli.main([*words, "--help"]) == 0
        cut = [line for line in capsys.readouterr().out.splitlines() if line.count("`") % 2]
        assert not cut, words


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"semiseg {__version__}\n"


def test_a_mistyped_command_or_option_is_a_usage_error_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trian"]) == 2
    assert "Did you mean 'train'" in capsys.readouterr().err
    assert cli.main(["train", "--stepz", "3"]) == 2
    assert "--steps" in capsys.readouterr().err
    assert cli.main(["train", "--steps", "many"]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.UsageError, 2), (errors.DataError, 3), (errors.DeviceError, 4), (errors.CheckpointError, 5),
        (errors.Diverged, 6), (errors.CheckFailed, 7), (errors.Interrupted, 130),
    ],
)  # fmt: skip
def test_an_error_is_told_in_three_lines_and_by_its_exit_code(
    kind: type[errors.SemisegError], code: int, failing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(kind("mask [3].png is odd", why="it is " + "very " * 40 + "long", fix="semiseg train -s a=[b]"))
    assert cli.main(["train"]) == code
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    asked_for = kind is errors.Interrupted  # which is no error
    assert lines[0] == ("" if asked_for else "error: ") + "mask [3].png is odd"
    assert lines[1].startswith("  why: it is very")
    assert lines[2] == f"  {'next' if asked_for else 'try'}: semiseg train -s a=[b]"
    assert len(lines) == 3
    assert shown.out == ""


def test_under_json_the_error_is_the_one_document(failing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    failing(errors.DataError("odd", why="because", fix="look"))
    assert cli.main(["eval", "x", "--json"]) == 3
    shown = capsys.readouterr()
    error = {"what": "odd", "why": "because", "fix": "look", "code": 3}
    assert json.loads(shown.out) == {"schema": 1, "command": "eval", "error": error}
    assert shown.err.startswith("error: odd")


def test_under_json_a_refused_command_line_is_a_document_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--json", "--stepz"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == 2


def test_a_failed_check_after_the_result_adds_no_second_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def app(**kwargs: object) -> None:
        console.result("eval", {"miou": float("nan"), "run": Path("a")}, "text", json=True)
        raise errors.CheckFailed("too low")

    monkeypatch.setattr(cli, "app", app)
    assert cli.main(["eval", "--json"]) == 7
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "command": "eval", "result": {"miou": None, "run": "a"}}


def test_a_bug_keeps_its_traceback_in_a_file(failing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    failing(KeyError("missing"))
    assert cli.main(["train"]) == 1
    shown = capsys.readouterr().err
    assert "this is a bug in semiseg: KeyError: 'missing'" in shown
    assert "Traceback" not in shown
    path = Path(shown.split("the traceback is in ")[1].strip())
    assert "KeyError: 'missing'" in path.read_text()
    path.unlink()


def test_an_error_that_a_run_recorded_names_its_log(failing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for error, code in ((errors.Diverged("not finite"), 6), (KeyError("missing"), 1)):
        error.add_note("the traceback is in runs/a/error.log")
        failing(error)
        assert cli.main(["train"]) == code
        assert capsys.readouterr().err.count("runs/a/error.log") == 1


@pytest.mark.parametrize("how", ["--debug", "SEMISEG_DEBUG"])
def test_debug_shows_the_traceback(
    how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if how == "SEMISEG_DEBUG":
        monkeypatch.setenv(how, "1")
    assert cli.main([*([how] if how.startswith("--") else []), "train", "unasked"]) == 2
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.delenv("SEMISEG_DEBUG", raising=False)
    assert cli.main(["train", "unasked"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_memory_that_runs_out_comes_with_advice(failing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    kind = type("OutOfMemoryError", (RuntimeError,), {})  # torch's, by its name
    texts = ("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried", "OpenCV: Insufficient memory in f")
    rest = [RuntimeError(text) for text in texts]  # PyTorch's of a CPU, and OpenCV's
    for error in (kind("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"), MemoryError(), *rest):
        failing(error)
        assert cli.main(["train"]) == 4
        assert "train.micro_batch" in capsys.readouterr().err


def test_a_file_that_cannot_be_used_is_no_bug(failing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What no command foresaw of a disk: it is named, with what the system says."""
    for error in (PermissionError(13, "Permission denied", "runs/a b"), OSError(40, "Too many levels", b"runs/a b")):
        failing(error)
        assert cli.main(["train"]) == 1
        shown = " ".join(capsys.readouterr().err.split())
        assert "error: cannot use runs/a b" in shown
        assert "ls -l 'runs/a b'" in shown
        assert "bug" not in shown
    failing(OSError("no file is named"))
    assert cli.main(["train"]) == 1
    assert "bug" in capsys.readouterr().err


def test_an_interruption_by_hand_is_130(failing: Any) -> None:
    failing(KeyboardInterrupt())
    assert cli.main(["train"]) == 130


def test_of_several_processes_one_says_that_they_were_stopped(
    failing: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    failing(errors.Interrupted("stopped"))
    assert cli.main(["train"]) == 130
    assert capsys.readouterr().err == ""
    failing(errors.DataError("broken mask"))
    assert cli.main(["train"]) == 3
    assert "broken mask" in capsys.readouterr().err


def test_the_module_passes_its_exit_code_on(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "semiseg_cli", "train", "-d", "absent", "--root", str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, "COLUMNS": "40"}, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith(f"error: no prepared dataset 'absent' in {tmp_path}\n")
