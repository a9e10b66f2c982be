"""Every command in README and docs is typed: page by page, in its order, in a folder with what the page speaks of.

What cannot be run here (`<!-- read only: why -->` above a block) is read: the command and all its options exist.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from trees import cityscapes_tree, sbd_tree, voc_tree

from semiseg_cli.cli import app, console, main
from semiseg_cli.cli.screen import Screen
from semiseg_cli.core.models.names import BACKBONES, Backbone
from semiseg_cli.stages import compare, doctor, probe
from semiseg_cli.stages.fitness import fitness
from semiseg_cli.stages.jobs import Job

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
QUICK = """
[model]
weights = "none"
[train]
steps = 2
batch = 1
crop = 42
workers = 0
eval_every = 0
save_every = 1
[eval]
window = "none"
"""
NAMED = ("tiny", "mobilenet_v2", "efficientnet_lite0", "resnet50", "resnet101")
SMALL = dict.fromkeys(NAMED, Backbone("fake_small:SmallEncoder")) | {"dinov2_s": Backbone("fake_vit:small_vit")}
MINE = "prepare folder --labeled photos --masks masks --unlabeled more --classes classes.txt --name mine"
BEFORE = {page: [MINE, "train -d mine -m fixmatch"] for page in ("choosing", "faq", "gpus", "python")}
BLOCK = re.compile(r"(?:<!-- (?P<why>[^>]*) -->\n)?```sh\n(?P<lines>.*?)```", re.DOTALL)

pytestmark = pytest.mark.usefixtures("tiny_is_small", "unreported")


def commands(page: Path) -> list[tuple[list[str], bool]]:
    """The words of every command line of a page, and whether it is to be run."""
    found = []
    for block in BLOCK.finditer(page.read_text()):
        for line in block["lines"].splitlines():
            for part in line.split("&&"):
                if words := shlex.split(part, comments=True):
                    found.append((words, not (block["why"] or "").startswith("read only: ")))
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with photos, masks for half of them, VOC and Cityscapes, and settings that take a second."""
    rng = np.random.default_rng(5)
    for name in ("photos", "masks", "more"):
        (tmp_path / name).mkdir()
    for i in range(14):
        mask = np.zeros((64, 80), np.uint8)
        row, column = rng.integers(8, 30, 2)
        mask[row : row + 24, column : column + 30] = 1 + i % 2
        image = np.array([[90, 120, 60], [200, 60, 60], [60, 70, 210]], np.uint8)[mask]
        image = np.clip(image + rng.normal(0, 20, image.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(tmp_path / ("more" if i > 10 else "photos") / f"p{i}.jpg"), image[..., ::-1])
        if i < 6:
            cv2.imwrite(str(tmp_path / "masks" / f"p{i}.png"), mask)
    (tmp_path / "classes.txt").write_text("ground\nleaf\nstone\n")
    (tmp_path / "lists").mkdir()
    for name in ("names.txt", "lists/labeled.txt"):
        (tmp_path / name).write_text("2007_000001\n")
    (tmp_path / "lists" / "unlabeled.txt").write_text("2007_000002\n2008_000003\n2010_000101\n2011_000102\n")
    (tmp_path / "semiseg.toml").write_text(QUICK)
    voc_tree(tmp_path), sbd_tree(tmp_path), cityscapes_tree(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare, "run_jobs", in_turn)
    monkeypatch.setattr(compare, "_answer", answer)
    monkeypatch.setattr(doctor, "_fitness", fitness)  # else in a process that imports all anew
    monkeypatch.setitem(probe.DEFAULTS, "train.steps", 30)
    for name in ("SEMISEG_DATA", "SEMISEG_RUNS", "SEMISEG_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    for name, backbone in SMALL.items():
        monkeypatch.setitem(BACKBONES, name, backbone)
    yield tmp_path
    console.state = console.State()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command(
    page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in BEFORE.get(page.stem, []):
        assert main(line.split()) == 0
    for words, run in commands(page):
        words = words[words.index("semiseg") if "semiseg" in words else 0 :]
        if words[0] == "torchrun":
            words = words[words.index("semiseg_cli") :]
        elif words[0] != "semiseg":
            assert words[0] in ("pip", "pytest", "source", "python3", ".", "sbatch"), words
            continue
        if not run or words[1] == "demo":  # which has tests of its own
            readable(words[1:])
            continue
        if "--resume" in words:
            interrupted(monkeypatch)
        ended = main(words[1:])
        assert ended == 0, f"{shlex.join(words)}\n{''.join(capsys.readouterr())}"


def test_commands_in_the_text_can_be_read() -> None:
    """Those in tables and sentences, with what stands in capitals for something: their options exist."""
    found = 0
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for span in re.findall(r"`semiseg\s([^`]+)`", text):
            words = shlex.split(span.replace("\\|", "|"))
            found += 1
            if len(words) > 1:  # more than the name of a command
                readable(words)
            else:
                assert words[0] in typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert found > 30


def readable(words: list[str]) -> None:
    """Parse a command line without running it; a name or an option that is not there raises."""
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words[0]]  # type: ignore[attr-defined]
        words = words[1:]
    command.make_context("semiseg", list(words))


def in_turn(jobs: Sequence[Job], *_: Any, ended: Callable[[Job, int], object], **__: Any) -> None:
    """The runs of a comparison in this process, whose backbones are small."""
    for job in jobs:
        ended(job, main(job.words))


def answer(words: Sequence[str]) -> Any:
    """The result of a command, in this process, within another one."""
    state = console.state
    with redirect_stdout(io.StringIO()) as out:
        assert main([*words, "--json"]) == 0
    console.state = state
    return json.loads(out.getvalue())["result"]


def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave an unfinished run."""
    with monkeypatch.context() as patch:
        patch.setattr(Screen, "advance", lambda self, step: os.kill(os.getpid(), signal.SIGTERM))
        assert main(["train", "--steps", "2", "-o", "runs/cut"]) not in (0, 2)


def test_extras_that_are_named_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for page in PAGES for name in re.findall(r"semiseg\[(\w+)\]", page.read_text())}
    assert named <= extras.keys()


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target, heading in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()):
            if not target.startswith("https://"):
                leads_to = page.parent / target if target else page
                assert leads_to.exists(), f"{page.name}: {target}"
                assert not heading or heading in anchors(leads_to), f"{page.name}: {target}#{heading}"


def anchors(page: Path) -> set[str]:
    """What links call the headings of a page."""
    headings = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
