"""What is found around a folder: by name, the nearest first, never deep, and each thing once."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from semiseg_cli.core.sources import around
from semiseg_cli.core.sources.around import Sought, look_around

MARK = Sought(lambda folder, names: "mark" in names, re.compile(r"it\.tar"))


def marked(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mark").touch()
    return folder


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "around" / "here"
    folder.mkdir(parents=True)
    return folder


def test_the_nearest_comes_first(here: Path) -> None:
    beside, deep, near = marked(here.parent / "b" / "c"), marked(here / "x" / "y"), marked(here / "z")
    assert look_around(here, MARK).folders == (near, deep, beside)
    assert look_around(here, MARK, beside.parent).folders == (beside, near, deep)


def test_seen_from_the_working_directory(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marked(here), marked(here / "a"), marked(here.parent / "b")
    monkeypatch.chdir(here)
    assert look_around(Path(), MARK).folders == (Path(), Path("a"), Path("../b"))


def test_archives_are_files(here: Path) -> None:
    (here / "it.tar").touch()
    (here / "sub" / "it.tar").mkdir(parents=True)
    (here / "it.tar.part").touch()
    assert look_around(here, MARK).archives == (here / "it.tar",)


def test_what_is_hidden_prepared_too_deep_or_a_way_round_is_passed_over(here: Path) -> None:
    marked(here / ".hidden")
    marked(here / "unpacked" / "x")
    (marked(here / "run" / "a").parent / "config.toml").touch()
    (marked(here / "data" / "voc" / "a").parent / "dataset.toml").touch()
    marked(here / "p" / "q" / "r" / "s" / "t")
    found = marked(here / "1" / "2" / "3" / "4")
    os.symlink(found, here / "link")
    os.symlink(here, here / "1" / "loop")
    assert [path.resolve() for path in look_around(here, MARK).folders] == [found]


def test_the_search_ends(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        marked(here / f"{number:02}")
    monkeypatch.setattr(around, "MOST", 5)
    assert len(look_around(here, MARK).folders) == 4


def test_what_lies_in_the_taken_or_around_it_is_not_another(here: Path) -> None:
    taken = marked(here / "a" / "b")
    others = [marked(here / "a"), marked(taken / "c"), marked(here / "d")]
    assert look_around(here, MARK).but(taken) == [others[2]]
