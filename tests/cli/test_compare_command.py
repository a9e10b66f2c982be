"""`semiseg compare` as it is typed: its runs are real processes."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from test_documents import answer

import semiseg_cli.stages.compare as stage
from semiseg_cli.cli import compare as command
from semiseg_cli.cli import main
from semiseg_cli.cli.compare import markdown
from semiseg_cli.core.config.tables import Row, table_rows
from semiseg_cli.core.errors import DataError
from semiseg_cli.stages.compared import cells_of


def test_a_comparison_from_the_command_line(
    shapes_root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "_answer", answer)
    words = ["compare", "shapes", "-l", "4", "-m", "supervised", "-b", "tiny", "--seeds", "0", "--steps", "1"]
    words += ["--root", str(shapes_root), "-o", str(tmp_path / "c"), "--device", "cpu", "--json"]
    assert main(words) == 0
    found = json.loads(capfd.readouterr().out)["result"]
    assert (found["runs"], found["failed"]) == (1, {})
    row = found["rows"][0]
    assert (row["method"], row["backbone"], row["runs"]) == ("supervised", "tiny", 1)
    assert row["last"]["mean"] == json.loads((Path(row["each"][0]["run"]) / "result.json").read_text())["last"]["miou"]
    assert row["peak_memory_bytes"] > 2**26
    assert found["overall"] == []
    page = (tmp_path / "c" / "compare.md").read_text()
    assert page.startswith("| method | last |")
    assert page.endswith("\n\ndataset: shapes\n\nlabels: 4\n\nencoder: tiny\n")

    assert main([word for word in words if word != "--json"]) == 0  # all is done: what is told is left
    lines = [line.rstrip() for line in capfd.readouterr().out.splitlines()]
    assert lines[0].split() == ["method", "last", "best", "gain", "(95", "%)", "runs", "min", "GiB"]
    assert lines[1].split()[0] == "supervised"
    assert lines[-5:-2] == ["dataset: shapes", "labels: 4", "encoder: tiny"]
    assert lines[-2].startswith("as Markdown: ")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ([], ["supervised", "unimatch"]),
        (["-m", "supervised, fixmatch+masked"], ["supervised", "fixmatch+masked"]),
        (["-m", "supervised", "-m", "fixmatch train.scale=0.7,1", "--probe"],
         ["supervised", "fixmatch train.scale=0.7,1", "probe"]),
    ],
)  # fmt: skip
def test_methods_are_named_at_once_or_one_by_one(
    typed: list[str], meant: list[str], shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[list[str]]()

    def study(asked: Any, datasets: Any, labeled: Any, methods: list[str], *_: Any) -> Any:
        seen.append(methods)
        raise DataError("enough")

    monkeypatch.setattr("semiseg_cli.stages.study.study", study)
    assert main(["compare", "shapes", *typed, "--root", str(shapes_root), "-o", str(tmp_path)]) == 3
    assert seen == [meant]


def test_rows_of_data_that_is_not_there_are_left_out_and_told(
    shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = list[list[str]]()

    def table(asked: Any, rows: list[Row], seeds: Any) -> Any:
        seen.append([row.data for row in rows])
        raise DataError("enough")

    first = table_rows("stpg")[0]
    rows = [replace(first, data=data) for data in ("cityscapes", "shapes", "cityscapes")]
    monkeypatch.setattr(command, "table_rows", lambda method: rows)
    monkeypatch.setattr("semiseg_cli.stages.study.table", table)
    words = ["compare", "--rows", "stpg", "-o", str(tmp_path), "--root"]
    assert main([*words, str(shapes_root)]) == 3
    assert "2 rows of cityscapes left out: it is not prepared (semiseg prepare cityscapes)" in capsys.readouterr().err
    assert main([*words, str(tmp_path)]) == 3  # nothing is there: the first that lacks is asked for
    assert "left out" not in capsys.readouterr().err
    assert seen == [["shapes"], [row.data for row in rows]]


def test_the_answer_of_a_process() -> None:
    assert stage._answer(["presets", "small"]) == answer(["presets", "small"])
    with pytest.raises(DataError, match="semiseg presets fails") as caught:
        stage._answer(["presets", "smal"])
    assert caught.value.why.startswith("there is no preset 'smal'")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "unimach"], "did you mean 'unimatch'"),
        (["-m", "unimatch train.cutmx=0"], "did you mean 'train.cutmix'"),
        (["--seeds", "0,x"], "'x' is not a number"),
        (["--seeds", ","], "names no seed"),
        (["-m", ","], "names no method"),
        (["--rows", "stpg"], "no published rows"),
        (["--rows", "stpg", "--probe"], "--rows says what is trained"),
        (["--rows", "stpg", "-m", "supervised"], "--rows says what is trained"),
        (["-m", "probe", "-s", "train.lr=1", "-p", "small"], "a probe takes no --set or --preset"),
    ],
)
def test_what_cannot_be_compared_is_said(
    words: list[str], said: str, shapes_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "shapes", *words, "--root", str(shapes_root), "-o", str(tmp_path / "c")]) != 0
    assert said in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_what_all_lines_share_is_left_out() -> None:
    spread = {"mean": 43.44, "deviation": 0.9, "half": 2.2, "count": 3}
    row = {"labeled": "6", "method": "a|b", "backbone": "tiny", "runs": 2, "asked": 3, "last": spread, "best": spread}
    row |= {"seconds": 90.0, "peak_memory_bytes": 10 * 2**30, "gain": {"mean": 1.8, "half": 4.3, "over": "supervised"}}
    titles, lines = cells_of([row, row | {"labeled": "23"}])
    assert titles == ["labels", "method", "last", "best", "gain (95 %)", "runs", "min", "GiB"]
    assert lines[0] == ["6", "a|b", "43.4 ± 0.9", "43.4 ± 0.9", "+1.8 (-2.5 to +6.1)", "2/3", "1.5", "10.0"]
    assert "| a\\|b |" in markdown([row])


def test_names_are_whole_in_a_narrow_terminal() -> None:
    spread = {"mean": 43.44, "deviation": 10.9, "half": 12.2, "count": 3}
    name = "unimatchv2+interpixel train.cutmix=0 method.alpha=0.9"
    row = {"labeled": "6", "method": name, "backbone": "tiny", "runs": 3, "asked": 3, "last": spread, "best": spread}
    row |= {"gain": spread | {"over": "supervised"}}
    with (console := Console(width=80, file=io.StringIO())).capture() as shown:
        console.print(command._table([row, row | {"labeled": "23"}]))
    lines = shown.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in shown.get()
    first, *_ = lines
    left, right = first.index("method"), first.index("last")
    assert "".join(line[left:right].strip() for line in lines[1:]).count(name.replace(" ", "")) == 2


def test_a_papers_number_says_what_it_is() -> None:
    row: dict[str, Any] = {"row": "table 5, a", "labeled": "1/8", "metric": "boundary F-score", "published": 44.0}
    row["differs"] = ["x", "y"]
    titles, lines = cells_of([row, row | {"metric": "mIoU", "published": None}])
    assert titles == ["row", "labels", "published", "here", "what differs"]
    assert lines == [["table 5, a", "1/8", "44 (boundary F-score)", "", "x; y"], ["table 5, a", "1/8", "", "", "x; y"]]
