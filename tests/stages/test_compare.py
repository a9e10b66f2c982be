"""Comparisons: which runs, which are paired, and that nothing is run twice."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from semiseg_cli.core.config.tables import Row, table_rows
from semiseg_cli.core.errors import DataError, Interrupted, UsageError
from semiseg_cli.core.owner import owned
from semiseg_cli.stages import compare as stage
from semiseg_cli.stages.compare import carried, compare
from semiseg_cli.stages.compared import cells_of, explained, grouped, overall
from semiseg_cli.stages.jobs import Job
from semiseg_cli.stages.prepare import prepare_shapes
from semiseg_cli.stages.published_rows import published
from semiseg_cli.stages.study import Asked, Cell, result_of, study, table, variant

MIOU = {  # method, seed
    ("supervised", 0): 40.0, ("supervised", 1): 36.0, ("fixmatch", 0): 43.0, ("fixmatch", 1): 37.0,
}  # fmt: skip


@pytest.fixture
def asked(shapes_root: Path, tmp_path: Path) -> Asked:
    return Asked(shapes_root, tmp_path / "runs", "cpu", (("train.steps", "2"),))


def finish(run: Path, miou: float) -> None:
    """Leave in `run` what a run does that took a minute."""
    run.mkdir(parents=True, exist_ok=True)
    last, best = ({"step": 2, "miou": value, "pixel_accuracy": 80.0, "iou": {}} for value in (miou, miou + 1))
    found = {"run": str(run), "method": "m", "partition": "p", "steps": 2, "seconds": 60.0, "last": last, "best": best}
    (run / "result.json").write_text(json.dumps(found | {"peak_memory_bytes": 2**30}))


def four(asked: Asked) -> list[Cell]:
    return study(asked, ["shapes"], ["4"], ["supervised", "fixmatch"], ["tiny"], [0, 1])


def test_a_gain_is_of_runs_on_the_same_labels(asked: Asked) -> None:
    cells = four(asked)
    assert [(cell.title, cell.seed) for cell in cells] == [(m, s) for s in (0, 1) for m in ("supervised", "fixmatch")]
    for cell in cells:
        finish(cell.run, MIOU[cell.title, cell.seed])
    supervised, fixmatch = grouped(cells)
    assert "gain" not in supervised
    assert supervised["last"]["mean"] == 38.0
    assert supervised["last"]["deviation"] == statistics.stdev([40, 36])
    assert fixmatch["gain"]["each"] == [3.0, 1.0]
    assert (fixmatch["gain"]["mean"], fixmatch["gain"]["over"]) == (2.0, "supervised")
    assert fixmatch["gain"]["half"] == pytest.approx(12.7062 * statistics.stdev([3, 1]) / 2**0.5, rel=1e-4)
    assert (fixmatch["best"]["mean"], fixmatch["seconds"], fixmatch["peak_memory_bytes"]) == (41.0, 60.0, 2**30)


def test_a_run_without_its_rival_has_no_part_in_the_gain(asked: Asked) -> None:
    cells = four(asked)
    for cell in cells[1:]:
        finish(cell.run, MIOU[cell.title, cell.seed])
    supervised, fixmatch = grouped(cells)
    assert (supervised["runs"], supervised["asked"]) == (1, 2)
    assert fixmatch["gain"]["each"] == [1.0]
    assert fixmatch["gain"]["half"] is None


@pytest.fixture
def unlike(asked: Asked) -> list[Cell]:
    """Runs on two datasets, in the second of which all mIoU are 30 points lower, and one pair is missing."""
    cells = four(asked) + [replace(cell, data="b", run=asked.folder / f"b {cell.run.name}") for cell in four(asked)]
    for cell in cells[:-1]:
        finish(cell.run, MIOU[cell.title, cell.seed] - 30 * (cell.data == "b"))
    return cells


def test_a_gain_of_nothing_has_no_sign_of_a_loss() -> None:
    row = {"labeled": "4", "backbone": "tiny", "runs": 2, "asked": 2}
    gained = {"fixmatch": -0.02, "unimatch": -0.08}
    rows = [{**row, "method": name, "gain": {"mean": mean, "half": 0.01}} for name, mean in gained.items()]
    titles, lines = cells_of(rows)
    gains = [line[titles.index("gain (95 %)")] for line in lines]
    assert gains == ["+0.0 (+0.0 to +0.0)", "-0.1 (-0.1 to -0.1)"]


def test_datasets_are_not_averaged_and_what_is_gained_on_them_is(unlike: list[Cell]) -> None:
    rows = grouped(unlike)
    assert [(row["data"], row["method"], row["last"]["mean"]) for row in rows] == [
        ("shapes", "supervised", 38.0), ("shapes", "fixmatch", 40.0), ("b", "supervised", 8.0), ("b", "fixmatch", 13.0),
    ]  # fmt: skip
    (over,) = overall(rows)
    assert "last" not in over
    assert (over["datasets"], over["method"], over["gain"]["each"]) == (2, "fixmatch", [3.0, 1.0, 3.0])
    assert over["gain"]["half"] == pytest.approx(4.3027 * statistics.stdev([3, 1, 3]) / 3**0.5, rel=1e-4)
    assert overall(grouped(unlike[:4])) == []

    own = overall(rows[:2] + [row | {"labeled": "9"} for row in rows[2:]])  # each has a number of labels of its own
    assert [(row["labeled"], row["gain"]["count"]) for row in own] == [("4, 9", 3)]
    several = overall(rows + [row | {"labeled": "9"} for row in rows])
    assert [(row["labeled"], row["gain"]["count"]) for row in several] == [("4", 3), ("9", 3)]

    titles, lines = cells_of(rows)
    assert titles == ["dataset", "method", "last", "best", "gain (95 %)", "runs", "min", "GiB"]
    assert [line[:3] for line in lines[2:4]] == [["b", "supervised", "8.0 ± 2.8"], ["b", "fixmatch", "13.0"]]
    assert lines[-1] == ["2 datasets", "fixmatch", "", "", "+2.3 (-0.5 to +5.2)", "3 pairs", "", ""]
    assert "all their pairs" in " ".join(explained(rows))
    assert "dataset: shapes" in explained(grouped(unlike[:4]))


def test_a_comparison_of_before_named_no_datasets(unlike: list[Cell]) -> None:
    rows = [{key: value for key, value in row.items() if key != "data"} for row in grouped(unlike[:4])]
    assert cells_of(rows) == cells_of(grouped(unlike[:4]))
    assert explained(rows) == [*explained(grouped(unlike[:4]))[:-3], "labels: 4", "encoder: tiny"]


def test_a_dry_run_for_each_pace(
    asked: Asked, trained: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels, seeds and equal datasets share one, images of other sizes have their own."""
    for name, size in (("a", 48), ("b", 48), ("c", 96)):
        prepare_shapes(tmp_path / "data", name=name, seed=size, labeled=4, unlabeled=2, val=1, size=size)
    own = replace(asked, root=tmp_path / "data")
    asks, told = list[Sequence[str]](), list[str]()

    def answer(words: Sequence[str]) -> Any:
        asks.append(words)
        large = 1 + ("c" in words)
        return {"cost": {"step_ms": 60_000 * large, "peak_memory_bytes": 2**30 * large}}

    monkeypatch.setattr(stage, "_answer", answer)
    cells = study(own, ["a", "b", "c"], ["4", "3"], ["supervised", "fixmatch"], ["tiny"], [0, 1])
    compare(cells, own.folder, at_once=1, note=told.append)
    measured = [(words[words.index("--data") + 1], words[words.index("--method") + 1]) for words in asks]
    assert measured == [("a", "supervised"), ("a", "fixmatch"), ("c", "supervised"), ("c", "fixmatch")]
    assert told[0] == "supervised on tiny, a, 2 steps: 4 runs of 2.0 minutes and 1.0 GiB"
    assert told[5] == "fixmatch on tiny, c, 2 steps: 4 runs of 4.0 minutes and 2.0 GiB"
    assert told[6].startswith("24 runs, 1 at a time: about 64 minutes")


def test_numbers_of_steps_share_a_dry_run(asked: Asked, trained: list[Job]) -> None:
    cells = [*four(asked), *four(replace(asked, flags=(("train.steps", "6"),)))]
    assert len({cell.pace for cell in cells}) == 2
    assert len({cell.pace for cell in four(replace(asked, pairs=("train.crop=33",)))} - {c.pace for c in cells}) == 2
    told = list[str]()
    compare(cells, asked.folder, at_once=1, note=told.append)
    assert told[2] == "supervised on tiny, 6 steps: 2 runs of 90.0 minutes and 1.0 GiB"


def test_another_setting_or_other_labels_are_another_run(asked: Asked) -> None:
    first = four(asked)
    assert [cell.run for cell in four(asked)] == [cell.run for cell in first]
    longer = four(replace(asked, flags=(("train.steps", "3"),)))
    other = four(replace(asked, pairs=("train.lr=0.5",)))
    fewer = study(asked, ["shapes"], ["3"], ["supervised", "fixmatch"], ["tiny"], [0, 1])
    runs = [cell.run for cells in (first, longer, other, fewer) for cell in cells]
    assert len(set(runs)) == len(runs)


VARIANTS = [
    "fixmatch", "fixmatch train.cutmix=0", "fixmatch+masked", "fixmatch+masked train.cutmix=0 train.scale=0.7,1",
]  # fmt: skip


def test_a_method_with_settings_of_its_own_is_a_row_of_its_own(asked: Asked, trained: list[Job]) -> None:
    asked = replace(asked, pairs=("train.cutmix=1",))
    cells = study(asked, ["shapes"], ["4"], VARIANTS, ["tiny"], [0])
    assert [cell.title for cell in cells] == VARIANTS
    assert len({cell.pace for cell in cells}) == 4
    own = [cell.words[cell.words.index("train.cutmix=1") + 1 : cell.words.index("--labeled")] for cell in cells]
    less, masked = ("--set", "train.cutmix=0"), ("--set", "method.add=masked")
    assert own == [(), less, masked, (*masked, *less, "--set", "train.scale=0.7,1")]
    rows = compare(cells, asked.folder)["rows"]
    assert [row["method"] for row in rows] == VARIANTS
    assert [row.get("gain", {}).get("over") for row in rows] == [None, *["fixmatch"] * 3]
    assert rows[1]["gain"]["each"] == [0.0]
    kept = json.loads((asked.folder / "compare.json").read_text())
    assert list(kept["titles"].values()) == VARIANTS
    assert list(kept["titles"]) == kept["runs"] == [cell.run.name for cell in cells]


def test_what_is_the_same_by_two_names_is_one_run_by_the_first(asked: Asked) -> None:
    usual = ["fixmatch", "fixmatch train.seed=0", "fixmatch+masked", "fixmatch method.add=masked"]
    cells = study(asked, ["shapes"], ["4"], usual, ["tiny"], [0])
    assert [cell.title for cell in cells] == ["fixmatch", "fixmatch+masked"]


def test_runs_on_other_labels_are_no_pair(asked: Asked) -> None:
    """Other ones of the same number, by settings of a method's own."""
    cells = study(asked, ["shapes"], ["4"], ["fixmatch", "fixmatch data.split_seed=7"], ["tiny"], [0])
    for cell in cells:
        finish(cell.run, 40.0)
    assert cells[0].partition != cells[1].partition
    assert ["gain" in row for row in grouped(cells)] == [False, False]


@pytest.mark.parametrize(
    ("text", "said", "fix"),
    [
        ("fixmath train.cutmix=0", "no method 'fixmath'", "did you mean 'fixmatch'"),
        ("supervised,fixmatch train.lr=1", "no method", "-m supervised -m 'fixmatch train.lr=1'"),
        ("probe train.lr=1", "a probe takes no settings", "-m probe with --steps"),
        ("fixmatch 'train.lr=1", "cannot be read", "-m 'unimatch train.cutmix=0'"),
        ("supervised+masked", "gives the plug-in 'masked' nothing", "--method meanteacher"),
        ("fixmatch+maskd", "no plug-in 'maskd'", "did you mean 'masked'"),
        ("fixmatch train.cutmx=0", r"no setting 'train\.cutmx'", "did you mean 'train.cutmix'"),
        ("fixmatch train.seed=3", "--seeds says the seeds", "--seeds 3"),
        ("fixmatch cutmix", "not of the form name=value", ""),
    ],
)
def test_a_variant_that_cannot_be(asked: Asked, text: str, said: str, fix: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        study(asked, ["shapes"], ["4"], [text], ["tiny"], [0])
    assert fix in caught.value.fix


def test_settings_of_a_variant_are_split_as_a_shell_does() -> None:
    assert variant("unimatch 'train.best_by=iou:traffic light' train.cutmix=0") == (
        "unimatch", ["train.best_by=iou:traffic light", "train.cutmix=0"],
    )  # fmt: skip
    assert variant("fixmatch+masked+interpixel") == ("fixmatch", ["method.add=masked,interpixel"])


def test_a_probe_takes_what_is_meant_for_it(asked: Asked) -> None:
    asked = replace(asked, flags=(("train.steps", "7"), ("model.weights", "none")))

    def words(methods: list[str], backbone: str) -> tuple[Cell, str]:
        cell = study(asked, ["shapes"], ["4"], methods, [backbone], [0])[-1]
        return cell, " ".join(cell.words)

    (alone, typed), (beside, other), (_, plain) = (
        words(["probe"], ""), words(["supervised", "probe"], "tiny"), words(["supervised", "probe"], "")
    )  # fmt: skip
    assert (alone.steps, beside.steps) == (7, 300)
    assert "--steps 7 --weights none" in typed
    assert "--weights none" in other
    assert "--steps" not in other
    assert "--weights" not in plain


def test_what_is_no_setting_is_refused_before_the_first_run(asked: Asked) -> None:
    with pytest.raises(UsageError, match=r"train\.lrr"):
        four(replace(asked, pairs=("train.lrr=1",)))
    assert not asked.folder.exists()


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Runs that are told to have been run, in place of processes; the job of seed 1 fails for FixMatch."""
    every: list[Job] = []
    cost = {"cost": {"step_ms": 900_000.0, "peak_memory_bytes": 2**30}}
    monkeypatch.setattr(stage, "_answer", lambda words: cost)

    def run_jobs(jobs: list[Job], at_once: int, *, ended: Callable[[Job, int], object], **_: Any) -> None:
        for job in jobs:
            every.append(job)
            job.log.parent.mkdir(parents=True, exist_ok=True)
            failing = "fixmatch" in job.name and "-s1-" in job.name
            job.log.write_text("note\nerror: the disk is full\n  try: another\n" if failing else "")
            if not failing:
                finish(Path(job.name), 50.0)
            ended(job, int(failing))

    monkeypatch.setattr(stage, "run_jobs", run_jobs)
    return every


def test_what_is_done_is_not_run_again_and_what_failed_is(asked: Asked, trained: list[Job]) -> None:
    cells, told = four(asked), list[str]()
    found = compare(cells, asked.folder, note=told.append)
    assert list(found["failed"].values()) == ["error: the disk is full"]
    assert [row["runs"] for row in found["rows"]] == [2, 1]
    assert len(trained) == 4
    assert any("2 runs of 30.0 minutes and 1.0 GiB" in line for line in told)
    assert trained[0].words[:5] == ("train", "--data", "shapes", "--method", "supervised")

    compare(four(asked), asked.folder)
    assert len(trained) == 5
    assert "fixmatch" in trained[4].name
    assert "-s1-" in trained[4].name


def test_a_run_that_went_on_to_more_steps_counts_as_it_was(asked: Asked, trained: list[Job]) -> None:
    """Not as one that had more steps than those it is compared with, and it is not trained anew."""
    cells = four(asked)
    compare(cells, asked.folder)
    run = cells[0].run
    (run / "result.json").rename(run / "result-2.json")
    count = len(trained)
    for then in (None, 90.0):  # while it goes on, and when it is done
        if then:
            longer = json.loads((run / "result-2.json").read_text()) | {"steps": 4}
            (run / "result.json").write_text(json.dumps(longer | {"last": longer["last"] | {"miou": then}}))
        found = compare(cells[:3], asked.folder)
        assert found["rows"][0]["last"]["mean"] == 50.0
        assert len(trained) == count
    assert result_of(replace(cells[0], steps=4))["last"]["miou"] == 90.0  # type: ignore[index]


def test_a_run_with_a_state_goes_on_with_it(asked: Asked, trained: list[Job]) -> None:
    cells = four(asked)
    for cell in cells[:2]:
        (cell.run / "resume").mkdir(parents=True)
        (cell.run / "config.toml").touch()
    (cells[0].run / "resume" / "state.safetensors").touch()  # the other was killed within its first save
    compare(cells, asked.folder)
    place = ("--root", str(asked.root), "--device", "cpu", "--json")
    assert trained[0].words == ("train", str(cells[0].run), "--resume", *place)
    assert trained[1].words == (*cells[1].words, "--out", str(cells[1].run), *place)
    assert not (cells[1].run / "config.toml").exists()


def test_a_run_that_a_killed_comparison_left_at_work_is_waited_for(
    asked: Asked, trained: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    cells, told, waits = four(asked), list[str](), 0
    cells[0].run.mkdir(parents=True)
    with ExitStack() as left:
        left.enter_context(owned(cells[0].run / ".owner", "it"))

        def sleep(_: float) -> None:
            nonlocal waits
            waits += 1
            if waits == 2:
                finish(cells[0].run, 40.0)
                left.close()

        monkeypatch.setattr(stage.time, "sleep", sleep)
        compare(cells, asked.folder, note=told.append)
    assert waits == 2
    assert told[0].startswith(f"{cells[0].run} is being trained by process {os.getpid()}")
    assert [job.name for job in trained] == [str(cell.run) for cell in cells[1:]]


def test_what_is_named_twice_is_run_once(asked: Asked, trained: list[Job]) -> None:
    cells = study(asked, ["shapes"], ["4", "4"], ["supervised"], ["tiny", "tiny"], [0, 0])
    assert len(cells) == 1
    (row,) = compare(cells, asked.folder)["rows"]
    assert (row["asked"], row["last"]["count"], len(trained)) == (1, 1, 1)


def test_a_run_that_was_killed_is_told_by_the_signal_and_not_by_what_an_earlier_try_said(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("error: the disk is full\n")
    assert stage._last_line(log, 1) == "error: the disk is full"
    assert stage._last_line(log, -9) == "killed by SIGKILL (out of memory?)"


def test_steps_are_counted_as_the_logs_grow(asked: Asked) -> None:
    cell, seen = four(asked)[0], dict[Path, tuple[int, int]]()
    assert stage._steps_done(cell, seen) == 0
    cell.run.mkdir(parents=True)
    for step in (1, 2):
        with (cell.run / "metrics.jsonl").open("a") as log:
            log.write(json.dumps({"step": step}) + "\n")
        assert stage._steps_done(cell, seen) == stage._steps_done(cell, seen) == step


def test_an_interrupt_says_that_the_same_command_goes_on(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "_answer", interrupted)
    with pytest.raises(Interrupted) as caught:
        compare(four(asked), asked.folder)
    assert "the same command goes on" in caught.value.fix


def test_as_many_at_once_as_cores_and_memory_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr(stage, "free_memory", lambda: 10 * 2**30)
    assert carried(2**20, cuda=False) == 8
    assert carried(3 * 2**30, cuda=False) == 2
    assert carried(30 * 2**30, cuda=False) == 1


def a_row(**changes: Any) -> Row:
    """Of a paper's table, of data that is here."""
    here = {"data": "shapes", "labeled": "4", "preset": "shapes", "backbone": "tiny", "set": {}, "published": 70.0}
    return replace(table_rows("unimatch")[0], **here | changes)


def nobody(words: Sequence[str]) -> Any:
    raise AssertionError(words)


def test_a_published_row_stands_beside_ours_with_what_differs(asked: Asked, shapes_root: Path) -> None:
    row = a_row()
    cells = table(asked, [row], [0])
    finish(cells[0].run, 61.5)
    found = published(cells, nobody)[0]
    assert (found["published"], found["last"]["mean"]) == (70.0, 61.5)
    assert found["differs"] == ["trained with --set train.steps=2"]
    assert result_of(cells[0]) is not None

    (cells[0].run / "partition.json").write_text(json.dumps({"fingerprint": "of nobody"}))
    ours = replace(cells[0], row=replace(row, data="voc", remark="the paper is silent on the crop"))
    found = published([ours], nobody)[0]
    assert found["differs"][0] == "the paper is silent on the crop"
    assert found["differs"][1].startswith("labels of our own")


def test_rows_of_two_tables_are_two_rows_and_one_run_where_they_train_the_same(
    asked: Asked, trained: list[Job]
) -> None:
    rows = [a_row(table="1"), a_row(table="6", published=71.0), a_row(table="6", row="b", set={"train.lr": 0.5})]
    cells = table(asked, rows, [0, 0])
    assert [cell.run == cells[0].run for cell in cells] == [True, True, False]
    found = compare(cells, asked.folder)["rows"]
    assert len(trained) == 2
    assert [(row["published"], row["runs"], row["asked"]) for row in found[:2]] == [(70.0, 1, 1), (71.0, 1, 1)]


def test_a_number_of_steps_goes_over_that_of_a_row(asked: Asked) -> None:
    """As in the command line that trains it, where the last --set of a name counts."""
    row = a_row(set={"train.steps": 400})
    (short,), (long,) = table(asked, [row], [0]), table(replace(asked, flags=()), [row], [0])
    assert (short.steps, long.steps) == (2, 400)
    assert short.words.index("train.steps=400") < short.words.index("train.steps=2")
    assert short.run != long.run


def test_a_row_that_is_measured_by_eval(asked: Asked) -> None:
    row = a_row(evaluate="--boundary --absent-as-one", metric="boundary F-score")
    cells = table(asked, [row], [0])
    finish(cells[0].run, 61.5)
    seen = list[Sequence[str]]()
    found = published(cells, lambda words: seen.append(words) or {"boundary_f": 44.5})[0]
    assert found["last"]["mean"] == 44.5
    assert "best" not in found  # the run's best is an mIoU
    assert seen[0][:4] == ["eval", str(cells[0].run / "last.safetensors"), "--boundary", "--absent-as-one"]

    def fails(words: Sequence[str]) -> Any:
        raise DataError("semiseg eval fails", why="no space left")

    (cells[0].run / "last-2.safetensors").touch()  # it went on to more steps
    seen.clear()
    published(cells, lambda words: seen.append(words) or {"boundary_f": 44.5})
    assert seen[0][1] == str(cells[0].run / "last-2.safetensors")

    found = published(cells, fails)[0]
    assert "last" not in found
    assert found["differs"][-1] == "not measured here: semiseg eval fails (no space left)"
