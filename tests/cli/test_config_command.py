"""`semiseg config init` and `config show`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semiseg_cli.cli import main
from semiseg_cli.core.config.toml import settings_template
from semiseg_cli.core.models.names import BACKBONES, Backbone

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEMISEG_DATA", raising=False)
    return tmp_path


def shown(capsys: Capture, *words: str) -> dict[str, Any]:
    assert main(["config", "show", "--json", *words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["result"]
    return found


def test_init_writes_the_file_that_train_reads(here: Path, capsys: Capture) -> None:
    assert main(["config", "init"]) == 0
    assert "semiseg.toml" in capsys.readouterr().out
    assert (here / "semiseg.toml").read_text() == settings_template("unimatch")
    assert main(["config", "init", "other.toml", "-m", "fixmatch", "--json"]) == 0
    assert (here / "other.toml").read_text() == settings_template("fixmatch")
    assert json.loads(capsys.readouterr().out)["result"] == {"file": "other.toml", "method": "fixmatch"}


def test_init_overwrites_nothing(here: Path, capsys: Capture) -> None:
    (here / "semiseg.toml").write_text("mine")
    assert main(["config", "init"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert (here / "semiseg.toml").read_text() == "mine"


def test_init_where_nothing_can_be_written(here: Path, capsys: Capture) -> None:
    assert main(["config", "init", "nowhere/semiseg.toml"]) == 2
    assert main(["config", "init", "/proc/semiseg.toml"]) == 2
    assert "cannot write" in capsys.readouterr().err
    assert main(["config", "init", "-m", "unimatsch"]) == 2
    assert not list(here.iterdir())


def test_show_says_where_every_value_comes_from(shapes_root: Path, here: Path, capsys: Capture) -> None:
    (here / "semiseg.toml").write_text("[train]\ncrop = 40\n")
    (here / "mine.toml").write_text("[train]\ncrop = 48\nlr = 0.25\n")
    found = shown(capsys, "--root", str(shapes_root), "-m", "fixmatch", "-c", "mine.toml", "-s", "method.tau=0.5")
    assert found["train.crop"] == {"value": 48, "from": "mine.toml"}
    assert found["method.name"] == {"value": "fixmatch", "from": "command line"}
    assert found["method.tau"] == {"value": 0.5, "from": "--set"}
    assert found["model.backbone"] == {"value": "tiny", "from": "preset shapes"}
    assert found["data.name"]["value"] == "shapes"
    assert found["train.momentum"] == {"value": 0.9, "from": "default"}


def test_show_as_text(shapes_root: Path, capsys: Capture) -> None:
    assert main(["config", "show", "--root", str(shapes_root), "-b", "resnet18", "-l", "1/8", "-p", "small"]) == 0
    rows = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    assert ["model.backbone", "resnet18", "command line"] in rows
    assert ["data.labeled", "1/8", "command line"] in rows


def test_show_needs_no_data(capsys: Capture) -> None:
    found = shown(capsys, "-d", "voc")
    assert found["data.name"] == {"value": "voc", "from": "command line"}
    assert found["model.backbone"]["from"] == "preset small"


def test_show_has_the_sizes_that_train_takes(
    shapes_root: Path, here: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKBONES, "dinov2_s", Backbone("fake_vit:small_vit"))
    words = ("--root", str(shapes_root), "-p", "small", "-b", "dinov2_s")
    found = shown(capsys, *words)
    origin = "chosen: a multiple of the encoder's 14 pixels"
    assert found["train.crop"] == {"value": 112, "from": origin}
    quick = ("-m", "supervised", "-s", "train.batch=1", "-s", "train.micro_batch=1", "-s", "train.steps=2")
    assert main(["train", *words, *quick, "-o", "run", "--dry-run", "--json"]) == 0
    taken = json.loads(capsys.readouterr().out)["result"]["settings"]
    assert {name: taken[name] for name in ("train.crop", "data.long_side")} == {
        name: found[name] for name in ("train.crop", "data.long_side")
    }
    assert main(["config", "show", "-d", "absent"]) == 0
    assert "crop and data.long_side suit no images yet" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("-s", "train.lrr=1"), ("-m", "unimatsch"), ("-p", "smal"), ("-c", "absent.toml")])
def test_show_refuses_what_train_refuses(words: tuple[str, ...], capsys: Capture) -> None:
    assert main(["config", "show", *words]) == 2
    assert "error:" in capsys.readouterr().err
