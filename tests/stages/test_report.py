"""Reports of runs: what stands in them, that nothing in them is taken for markup, and that they spoil no run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fake_runs import HOSTILE

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.errors import CheckpointError, DataError, UsageError
from semiseg_cli.core.methods import METHODS
from semiseg_cli.stages import report as stage
from semiseg_cli.stages.progress import Silent
from semiseg_cli.stages.report import report
from semiseg_cli.stages.train import train

FakeRun = Callable[..., Path]
VOID = {"meta", "link", "img", "input"}


class Page(HTMLParser):
    """A page as a browser takes it: text by element, attributes, and whether elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.cells: list[str] = []
        self.text, self.errors, self.script = "", list[str](), list[str]()
        self.feed(text)
        self.close()
        assert self.open == []
        assert self.errors == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag in ("td", "th", "dt", "dd"):
            self.cells.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.errors.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.script.append(data)
        elif self.open and self.open[-1] != "style":
            self.text += data
            if self.cells and {"td", "th", "dt", "dd"} & set(self.open):
                self.cells[-1] += data

    def after(self, cell: str) -> str:
        """What stands in the cell behind the first that reads so."""
        cells = [each.strip() for each in self.cells]
        return cells[cells.index(cell) + 1]


def read(path: str | Path) -> Page:
    return Page(Path(path).read_text(encoding="utf-8"))


@pytest.fixture
def unreported() -> None:
    """Here reports are looked at."""


@pytest.mark.usefixtures("worst_images")
def test_a_run_with_all_that_it_tells(fake_run: FakeRun) -> None:
    found = report([run := fake_run("one")])
    assert Path(found["page"]) == run / "report.html"
    assert found["runs"] == [str(run)]
    page = read(found["page"])
    headings = [attrs["id"] for tag, attrs in page.tags if tag == "h2"]
    wanted = ("result", "curves", "classes", "worst", "settings", "data", "environment")
    assert headings == [f"{name}-heading" for name in wanted]
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert links == ["#content", *(f"#{name}" for name in wanted)]
    assert (page.after("mIoU, last step"), page.after("mIoU, best step")) == ("36.44 %step 200", "36.44 %step 200")
    assert (page.after("labeled images"), page.after("unlabeled images")) == ("23", "1,267")
    assert (page.after("training"), page.after("memory")) == ("12 min 5 sCPU <1>", "1.50 GiB at most")
    assert (page.after("a step"), page.after("speed at the end")) == ("3.62 s, all in all", "33.5 images a second")
    assert (page.after("train.steps"), page.after("fingerprint")) == ("200", "f" * 64)
    rows = [cell.strip() for cell in page.cells]
    assert rows[rows.index("train.steps") + 2] == "change"  # where they came from
    place, absent, wrong = rows.index("71.5") - 2, rows.index("none") - 2, rows.index("of all errors") + 1
    assert rows[place : place + 3] == [HOSTILE[0], "80.0 %", "71.5"]
    assert rows[absent : absent + 3] == [HOSTILE[3], "0.00 %", "none"]
    assert rows[wrong : wrong + 4] == [HOSTILE[0], "[/]", "5.0 %", "26.7 %"]
    assert "mIoU 4.5, 61 % of the labeled pixels wrong" in page.text


@pytest.mark.usefixtures("worst_images")
def test_names_are_never_markup_and_nothing_is_fetched(fake_run: FakeRun) -> None:
    text = Path(report([fake_run("one")])["page"]).read_text(encoding="utf-8")
    page = Page(text)
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert not any("alert" in part for part in page.script)
    assert all(attrs.get("src", "data:").startswith("data:image/") for tag, attrs in page.tags if tag == "img")
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "http" not in text.replace("http-equiv", "")
    assert "url(" not in text
    assert "@import" not in text
    assert all(name in page.text for name in HOSTILE)
    assert {"CPU <1>"} <= {cell.strip() for cell in page.cells}
    assert len(text) < 300_000


@pytest.mark.usefixtures("worst_images")
def test_it_can_be_read_without_seeing_and_without_javascript(fake_run: FakeRun) -> None:
    page = read(report([fake_run("one")])["page"])
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    named = [attrs["aria-labelledby"] for _, attrs in page.tags if "aria-labelledby" in attrs]
    assert set(" ".join(named).split()) <= set(ids)
    assert all(attrs["alt"] for tag, attrs in page.tags if tag == "img")
    tags = [tag for tag, _ in page.tags]
    assert tags.count("table") == tags.count("caption") >= 8
    assert tags.count("h1") == 1
    levels = [int(tag[1]) for tag in tags if tag in ("h1", "h2", "h3")]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(attrs.get("aria-label") for _, attrs in page.tags if attrs.get("role") == "region")
    photos = [attrs["alt"] for tag, attrs in page.tags if tag == "img"]
    assert photos[:2] == [f"Photo {HOSTILE[0]}", f"Prediction for {HOSTILE[0]} in the colours of the classes"]


def test_runs_side_by_side(fake_run: FakeRun, tmp_path: Path) -> None:
    miou = {("supervised", 0): 30.0, ("supervised", 1): 32.0, ("unimatch", 0): 33.0, ("unimatch", 1): 34.0}
    made = [
        fake_run(f"runs/{method} {seed}", method, value, {"train.seed": seed}) for (method, seed), value in miou.items()
    ]
    (made[0] / "report.html").touch()
    found = report(made)
    assert Path(found["page"]) == tmp_path / "runs" / "report.html"
    page = read(found["page"])
    rows = [cell.strip() for cell in page.cells]
    titles, first = ["method", "last", "best", "gain (95 %)", "runs", "min", "GiB"], ["31.0 ± 1.4"] * 2
    assert rows[: rows.index("unimatch")] == [*titles, "supervised", *first, "", "2", "12.1", "1.5"]
    assert page.after("33.5 ± 0.7") == "33.5 ± 0.7"
    assert rows[rows.index("33.5 ± 0.7") + 2] == "+2.5 (-3.9 to +8.9)"
    assert [attrs["href"] for tag, attrs in page.tags if tag == "a"][-1] == "supervised%200/report.html"
    assert sum(tag == "svg" and attrs.get("role") == "img" for tag, attrs in page.tags) == 3
    assert sum(tag == "path" and attrs.get("class") == "line l1" for tag, attrs in page.tags) == 3 * 2 + 2
    assert read(report([tmp_path / "runs"])["page"]).cells == page.cells


def test_datasets_side_by_side_are_not_averaged(fake_run: FakeRun, tmp_path: Path) -> None:
    """Each has its rows, charts and table of classes; one line tells what is gained over both."""
    made = [
        fake_run(f"{data} {method}", method, miou, {"data.name": data, "train.crop": crop})
        for data, crop, first in (("a", 33, 60.0), ("b", 65, 20.0))
        for method, miou in (("supervised", first), ("unimatch", first + 2))
    ]
    page = read(report(made)["page"])
    rows = [cell.strip() for cell in page.cells]
    start = rows.index("2 datasets")
    assert rows[start : start + 6] == ["2 datasets", "unimatch", "", "", "+2.0 (+2.0 to +2.0)", "2 pairs"]
    assert rows[rows.index("62.0") - 2 : rows.index("62.0")] == ["a", "unimatch"]
    assert rows[rows.index("22.0") - 2 : rows.index("22.0")] == ["b", "unimatch"]
    assert not {"40.0", "41.0", "42.0"} & set(rows[: rows.index("class")])
    assert sum(tag == "svg" and attrs.get("role") == "img" for tag, attrs in page.tags) == 2 * 3
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert "mIoU on the validation images, b" in page.text
    assert "\na\n" in page.text.partition("\nClasses\n")[2]  # a heading of its table of classes
    crops = rows[(at := rows.index("train.crop")) : at + 5]
    assert crops == ["train.crop", "33", "33", "65", "65"]


def test_all_methods_have_a_line_and_a_column_of_their_own(fake_run: FakeRun) -> None:
    page = read(report([fake_run(f"r {name}", name) for name in METHODS])["page"])
    drawn = [attrs.get("class", "") for tag, attrs in page.tags if tag == "path"]
    assert len({style for style in drawn if style.startswith("line l")}) == len(METHODS) > 8
    rows = [cell.strip() for cell in page.cells]
    assert {*METHODS} <= {*rows[rows.index("class") : rows.index("80.0 %")]}


def test_runs_of_other_settings_are_not_averaged(fake_run: FakeRun) -> None:
    made = [fake_run(f"r{k}", "supervised", 30.0 + k, {"train.lr": lr}) for k, lr in enumerate((0.1, 0.2))]
    page = read(report(made)["page"])
    assert page.after("supervised, lr 0.1") == "30.0"
    assert page.after("supervised, lr 0.2") == "31.0"
    assert page.after("train.lr") == "0.1"


def test_a_comparison_has_its_own_table_and_what_failed(fake_run: FakeRun, tmp_path: Path) -> None:
    fake_run("c/one", "supervised")
    fake_run("c/of another comparison", "supervised")
    spread = {"mean": 43.44, "deviation": None, "half": None, "count": 1}
    row = {
        "labeled": "6",
        "method": "supervised",
        "backbone": "tiny",
        "runs": 1,
        "asked": 2,
        "last": spread,
        "best": spread,
    }
    kept = {"rows": [row], "failed": {"c/two": "error: <disk> full"}, "runs": ["one", "two"]}
    (tmp_path / "c" / "compare.json").write_text(json.dumps(kept))
    found = report([tmp_path / "c"])
    assert found["runs"] == [str(tmp_path / "c" / "one")]
    page = read(found["page"])
    assert page.after("c/two") == "error: <disk> full"
    assert (page.after("43.4"), page.after("1/2")) == ("43.4", "")


def test_a_comparison_calls_its_runs_alike_everywhere(fake_run: FakeRun, tmp_path: Path) -> None:
    """In the table, in charts and classes, and in the list of runs."""
    named = {"fixmatch": 0.5, "fixmatch train.cutmix=0": 0.0}
    for k, value in enumerate(named.values()):
        fake_run(f"c/r{k}", "fixmatch", 30.0 + k, {"train.cutmix": value})
    spread = {"mean": 43.44, "deviation": None, "half": None, "count": 1}
    row = {"labeled": "6", "backbone": "tiny", "runs": 1, "asked": 1, "last": spread}
    rows = [{**row, "method": title} for title in named]
    kept = {"rows": rows, "failed": {}, "runs": ["r0", "r1"], "titles": dict(zip(("r0", "r1"), named, strict=True))}
    (tmp_path / "c" / "compare.json").write_text(json.dumps(kept))
    page = read(report([tmp_path / "c"])["page"])
    cells = [cell.strip() for cell in page.cells]
    # table, the numbers of three charts, classes, what differs, runs
    assert cells.count("fixmatch train.cutmix=0") == cells.count("fixmatch") == 7
    assert "cutmix 0" not in page.text
    assert "fixmatch, fixmatch train.cutmix=0 on" in page.text


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"titles": ["one"]}, "titles is"),
        ({"rows": [7]}, r"rows\[0\] is '7'"),
        ({"rows": [{"labeled": "6"}]}, "lacks 'method'"),
        ({"rows": [{"published": 1}]}, "lacks 'row'"),
        ({"rows": [{"labeled": "6", "method": 7}]}, r"rows\[0\].method is '7'"),
        ({"runs": "one"}, "runs is 'one'"),
    ],
)
def test_a_damaged_comparison_is_told(fake_run: FakeRun, tmp_path: Path, odd: dict[str, Any], said: str) -> None:
    fake_run("c/one", "supervised")
    (tmp_path / "c" / "compare.json").write_text(json.dumps({"rows": [], "failed": {}, "runs": ["one"]} | odd))
    with pytest.raises(CheckpointError, match=r"compare\.json") as caught:
        report([tmp_path / "c"])
    assert re.search(said, caught.value.why)


@pytest.mark.usefixtures("worst_images")
def test_what_a_log_lacks_and_what_is_no_time(fake_run: FakeRun) -> None:
    """Numbers that no run has, in files that somebody handed on, are left out; the page is made."""
    run = fake_run("one")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [{key: value for key, value in row.items() if key != "pixel_accuracy"} for row in rows]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    result = json.loads((run / "result.json").read_text()) | {"seconds": float("inf")}
    (run / "result.json").write_text(json.dumps(result))
    (run / "partition.json").write_text('{"labeled": 6}')
    page = read(report([run])["page"])
    assert page.after("training").startswith("not known")
    assert "pixel accuracy" not in page.text


def test_an_unfinished_run_of_before_and_one_without_any_evaluation(fake_run: FakeRun, tmp_path: Path) -> None:
    run = fake_run("old")
    for name in ("result.json", "evaluation.json", "partition.json", "environment.json"):
        (run / name).unlink()
    page = read(report([run])["page"])
    assert "The run is not finished: step 200 of 200." in page.text
    assert "Without pictures:" in page.text  # there is no network
    (run / "metrics.jsonl").unlink()
    page = read(report([run], out=tmp_path / "page.html")["page"])
    assert "step 0 of 200" in page.text


def test_what_is_refused(fake_run: FakeRun, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no run in"):
        report([tmp_path / "empty"])
    run = fake_run("one")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"):
        report([run, fake_run("two")], out=tmp_path / "file" / "page.html")
    (run / "result.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"result\.json"):
        report([run])
    told = list[str]()
    report([run, tmp_path / "two"], note=told.append)
    assert [line.split(":")[0] for line in told] == ["left out"]


class Notes(Silent):
    def __init__(self) -> None:
        self.notes = list[str]()

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_training_ends_with_a_report(configured: Callable[..., Resolved], shapes_root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = {"method.tau": 0.2, "train.steps": 3}
    found = train(configured("unimatch", settings), data_root=shapes_root, runs_root=tmp_path, out=run, device="cpu")
    assert found["report"] == str(run / "report.html")
    before = read(run / "report.html")
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert sum(tag == "article" for tag, _ in before.tags) == len(evaluation["images"]) == 3
    assert "Classes of the kept pseudo-labels" in before.text
    (run / "evaluation.json").unlink()  # as earlier versions left it
    after = read(report([run], root=shapes_root, device="cpu")["page"])
    assert json.loads((run / "evaluation.json").read_text()) == evaluation
    assert after.cells == before.cells
    shutil.rmtree(run / "resume")


def test_a_report_that_fails_is_a_line_and_the_run_is_whole(
    configured: Callable[..., Resolved], shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> str:
        raise RuntimeError("no\nroom")

    monkeypatch.setattr(stage, "page", broken)
    screen, run = Notes(), tmp_path / "run"
    resolved = configured("supervised", {"train.steps": 1})
    found = train(resolved, data_root=shapes_root, runs_root=tmp_path, out=run, device="cpu", screen=screen)
    assert found["report"] is None
    assert found["last"]["step"] == 1
    assert screen.notes[-1] == "no report: no room; the runs are complete without it"
    assert (run / "result.json").is_file()
    assert not (run / "report.html").exists()
