"""`semiseg methods`, `presets` and `runs`: tables for people, documents for scripts, and no torch."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import semiseg_cli.stages.runs as stage
from semiseg_cli.cli import main
from semiseg_cli.core.config.presets import presets
from semiseg_cli.core.methods import METHODS

Capture = pytest.CaptureFixture[str]


def document(capsys: Capture) -> Any:
    return json.loads(capsys.readouterr().out)["result"]


def test_methods(capsys: Capture) -> None:
    assert main(["methods"]) == 0
    out = capsys.readouterr().out
    for name in METHODS:
        assert f"\n{name} " in out
    assert "CVPR 2023, arXiv 2208.09910" in out
    main(["methods", "--json"])
    assert [each["name"] for each in document(capsys)] == list(METHODS)


def test_one_method(capsys: Capture) -> None:
    assert main(["methods", "unimatch"]) == 0
    out = capsys.readouterr().out
    rows = [line.split("  ") for line in out.splitlines()]
    setting = next([cell.strip() for cell in row if cell.strip()] for row in rows if row[0] == "method.cutmix_partner")
    assert setting[1:] == ["batch", "batch | self", "another image, or this image's second weak view"]
    assert "needs: labeled images, unlabeled images, a second weak view of the unlabeled images (with some set" in out
    main(["methods", "supervised", "--json"])
    found = document(capsys)
    assert found["needs"] == []
    assert found["settings"][0]["default"] is False


def test_plug_ins(capsys: Capture) -> None:
    assert main(["methods"]) == 0
    assert "\n--add masked" in capsys.readouterr().out
    assert main(["methods", "masked"]) == 0
    out = capsys.readouterr().out
    assert "\nmasked.ratio" in out
    assert "semiseg train --method METHOD --add masked" in out
    assert "needs:" not in out
    main(["methods", "interpixel", "--json"])
    assert document(capsys)["settings"][0]["name"] == "weight"


def test_the_rows_of_a_methods_tables_are_commands(capsys: Capture) -> None:
    assert main(["methods", "unimatch"]) == 0
    out = capsys.readouterr().out
    line = "semiseg train -m unimatch -d voc -l classic/92 -p voc-r50 -b resnet50s --weights resnet50s.safetensors"
    line += " -s method.exact_bn=true -s method.cutmix_partner=self"
    assert f"\ntable 2, ResNet-50, 92 labels, published 71.9\n  {line}\n" in out
    main(["methods", "unimatch", "--json"])
    row = next(row for row in document(capsys)["rows"] if row["row"] == "ResNet-50, 92 labels")
    assert (row["table"], row["published"], row["command"]) == ("2", 71.9, line)
    main(["methods", "maskmatch"])
    line = "semiseg train -m maskmatch -d cityscapes -l standard/186 -p cityscapes-r101"
    title, measured = "table 4, MaskMatch, 186 labels, published boundary F-score 56.81", "semiseg eval RUN --boundary"
    assert f"\n{title}\n  {line}\n  {measured} --absent-as-one\n" in capsys.readouterr().out


def test_an_unknown_method_or_preset(capsys: Capture) -> None:
    assert main(["methods", "unimatsch"]) == 2
    assert "did you mean 'unimatch'" in capsys.readouterr().err
    assert main(["presets", "smal"]) == 2
    assert "did you mean 'small'" in capsys.readouterr().err


def test_presets(capsys: Capture) -> None:
    assert main(["presets"]) == 0
    out = capsys.readouterr().out
    assert "small" in out
    assert "shapes" in out
    main(["presets", "--json"])
    assert document(capsys) == presets()


def test_one_preset_is_shown_as_it_is(capsys: Capture) -> None:
    assert main(["presets", "small"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# ")
    assert tomllib.loads(out)["model"]["backbone"] == "mobilenet_v2"


FOUND: dict[str, Any] = {
    "runs": [
        {"run": "r/one[1]", "method": "fixmatch", "title": "fixmatch, tau 0.9", "data": "park",
         "labeled": "/lists/few.txt", "backbone": "tiny",
         "partition": "", "seed": 0, "step": 9, "steps": 9, "last": 50.128, "best": 60.0, "metrics": {},
         "finished": True},
        {"run": "r/two", "method": "fixmatch", "title": "fixmatch", "data": "park", "labeled": "1/8",
         "backbone": "tiny", "partition": "own partition, seed 0, 2 of 16 (classes)",
         "seed": 0, "step": 4, "steps": 9, "last": None, "best": None, "metrics": {},
         "finished": False},
    ],
    "seeds": [
        {"method": "fixmatch", "title": "fixmatch", "data": "park", "labeled": "1/8",
         "partition": "2 own partitions, 2 of 16 (random)", "backbone": "tiny",
         "steps": 9, "seeds": [0, 2],
         "last": {"mean": 51.5, "deviation": 1.25}, "best": {"mean": 61.0, "deviation": 0.0}},
    ],
    "unreadable": ["r/three: broken"],
}  # fmt: skip


def test_runs(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(stage, "summarise_runs", lambda root: (asked.append(root), FOUND)[1])
    assert main(["runs", "--runs-root", "r"]) == 0
    out, err = capsys.readouterr()
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert rows[0].endswith("in percent; data: park")  # which all of them share
    assert "one[1] fixmatch, tau 0.9 few.txt 9 50.13 60.00" in rows
    assert "two fixmatch own, 2 of 16 4/9 - -" in rows
    assert "tiny, seeds 0 2 fixmatch 2 own, 2 of 16 (random) 9 51.50 ± 1.25 61.00 ± 0.00" in rows
    assert "r/three: broken" in err
    main(["runs", "--json"])
    assert document(capsys) == FOUND
    assert asked == [Path("r"), Path("runs")]


def test_no_runs_yet(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMISEG_RUNS", str(tmp_path))
    assert main(["runs"]) == 0
    assert capsys.readouterr().out == f"no run in {tmp_path} yet (semiseg train)\n"


def test_without_torch() -> None:
    lines = [["methods"], ["methods", "unimatch"], ["presets"], ["runs"]]
    code = "import sys\nfrom semiseg_cli.cli import main\n"
    code += f"for line in {lines!r}: main(line), print('LOADED', *sys.modules, 'PRINTED')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = [answer.split("LOADED")[1] for answer in done.stdout.split("PRINTED")[:-1]]
    assert len(loaded) == len(lines)
    for line, modules in zip(lines, loaded, strict=True):
        assert not {"torch", "numpy"} & set(modules.split()), line
