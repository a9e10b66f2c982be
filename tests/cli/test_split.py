"""`semiseg split` as typed."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from rich.console import Console

from semiseg_cli.cli import console, main
from semiseg_cli.cli.split import split
from semiseg_cli.core.data.index import load_dataset, write_dataset
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.core.partitions.protocols import published
from semiseg_cli.core.partitions.splits import resolve_partition

DONE = {"run": "r", "method": "m", "partition": "p", "steps": 1, "seconds": 1.0, "last": None, "best": None}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "street"
    train = [
        Record(f"{i}", folder / f"{i}.jpg", folder / f"{i}.png", 10, 10, (50, 50 * (i % 3 == 0), 0)) for i in range(16)
    ]
    train += [Record("pool", folder / "pool.jpg", None, 10, 10)]
    write_dataset(Dataset("street", "folder", folder, ("road", "car", "ufo"), ((0, 0, 0),) * 3, tuple(train), ()), {})
    return tmp_path


@pytest.fixture
def run(root, capsys):
    app = typer.Typer()
    app.command()(split)

    def typed(*words):
        console.state = console.State()
        app(args=[*words, "--root", str(root)], standalone_mode=False)
        return capsys.readouterr()

    return typed


@pytest.mark.parametrize("words", [["-l", "1/4"], ["-l", "5", "--seed", "3", "--balance", "random"]])
def test_what_follows_trains_on_the_partition_that_was_drawn(run, root, monkeypatch, words):
    import semiseg_cli.stages.train as stage

    asked = {}
    monkeypatch.setattr(stage, "train", lambda resolved, **more: asked.update(more, config=resolved.config) or DONE)
    drawn = json.loads(run(*words, "--json")[0])["result"]["fingerprint"]
    line = next(line for line in run(*words)[1].splitlines() if line.startswith("next: semiseg "))
    assert main(shlex.split(line.removeprefix("next: semiseg "))) == 0
    data = asked["config"].data
    found = resolve_partition(
        load_dataset(asked["data_root"], data.name), data.labeled, balance=data.balance, seed=asked["config"].split_seed
    )
    assert found.fingerprint == drawn


@pytest.mark.parametrize("at_hand", [False, True])
def test_one_line_follows_and_means_what_was_drawn_though_another_list_has_its_size(run, root, at_hand):
    if at_hand:
        (root / "street/splits/4").mkdir(parents=True)
        (root / "street/splits/4/labeled.txt").write_text("0\n1\n2\n3\n")
    drawn = json.loads(run("-l", "4", "--balance", "random", "--json")[0])["result"]["fingerprint"]
    [line] = [line for line in run("-l", "4", "--balance", "random")[1].splitlines() if line.startswith("next: ")]
    own = "4-random-s0" if at_hand else "4 -s data.balance=random"
    assert line == f"next: semiseg train -d street -l {own} --root {root}"
    assert resolve_partition(load_dataset(root, "street"), "4-random-s0").fingerprint == drawn


def test_a_partition_is_drawn_written_and_counted(run, root):
    out, err = run("-l", "1/4", "--seed", "3")
    folder = root / "street/splits/4-classes-s3"
    partition = resolve_partition(load_dataset(root, "street"), "4", seed=3)
    assert (folder / "labeled.txt").read_text().split() == [record.id for record in partition.labeled]
    assert (folder / "unlabeled.txt").read_text().split() == [record.id for record in partition.unlabeled]
    assert "street: own partition, seed 3, 4 of 16 (classes); 13 unlabeled" in out
    assert str(folder) in out.replace("\n", "")
    assert "class 'ufo' is in none of the labeled images" in err
    result = json.loads(run("-l", "4", "--seed", "3", "--json")[0])["result"]
    assert result["fingerprint"] == partition.fingerprint
    assert result["classes"]["road"] == {"images": 4, "pixels": 200}
    assert os.listdir(folder.parent) == ["4-classes-s3"]  # a count and a fraction of the same size are the same


def test_the_lists_are_the_partition(run, root):
    result = json.loads(run("-l", "5", "--balance", "random", "--json")[0])["result"]
    read = resolve_partition(load_dataset(root, "street"), str(Path(result["folder"])))
    assert read.fingerprint == result["fingerprint"]


def test_list(run):
    assert "no partition drawn yet" in run("--list")[0]
    run("-l", "4")
    run("street", "-l", "8", "--balance", "random", "--seed", "2")
    out, _ = run("--list")
    assert "4-classes-s0" in out
    rows = json.loads(run("--list", "--json")[0])["result"]
    assert [(row["data"], row["partition"], row["labeled"], row["unlabeled"]) for row in rows] == [
        ("street", "4-classes-s0", 4, 13),
        ("street", "8-random-s2", 8, 9),
    ]


def test_words_to_be_typed_are_whole_on_a_narrow_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(console, "stdout", lambda: Console(width=80))
    assert main(["split", "cityscapes", "--list", "--root", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert all(each.words in out for each in published("cityscapes"))


def test_more_than_there_are(run, root):
    with pytest.raises(DataError, match="has 16"):
        run("-l", "17")
    assert not (root / "street/splits").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "one of"),
        (["--list", "-l", "4"], "one of"),
        (["--list", "--import", "lists"], "one of"),
        (["--list", "--url", "x"], "goes with --fetch"),
        (["-l", "4", "--protocol", "classic"], "no protocol 'classic'"),
        (["--protocol", "classic"], "no protocol 'classic'"),
        (["--protocol", "classic", "--seed", "2"], "seeds and samplers of their own"),
        (["--list", "--seed", "1"], "nothing is drawn here"),
        (["--import", "lists", "--balance", "random"], "nothing is drawn here"),
        (["--fetch", "unimach"], "no 'unimach' to fetch"),
        (["-l", "list.txt"], "neither a count, a fraction, nor"),
        (["-l", "4", "--balance", "x"], "there is no balance"),
    ],
)
def test_words_without_a_meaning(run, words, message):
    with pytest.raises(UsageError, match=message):
        run(*words)


def test_a_warning_is_told_in_plain_words(root, tmp_path, capsys):
    lists = tmp_path / "few"
    lists.mkdir()
    (lists / "labeled.txt").write_text("1\n2\n2\n")
    assert main(["split", "--import", str(lists), "--root", str(root)]) == 0
    out, err = capsys.readouterr()
    assert "imported/few" in out
    assert f"warning: {lists / 'labeled.txt'} names 1 image more than once" in err.splitlines()
    assert f"next: semiseg train -d street -l imported/few --root {root}" in err.splitlines()


def test_drawing_importing_and_listing_without_torch(root):
    code = f"import sys\nfrom semiseg_cli.cli import main\nmain({['split', '--list', '--root', str(root)]!r})\n"
    line = [sys.executable, "-c", f"{code}print('torch' in sys.modules)"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
