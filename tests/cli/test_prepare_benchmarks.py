"""`semiseg prepare voc` and `cityscapes` as typed, and what comes of them: train, eval."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trees import VAL, augmented_tree, cityscapes_tree, packed, photo, sbd_tree, voc_tree

from semiseg_cli.cli import console, main
from semiseg_cli.stages import convert

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory: a folder in one of the test's own, since data are looked for beside it, too."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in ("SEMISEG_DATA", "SEMISEG_RUNS", "SEMISEG_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    console.stderr.cache_clear()
    yield here
    console.state = console.State()


def result(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["prepare", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["result"]


def test_voc_then_sbd(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voc_tree(folder)
    sbd_tree(folder)
    assert main(["prepare", "voc", "--source", "VOCdevkit/VOC2012", "--sbd", "none"]) == 0
    out, err = capsys.readouterr()
    assert out == "voc prepared in data/voc: 3 labeled, 0 unlabeled, 2 val, 21 classes\n"
    assert "semiseg prepare voc --download (1.4 GB)" in err
    assert main(["prepare", "voc"]) == 0
    assert capsys.readouterr().out.startswith("voc is ready in data/voc"), "without SBD was asked for"
    found = result(capsys, "voc", "--sbd", "benchmark_RELEASE")
    assert (found["labeled"], found["val"], found["ready"]) == (5, 2, False)
    assert result(capsys, "voc") == {**found, "ready": True}


def test_what_lies_here_is_found_and_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voc_tree(folder / "sets")
    sbd_tree(folder / "sets")
    voc_tree(folder.parent / "other")
    packed(folder / "sets" / "VOCdevkit", folder / "VOCtrainval_11-May-2012.tar")
    assert main(["prepare", "voc"]) == 0
    out, err = capsys.readouterr()
    assert out == "voc prepared in data/voc: 5 labeled, 0 unlabeled, 2 val, 21 classes\n"
    assert "found VOC 2012: sets/VOCdevkit/VOC2012" in err
    seen = "VOCtrainval_11-May-2012.tar (--source or --archive takes another)"
    assert f"also seen: ../other/VOCdevkit/VOC2012, {seen}" in err
    assert "found SBD's labels: sets/benchmark_RELEASE" in err
    assert main(["prepare", "voc"]) == 0
    assert capsys.readouterr().out.startswith("voc is ready")


@pytest.mark.parametrize("where", [".", "VOCdevkit", "VOCdevkit/VOC2012", "work", "sets/deep"])
def test_from_wherever_one_stands(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    voc_tree(folder)
    sbd_tree(folder)
    (folder / where).mkdir(exist_ok=True, parents=True)
    monkeypatch.chdir(folder / where)
    if where == "sets/deep":
        assert main(["prepare", "voc"]) == 3
        assert f"in {folder / where}, below it or beside it, nor below data" in capsys.readouterr().err
        return
    assert result(capsys, "voc")["labeled"] == 5


def test_archives_that_lie_here(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed(voc_tree(folder / "x"), folder / "VOCtrainval_11-May-2012.tar")
    packed(sbd_tree(folder / "x"), folder / "benchmark.tgz")
    shutil.rmtree(folder / "x")
    assert result(capsys, "voc", "--root", "d")["labeled"] == 5
    assert sorted(os.listdir("d/unpacked")) == ["VOCtrainval_11-May-2012", "benchmark"]


def test_sbd_that_comes_later_is_taken_without_being_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voc_tree(folder)
    assert result(capsys, "voc")["labeled"] == 3
    sbd_tree(folder)
    assert result(capsys, "voc")["labeled"] == 5


def test_another_year_and_another_dataset_are_not_taken(folder: Path) -> None:
    for name, id in (("VOC2007", "2007_000001"), ("mine", "img_1")):
        for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
            (folder / name / part).mkdir(parents=True)
        (folder / name / "ImageSets/Segmentation/train.txt").write_text("000001\n" if name == "VOC2007" else id)
    assert main(["prepare", "voc"]) == 3


@pytest.mark.parametrize("form", ["tree", "apart", "archives", "both"])
def test_cityscapes_that_lies_here(folder: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    tree = cityscapes_tree(folder / "sets")
    for kind in ("leftImg8bit", "gtFine"):
        if form == "apart":  # as some unpack them
            (folder / "sets" / f"{kind}_trainvaltest").mkdir()
            (tree / kind).rename(folder / "sets" / f"{kind}_trainvaltest" / kind)
        if form == "archives" or (form == "both" and kind == "gtFine"):
            packed(tree / kind, folder / f"{kind}_trainvaltest.zip")
            shutil.rmtree(tree / kind)
    assert result(capsys, "cityscapes")["labeled"] == 3
    assert result(capsys, "cityscapes")["ready"]


@pytest.mark.parametrize("data", ["voc", "cityscapes"])
def test_photos_that_were_moved(folder: Path, capsys: pytest.CaptureFixture[str], data: str) -> None:
    there = voc_tree(folder.parent / "far" / "away") if data == "voc" else cityscapes_tree(folder.parent / "far")
    result(capsys, data, "--source", str(there))
    splits = folder / "data" / data / "splits" / "mine"
    splits.mkdir(parents=True)
    masks = {path.name: path.stat().st_mtime_ns for path in (folder / "data" / data / "masks").iterdir()}
    moved = folder.parent / "x" / "y" / "w" / "z"  # too far to be seen from here
    moved.parent.mkdir(parents=True)
    there.rename(moved)
    assert main(["prepare", data]) == 3
    assert f"semiseg prepare {data}" in capsys.readouterr().err
    assert main(["prepare", data, "--source", str(moved)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{data} prepared in data/{data}")
    assert "masks and splits stay as they are" in err
    assert masks == {path.name: path.stat().st_mtime_ns for path in (folder / "data" / data / "masks").iterdir()}
    assert splits.is_dir()
    assert main(["check", data]) == 0
    moved.rename(folder / "here")  # and again, to where it is found
    assert result(capsys, data)["ready"] is False
    assert main(["check", data]) == 0


def test_other_photos_are_not_taken_for_those_that_were_moved(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = voc_tree(folder.parent / "far" / "away")
    result(capsys, "voc", "--source", str(there))
    other = voc_tree(folder.parent / "a" / "b" / "c")
    photo(other / "VOC2012/JPEGImages" / f"{VAL[0]}.jpg", "another", (30, 30))
    for gone in (False, True):
        if gone:
            shutil.rmtree(there)
        assert main(["prepare", "voc", "--source", str(other)]) == 3
        assert "holds other photos than those" in capsys.readouterr().err
    (other / "VOC2012/JPEGImages" / f"{VAL[0]}.jpg").unlink()
    assert main(["prepare", "voc", "--source", str(other)]) == 3
    assert "lacks 1 of the 5 photos" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--archive", "a.tar", "b.zip"], ["--archive", "a.tar", "--archive", "b.zip"]])
def test_several_archives(folder: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    packed(voc_tree(folder / "x"), folder / "a.tar")
    packed(augmented_tree(folder / "x"), folder / "b.zip")
    assert main(["prepare", "voc", *words]) == 0
    assert ": 5 labeled, 0 unlabeled, 2 val" in capsys.readouterr().out


@pytest.mark.parametrize("data", ["voc", "cityscapes"])
def test_a_word_too_many(capsys: pytest.CaptureFixture[str], data: str) -> None:
    assert main(["prepare", data, "VOCdevkit"]) == 2
    assert "--source VOCdevkit or --archive VOCdevkit" in capsys.readouterr().err


def test_without_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "voc"]) == 3
    assert "semiseg prepare voc --download" in capsys.readouterr().err
    assert main(["prepare", "cityscapes"]) == 3
    assert "https://www.cityscapes-dataset.com/register/" in capsys.readouterr().err


def test_an_interrupt(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(convert, "convert", stop)
    voc_tree(folder / "data")
    assert main(["prepare", "voc"]) == 130
    assert "the same command goes on from there" in capsys.readouterr().err


WAITING = """
import sys
from pathlib import Path
from semiseg_cli.cli import main
from semiseg_cli.stages import convert

plain = convert.convert

def at_a_gate(task, *rest, **how):
    if task.id == "2009_000034":
        Path("gate").read_bytes()
    return plain(task, *rest, **how)

convert.convert = at_a_gate
sys.exit(main(["prepare", "voc"]))
"""


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_stopped_leaves_what_it_did(folder: Path, kind: signal.Signals) -> None:
    """The last image waits for a pipe to be filled, so that the process is stopped in the middle for certain."""
    devkit = voc_tree(folder / "data") / "VOC2012"
    last = devkit / "SegmentationClass" / "2009_000034.png"  # the last of all
    data = last.read_bytes()
    os.mkfifo("gate")
    command = [sys.executable, "-c", WAITING]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
    journal = folder / "data" / "voc" / "unfinished.tsv"
    deadline = time.monotonic() + 20
    while not (journal.is_file() and len(journal.read_text().splitlines()) == 5) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(kind)
    if kind == signal.SIGINT:
        last.write_bytes(b"no image")
        Path("gate").write_bytes(b"go on")  # what is being read is read to its end
    assert process.wait(30) == (130 if kind == signal.SIGINT else -signal.SIGKILL)
    last.write_bytes(data)
    assert not (journal.parent / "dataset.toml").exists()
    before = {path.name: path.stat().st_mtime_ns for path in (journal.parent / "masks").iterdir()}
    assert len(before) == 4
    assert main(["prepare", "voc"]) == 0
    after = {path.name: path.stat().st_mtime_ns for path in (journal.parent / "masks").iterdir()}
    assert before.items() < after.items()
    assert not journal.exists()


@pytest.mark.parametrize("data", ["voc", "cityscapes"])
def test_the_benchmarks_are_trained_on_and_evaluated(
    folder: Path, capsys: pytest.CaptureFixture[str], data: str
) -> None:
    voc_tree(folder / "data") if data == "voc" else cityscapes_tree(folder / "data")
    assert main(["prepare", data]) == 0
    few = ["-s", "train.crop=33", "-s", "train.workers=0", "--batch", "1"]
    train = ["train", "-m", "fixmatch", "-p", "small", "-b", "tiny", "--weights", "none", "--steps", "2", "-l", "1"]
    assert main([*train, *few, "-o", "run", "--device", "cpu"]) == 0
    capsys.readouterr()
    assert main(["eval", "run", "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["result"]
    assert found["images"] == (2 if data == "voc" else 1)
    assert len(found["iou"]) == (21 if data == "voc" else 19)
    assert found["window"] == (0 if data == "voc" else 801)
