"""`semiseg prepare voc` and `cityscapes` as typed, and what comes of them: train, eval."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from trees import augmented_tree, cityscapes_tree, packed, sbd_tree, voc_tree

from semiseg_cli.cli import console, main
from semiseg_cli.stages import convert

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    for name in ("SEMISEG_DATA", "SEMISEG_RUNS", "SEMISEG_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    console.stderr.cache_clear()
    yield tmp_path
    console.state = console.State()


def test_voc_then_sbd(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voc_tree(folder)
    sbd_tree(folder)
    assert main(["prepare", "voc", "--source", "VOCdevkit/VOC2012"]) == 0
    out, err = capsys.readouterr()
    assert out == "voc prepared in data/voc: 3 labeled, 0 unlabeled, 2 val, 21 classes\n"
    assert "`semiseg prepare voc --root data --sbd benchmark.tgz` adds its labels" in err
    assert main(["prepare", "voc"]) == 0
    assert capsys.readouterr().out.startswith("voc is ready in data/voc")
    assert main(["prepare", "voc", "--sbd", "benchmark_RELEASE", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert (result["labeled"], result["val"], result["ready"]) == (5, 2, False)
    assert main(["prepare", "voc", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"] == {**result, "ready": True}


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


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_stopped_leaves_what_it_did(folder: Path, kind: signal.Signals) -> None:
    """Labels come from a pipe that is filled one by one, so that the process is stopped in the middle for certain."""
    devkit = voc_tree(folder / "data") / "VOC2012"
    last = devkit / "SegmentationClass" / "2009_000034.png"  # the last of all
    data = last.read_bytes()
    last.unlink()
    os.mkfifo(last)
    command = [sys.executable, "-m", "semiseg_cli", "prepare", "voc"]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
    journal = folder / "data" / "voc" / "unfinished.tsv"
    deadline = time.monotonic() + 20
    while not (journal.is_file() and len(journal.read_text().splitlines()) == 5) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(kind)
    if kind == signal.SIGINT:
        last.write_bytes(b"no image")  # what is being read is read to its end
    assert process.wait(30) == (130 if kind == signal.SIGINT else -signal.SIGKILL)
    last.unlink()
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
    result = json.loads(capsys.readouterr().out)["result"]
    assert result["images"] == (2 if data == "voc" else 1)
    assert len(result["iou"]) == (21 if data == "voc" else 19)
    assert result["window"] == (0 if data == "voc" else 801)
