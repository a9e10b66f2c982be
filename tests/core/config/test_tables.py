"""Every row of every paper's tables is a command whose configuration resolves."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from semiseg_cli.core.config.layers import flatten
from semiseg_cli.core.config.presets import gather
from semiseg_cli.core.config.tables import FOLDER, Row, table_note, table_rows
from semiseg_cli.core.methods import METHODS
from semiseg_cli.core.partitions.protocols import protocols, published

ROWS = [(method, number, row) for method in METHODS for number, row in enumerate(table_rows(method))]


def test_every_file_is_a_method_of_that_name() -> None:
    files = {entry.name.removesuffix(".toml") for entry in FOLDER.iterdir()}
    assert files == {method for method, *_ in ROWS}
    assert files <= set(METHODS)
    assert all(table_note(method) for method in files)
    assert not table_note("supervised")


@pytest.mark.parametrize("row", [pytest.param(row, id=f"{method}-{number}") for method, number, row in ROWS])
def test_a_row_resolves(row: Row, tmp_path: Path) -> None:
    found = gather(
        row.flags, row.pairs, dataset=lambda name: (name, name), preset=row.preset, directory=tmp_path
    ).config
    assert (found.method_name, found.data.name, found.data.labeled) == (row.method, row.data, row.labeled)
    settings = flatten(found)
    for name, value in row.set.items():
        assert settings[name] == (tuple(value) if isinstance(value, list) else value), name
    assert row.published is None or 0 < row.published < 100
    assert row.preset.startswith(row.data)


@pytest.mark.parametrize("row", [pytest.param(row, id=f"{method}-{number}") for method, number, row in ROWS])
def test_the_labels_of_a_row_are_a_size_or_a_published_list(row: Row) -> None:
    name, _, size = row.labeled.partition("/")
    if name in {protocol.name for protocol in protocols(row.data)}:
        assert size.isdecimal() or row.labeled in {each.words for each in published(row.data)}
    else:
        assert re.fullmatch(r"\d+(/\d+)?", row.labeled)


def test_maskmatch_has_its_blender_numbers_from_the_lists_of_u2pl() -> None:
    sets = {each.words: each.sets for each in published("voc")}
    blender = [row.labeled for row in table_rows("maskmatch") if row.labeled.startswith("blender/")]
    assert blender
    assert {sets[labeled][0] for labeled in blender} == {"U2PL"}


def test_ipixmatch_and_its_baseline_train_alike(tmp_path: Path) -> None:
    def trained(row: Row) -> dict[str, object]:
        found = gather(
            row.flags, row.pairs, dataset=lambda name: (name, name), preset=row.preset, directory=tmp_path
        ).config
        own = ("method.", "interpixel.")
        return {name: value for name, value in flatten(found).items() if not name.startswith(own)}

    rows = {row.row: row for row in table_rows("ipixmatch") if row.table == "I"}
    for labels in ("1/16, 662 labels", "92 labels"):
        baseline = trained(rows[f"UniMatch*, {labels}"])
        assert baseline == trained(rows[f"L_KL, {labels}"]) == trained(rows[f"L_CR, {labels}"])
        assert baseline["train.lr"] == 0.0005


@pytest.mark.parametrize("method", dict.fromkeys(method for method, *_ in ROWS))
def test_no_two_rows_are_called_alike(method: str) -> None:
    names = [(row.table, row.row) for row in table_rows(method)]
    assert len(names) == len(set(names))


def test_the_command_says_it_all() -> None:
    row = Row(
        table="1", row="all of it", method="unimatch", labeled="1/8", preset="voc-r50", add=["masked"],
        set={"method.exact_bn": True, "train.scale": [0.5, 2.0], "eval.window": "a b"},
    )  # fmt: skip
    line = (
        "semiseg train -m unimatch -d voc -l 1/8 -p voc-r50 --add masked -s method.exact_bn=true"
        " -s train.scale=0.5,2.0 -s 'eval.window=a b'"
    )
    assert row.command == line
    assert shlex.split(line)[-1] == "eval.window=a b"
    assert row.flags == {
        "method.name": "unimatch", "data.name": "voc", "data.labeled": "1/8", "method.add": ("masked",)
    }  # fmt: skip


def test_a_method_without_tables_has_no_rows() -> None:
    assert table_rows("supervised") == []
