"""Every command that is printed is typed: away from the data, after --root, after Ctrl-C, after a move, by mistake."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from trees import cityscapes_tree, sbd_tree, voc_tree

from semiseg_cli.cli import console, main
from semiseg_cli.cli.screen import Screen

QUICK = """
[model]
backbone = "tiny"
weights = "none"
[train]
steps = 3
batch = 1
crop = 33
workers = 0
eval_every = 0
save_every = 1
log_every = 1
[eval]
window = "none"
"""
OPEN = re.compile(r"\b(DIR|FILE|NAME|COUNT|N|CKPT|RUN)\b")  # what somebody has to fill in
SHAPES = ["prepare", "shapes", "--labeled", "4", "--unlabeled", "4", "--val", "2", "--size", "48"]
Typed = Callable[..., list[list[str]]]

pytestmark = pytest.mark.usefixtures("tiny_is_small", "unreported")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory of its own, with settings that take a second."""
    folder = tmp_path / "home" / "my work"
    folder.mkdir(parents=True)
    (folder / "semiseg.toml").write_text(QUICK)
    monkeypatch.chdir(folder)
    for name in ("SEMISEG_DATA", "SEMISEG_RUNS", "SEMISEG_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    console.stderr.cache_clear()
    yield folder
    console.state = console.State()


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Typed:
    """Type a command line that must end with `code`; the command lines that it printed, as words, less `semiseg`."""

    def run(*words: str, code: int = 0) -> list[list[str]]:
        capsys.readouterr()
        ended, shown = main(list(words)), "\n".join(capsys.readouterr())
        assert ended == code, f"semiseg {shlex.join(words)}\n{shown}"
        return printed(shown)

    return run


def printed(text: str) -> list[list[str]]:
    """The command lines in a text. They end with the line, or where prose or a comment goes on."""
    found = re.findall(r"semiseg ((?:'[^']*'|[^\n,;#`()&'])+)", text)
    lines = [re.split(r" (?:or|where|names|then|makes) ", line)[0].strip() for line in found]
    return [shlex.split(line) for line in lines if line and not OPEN.search(line)]


def only(lines: list[list[str]], command: str) -> list[str]:
    """The one command line of a command."""
    (line,) = [line for line in lines if line[0] == command]
    return line


def follow(typed: Typed, first: list[list[str]], *commands: str) -> list[list[str]]:
    """Type what is printed, one after the other: of each answer the line of the next command."""
    for command in commands:
        first = typed(*only(first, command))
    return first


@pytest.fixture(params=["plain", "--root", "SEMISEG_DATA"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options that say where data are and runs are made, in every way there is."""
    if request.param == "SEMISEG_DATA":
        monkeypatch.setenv("SEMISEG_DATA", str(tmp_path / "the data"))
        monkeypatch.setenv("SEMISEG_RUNS", "../r")
    return ["--root", "../the data", "--runs-root", str(tmp_path / "r")] if request.param == "--root" else []


def test_from_nothing_to_a_measured_network(typed: Typed, root: list[str]) -> None:
    lines = typed(*SHAPES, *root[:2])
    train = only(lines, "train")
    lines = typed(*train, *root[2:])
    follow(typed, lines, "eval")
    lines = typed("split", "shapes", "-l", "2", *root[:2])
    lines = typed(*only(lines, "train"), *root[2:])
    follow(typed, lines, "eval")


@pytest.mark.parametrize("tree", [voc_tree, cityscapes_tree])
def test_a_benchmark_that_lies_here(typed: Typed, here: Path, tree: Callable[[Path], Path], root: list[str]) -> None:
    tree(here)
    data = "voc" if tree is voc_tree else "cityscapes"
    if data == "voc":
        sbd_tree(here)
    lines = typed("prepare", data, *root[:2])
    typed(*only(lines, "split"))
    lines = typed(*only(lines, "train"), *root[2:])
    follow(typed, lines, "eval")


def test_train_and_prepare_lead_on(typed: Typed, here: Path) -> None:
    """No circle: what `train` names in a folder with VOCdevkit is what makes it train."""
    voc_tree(here)
    lines = typed("train", "--method", "stpg", "--labeled", "183", code=3)
    assert ["prepare", "folder", "--help"] in lines
    assert ["demo"] in lines
    assert ["prepare", "voc"] in lines
    lines = typed("prepare", "voc")
    follow(typed, lines, "train", "eval")
    (here / "data").rename(here / "gone")
    shutil.rmtree(here / "VOCdevkit")
    lines = typed("train", "-d", "voc", code=3)
    lines = typed(*only(lines, "prepare"), code=3)
    assert lines == [["prepare", "voc", "--download"]], "the others are to be filled in"


class Impatient(Screen):
    """Presses Ctrl-C after a step."""

    def advance(self, step: int) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)


def test_after_an_interrupt(
    typed: Typed, root: list[str], tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = only(typed(*SHAPES, *root[:2]), "train")
    with monkeypatch.context() as patch:
        patch.setattr("semiseg_cli.cli.train.make_screen", Impatient)
        lines = typed(*train, *root[2:], code=130)
    resume = only(lines, "train")
    assert resume[:2] == ["train", "--resume"]
    follow(typed, [resume], "train", "eval")


def test_from_another_directory_a_run_finds_its_data(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = only(typed(*SHAPES, "--root", "../d"), "train")
    typed(*train, "-o", str(tmp_path / "home" / "run"))
    monkeypatch.chdir(tmp_path)
    typed("eval", "home/run")
    typed("viz", "home/run", "--masks", "--n", "1")
    (tmp_path / "home").rename(tmp_path / "moved")
    typed("eval", str(tmp_path / "moved" / "run"))
    (tmp_path / "moved" / "run" / "result.json").unlink()
    typed("train", "--resume", str(tmp_path / "moved" / "run"))


def test_photos_that_moved(typed: Typed, here: Path) -> None:
    voc_tree(here)
    train = only(typed("prepare", "voc", "--root", "../d"), "train")
    (here / "VOCdevkit").rename(here / "elsewhere")
    again = [line for line in typed(*train, code=3) if line[0] == "prepare"]
    assert again == [["prepare", "voc", "--root", "../d"]]
    follow(typed, again, "prepare", "train", "eval")


def test_a_damaged_dataset_is_set_aside_with_its_splits(
    typed: Typed, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voc_tree(here)
    typed("prepare", "voc", "--root", "../d")
    typed("split", "voc", "-l", "2", "--root", "../d")
    index = here.parent / "d" / "voc" / "index.tsv"
    index.write_text("nonsense")
    assert main(["check", "voc", "--root", "../d"]) == 3
    fix = re.search(r"try: (mv .*)", capsys.readouterr().err)
    assert fix
    for line in fix[1].split(" && "):
        words = shlex.split(line)
        if words[0] == "semiseg":
            assert main(words[1:]) == 0
        else:
            shutil.move(words[1], words[2])
    typed("check", "voc", "--root", "../d", "-l", "2-classes-s0")


@pytest.mark.parametrize(
    "line",
    [
        "split --root ../d", "split shapes -l 2 --fetch unimatch --root ../d", "runs --runs-root ../r",
        "viz --runs-root ../r", "eval --runs-root ../r", "train -d shape --root ../d",
        "train -d shapes --resume --runs-root ../r",
    ],
)  # fmt: skip
def test_what_a_mistake_advises_is_understood(
    typed: Typed, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It runs, or fails for the same lack, never for the way in which it is written."""
    typed(*SHAPES, "--root", "../d")
    capsys.readouterr()
    main(line.split())
    for words in printed("\n".join(capsys.readouterr())):
        assert main(words) in (0, 3), words
