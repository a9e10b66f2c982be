"""Every number of every paper's tables stands beside a command line that trains what the paper trained."""

from __future__ import annotations

import itertools
import re
import shlex
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

import semiseg_cli.cli.train as command
import semiseg_cli.stages.evaluate as evaluation
import semiseg_cli.stages.train as stage
from semiseg_cli.cli import app, console
from semiseg_cli.core.config.layers import Resolved, flatten
from semiseg_cli.core.config.presets import preset_text
from semiseg_cli.core.config.tables import FOLDER, Row, _columns, table_note, table_rows
from semiseg_cli.core.inference.metrics import Asked
from semiseg_cli.core.methods import METHODS
from semiseg_cli.core.partitions.protocols import protocols, published

ROWS = [(method, row) for method in METHODS for row in table_rows(method)]
PAPERS = list(dict.fromkeys(method for method, _ in ROWS))
AUTHORS = {"method.exact_bn": True, "method.cutmix_partner": "self"}
PARSER = typer.main.get_command(app)


class Parsed(Exception):
    """Carries what a command line asks its stage for, in place of a run."""


@pytest.fixture(scope="module")
def typed() -> Iterator[dict[str, Resolved]]:
    """Every row's command line, parsed by the command line's own parser, as the configuration that it trains."""

    def caught(resolved: Resolved, **_: Any) -> dict[str, Any]:
        raise Parsed(resolved)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "train", caught)
        patch.setattr(command, "dataset_in", lambda root: lambda name: (name, name))
        yield {row.command: _typed(shlex.split(row.command)) for _, row in ROWS}
    console.state = console.State()


def _typed(words: list[str]) -> Any:
    return _asked(words)[0]


def _asked(words: list[str]) -> tuple[Any, ...]:
    assert words[0] == "semiseg"
    with pytest.raises(Parsed) as caught:
        PARSER.main(words[1:], standalone_mode=False)
    return caught.value.args


def trained(row: Row, typed: dict[str, Resolved]) -> dict[str, Any]:
    return flatten(typed[row.command].config)


def test_every_file_is_a_method_of_that_name() -> None:
    files = {entry.name.removesuffix(".toml") for entry in FOLDER.iterdir()}
    assert files == set(PAPERS) <= set(METHODS)
    assert all(table_note(method) for method in files)
    assert not table_note("supervised")
    assert table_rows("supervised") == []


def test_the_tables_of_every_paper_are_there() -> None:
    tables = {method: list(dict.fromkeys(row.table for row in table_rows(method))) for method in PAPERS}
    assert tables == {
        "unimatch": ["2", "3", "4"],
        "ipixmatch": ["I", "II", "III", "IV", "V"],
        "maskmatch": list("123456789"),
        "guidedmix": list("12345"),
        "stpg": [*"12345", "figure 6", "figure 8a", "figure 8b"],
        "unimatchv2": ["1", "2", "5", "6", "7", "8", "10", "11", "figure 5", "figure 6"],
        "s4mim": ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "figure 4"],
    }


def test_a_rows_command_trains_what_the_row_says(typed: dict[str, Resolved]) -> None:
    for _, row in ROWS:
        found = trained(row, typed)
        asked = {
            "method.name": row.method, "method.add": tuple(row.add), "data.name": row.data, "data.labeled": row.labeled
        }  # fmt: skip
        asked |= {name: tuple(value) if isinstance(value, list) else value for name, value in row.set.items()}
        asked |= {"model.backbone": row.backbone} if row.backbone else {}
        assert {name: found[name] for name in asked} == asked, row.command
        assert row.preset.startswith(row.data)
        assert row.published is None or 0 < row.published < 100


def test_a_rows_evaluation_is_a_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def caught(checkpoint: Path, how: object, *, asked: Asked, **_: Any) -> dict[str, Any]:
        raise Parsed(checkpoint, asked)

    (tmp_path / "RUN").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluation, "evaluate_checkpoint", caught)
    lines = {row.evaluation: row.metric for _, row in ROWS}
    assert lines.pop("") == "mIoU"
    for line, metric in lines.items():
        checkpoint, asked = _asked(shlex.split(line))
        published = metric == "boundary F-score"
        assert (checkpoint, asked) == (Path("RUN"), Asked(boundary=published, absent_as_one=published)), line
    console.state = console.State()


def test_the_labels_of_a_row_are_a_size_or_a_published_list() -> None:
    for _, row in ROWS:
        name, _, size = row.labeled.partition("/")
        assert name in {protocol.name for protocol in protocols(row.data)}, row.labeled
        assert row.labeled in {each.words for each in published(row.data)}, row.labeled
        assert re.match(r"\d+", size)


@pytest.mark.parametrize("method", PAPERS)
def test_no_two_numbers_stand_beside_one_run(method: str, typed: dict[str, Resolved]) -> None:
    """In one table not at all; in two a number may be rounded, or the difference is told."""
    runs = defaultdict(list)
    for row in table_rows(method):
        runs[repr(trained(row, typed)), row.metric].append(row)
    for rows in runs.values():
        numbers = [row for row in rows if row.published is not None]
        for one, other in itertools.combinations(numbers, 2):
            assert one.published is not None
            assert other.published is not None
            if one.table == other.table:
                assert one.published == other.published, one.title
            elif abs(one.published - other.published) > 0.051:
                assert f"{other.published:.2f}" in one.remark, one.title
                assert f"{one.published:.2f}" in other.remark, other.title


def test_unimatch_is_trained_as_its_authors_do(typed: dict[str, Resolved]) -> None:
    rows = [row for method, row in ROWS if row.method in ("unimatch", "ipixmatch") and method != "unimatchv2"]
    assert len(rows) > 100
    for row in rows:
        found = trained(row, typed)
        assert AUTHORS.items() <= found.items(), row.title
        assert found["model.backbone"] in ("resnet50s", "resnet101s")
        assert found["model.weights"] == f"{found['model.backbone']}.safetensors"
        assert found["model.backbone"].rstrip("s").removeprefix("resnet") == row.preset.partition("-r")[2]
        batch = found["train.batch"]
        repeatable = found["train.seed"], found["train.deterministic"], found["model.upsampling"]
        assert repeatable == ((0, False, "corners") if batch == 8 else (12345, True, "nearest"))
        assert found["train.lr"] == pytest.approx({"voc": 0.001, "cityscapes": 0.005}[row.data] * batch / 8)
        assert found["method.tau"] == {"voc": 0.95, "cityscapes": 0.0}[row.data]


def test_unimatchs_supervised_runs_are_its_authors(typed: dict[str, Resolved]) -> None:
    """80 passes over the labels (Cityscapes 240) on four devices with four images each; what does not fill is left."""
    rows = [row for method, row in ROWS if row.method == "supervised" and method in ("unimatch", "s4mim")]
    assert len(rows) == 47
    for row in rows:
        found = trained(row, typed)
        labels = int(re.findall(r"/(\d+)", row.labeled)[0])
        passes = {"voc": 80, "cityscapes": 240}[row.data]
        assert found["train.steps"] == passes * (-(-labels // 4) // 4), row.title
        assert (found["train.batch"], found["train.epochs"]) == (16, 0)
        assert found["train.lr"] == {"voc": 0.001, "cityscapes": 0.005}[row.data]


def test_unimatch_v2_is_trained_as_its_authors_do(typed: dict[str, Resolved]) -> None:
    rows = table_rows("unimatchv2")
    assert len(rows) > 100
    for row in rows:
        found = trained(row, typed)
        labels_alone, doubled = row.method == "supervised", row.table == "11"
        assert found["model.backbone"] == ("dinov2_l" if row.table == "8" else f"dinov2_{row.preset[-1]}")
        adamw = {"optimizer": "adamw", "lr": 5e-6, "head_lr_multiplier": 40, "weight_decay": 0.01, "warmup_steps": 0}
        assert {name: found[f"train.{name}"] for name in adamw} == adamw, row.title
        batch, crop, epochs, loss = {"voc": (16, 518, 60, "ce"), "cityscapes": (8, 798, 180, "ohem")}[row.data]
        assert found["train.batch"] == batch * (2 if labels_alone or doubled else 1)
        assert (found["train.crop"], found["train.loss"], found["train.scale"]) == (crop, loss, (0.5, 2.0))
        assert found["eval.window"] == ("798" if row.data == "cityscapes" else "none")
        assert found["model.freeze_encoder"] == (row.table == "7")
        if labels_alone:  # 3,000 images an epoch
            assert found["train.steps"] == epochs * (3000 // found["train.batch"])
        else:
            assert found["train.epochs"] == epochs * (1 + doubled)
            assert found["method.ema_teacher"] == (row.table != "10")
            assert found["method.alpha"] == 0.996


def test_s4mims_first_phase_is_trained_as_unimatch(typed: dict[str, Resolved]) -> None:
    rows = [row for row in table_rows("s4mim") if row.method == "s4mim"]
    assert len(rows) > 40
    assert all(AUTHORS.items() <= trained(row, typed).items() for row in rows)


@pytest.mark.parametrize("method", ["maskmatch", "stpg"])
def test_a_supervised_row_trains_as_long_and_alike(method: str, typed: dict[str, Resolved]) -> None:
    def run(row: Row) -> dict[str, Any]:
        settings = {name: value for name, value in trained(row, typed).items() if not name.startswith("method.")}
        del settings["train.cutmix"]  # without a strong view there is none
        assert settings["train.epochs"] == {"voc": 80, "cityscapes": 240}[row.data]
        return settings

    alone = [row for row in table_rows(method) if row.method == "supervised"]
    theirs = [run(row) for row in table_rows(method) if row.method == method]
    assert len(alone) == {"maskmatch": 15, "stpg": 14}[method]
    for row in alone:
        assert run(row) in theirs, row.title


def test_guidedmixs_supervised_rows_train_as_long_and_alike(typed: dict[str, Resolved]) -> None:
    rows = {row.row: row for row in table_rows("guidedmix") if row.table == "2"}
    for alone, mixed in (
        ("supervised with MITrans", "similar pairs, MITrans, soft decoupling"),
        ("supervised without MITrans", "without MITrans"),
    ):
        one, other = (trained(rows[name], typed) for name in (alone, mixed))
        differ = {name for name in one.keys() & other.keys() if one[name] != other[name]}
        assert differ == {"method.name"}
        assert one["train.steps"] == 40000


def test_ipixmatch_and_its_baseline_train_alike(typed: dict[str, Resolved]) -> None:
    rows = {(row.table, row.row): row for row in table_rows("ipixmatch")}
    baselines = [row for row in rows.values() if "UniMatch*" in row.row]
    assert len(baselines) == 32
    for row in baselines:
        ours = ["L_KL", "L_CR"] if row.table == "I" else [""]
        for name in (row.row.replace("UniMatch*, ", f"{loss}, " * bool(loss)) for loss in ours):
            one, other = (
                {key: value for key, value in trained(each, typed).items() if not key.startswith("method.")}
                for each in (row, rows[row.table, name])
            )
            assert one == other, row.title


@pytest.mark.parametrize("preset", sorted({row.preset for _, row in ROWS}))
def test_a_number_in_a_preset_stands_in_a_table_of_that_preset(preset: str) -> None:
    comments = [line for line in preset_text(preset).splitlines() if line.startswith("#")]
    numbers = re.findall(r"(?<![\w.])\d\d\.\d+", "\n".join(comments))
    theirs = [row.published for _, row in ROWS if row.preset == preset and row.published is not None]
    assert len(numbers) > 10
    for number in numbers:
        shown = 0.5 * 10.0 ** -len(number.partition(".")[2]) + 1e-9
        assert any(abs(float(number) - each) <= shown for each in theirs), number


def test_maskmatch_has_its_blender_numbers_from_the_lists_that_it_names() -> None:
    sets = {each.words: each.sets for each in published("voc")}
    for row in table_rows("maskmatch"):
        if row.labeled.startswith("blender/"):
            named = "U2PL" in row.row or row.table != "2"
            assert (sets[row.labeled][0] == "U2PL") == named, row.title
            assert named or "CPS" in sets[row.labeled]
        if row.labeled.startswith("classic/") and row.table == "1" and not row.labeled.endswith("1464"):
            assert "CPS" in sets[row.labeled]


def test_guidedmix_has_its_numbers_from_the_lists_of_its_code() -> None:
    sets = {(each.data, each.words): each.sets for data in ("voc", "cityscapes") for each in published(data)}
    for row in table_rows("guidedmix"):
        assert "GuidedMix-Net" in sets[row.data, row.labeled], row.title


@pytest.mark.parametrize("method", PAPERS)
def test_no_two_rows_are_called_alike(method: str) -> None:
    names = [(row.table, row.row) for row in table_rows(method)]
    assert len(names) == len(set(names))


def test_a_line_of_a_table_is_a_row_for_every_column() -> None:
    columns = ["blender/662-u2pl", "classic/92"]
    table = {"name": "3", "preset": "voc-r50", "labeled": columns, "set": {"train.crop": 513}}
    line = {"row": "ours", "set": {"train.lr": 0.5}, "steps": [7, 8], "published": [1.5, 2.0]}
    one, other = _columns("unimatch", table | {"row": [line]}, line)
    assert (one.row, one.labeled, one.published) == ("ours, 662 labels", "blender/662-u2pl", 1.5)
    assert one.set == {"train.crop": 513, "train.lr": 0.5, "train.steps": 7}
    assert (other.row, other.published, other.set["train.steps"]) == ("ours, 92 labels", 2.0, 8)
    (alone,) = _columns("unimatch", table | {"labeled": ["classic/92"]}, {"row": "ours", "method": "fixmatch"})
    assert (alone.row, alone.method, alone.published, alone.set) == ("ours", "fixmatch", None, {"train.crop": 513})
    with pytest.raises(ValueError, match="zip"):
        list(_columns("unimatch", table, {"row": "ours", "published": [1.0]}))


def test_the_command_says_it_all() -> None:
    row = Row(
        table="1", row="all of it", method="unimatch", labeled="1/8", preset="voc-r50", add=["masked"],
        backbone="resnet50s", weights="a b", evaluate="--boundary", metric="boundary F-score", published=7.0,
        set={"method.exact_bn": True, "train.scale": [0.5, 2.0], "eval.window": "a b"}, remark="perhaps",
    )  # fmt: skip
    line = (
        "semiseg train -m unimatch -d voc -l 1/8 -p voc-r50 -b resnet50s --weights 'a b' --add masked"
        " -s method.exact_bn=true -s train.scale=0.5,2.0 -s 'eval.window=a b'"
    )
    assert row.command == line
    assert shlex.split(line)[-1] == "eval.window=a b"
    assert row.evaluation == "semiseg eval RUN --boundary"
    assert row.title == "table 1, all of it, published boundary F-score 7, perhaps"
    plain = Row(table="figure 4", row="ratio 0.3", method="s4mim", labeled="1/8", preset="voc-r101")
    assert (plain.title, plain.evaluation) == ("figure 4, ratio 0.3", "")
