"""No word of a command line is lost: options of one value that are given two, and words that belong to nothing."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from typer import rich_utils

from semiseg_cli import cli

FOLDER = ["prepare", "folder", "--labeled", "photos", "--classes", "c.txt", "--masks", "one"]


def _refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(words) != 0
    return capsys.readouterr().err


def test_two_values_of_an_option_are_refused_with_both(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    told = _refused([*FOLDER, "--masks=two more", "--root", str(tmp_path)], capsys)
    assert "--masks is given 2 times: one and two more" in told
    assert "try: keep one: --masks one, or --masks 'two more'" in told
    assert not list(tmp_path.iterdir())


def test_the_same_value_twice_flags_and_options_of_several_are_no_fault(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = ["--runs-root", str(tmp_path)]
    assert cli.main(["runs", *root, *root, "--json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["command"] == "runs"
    told = _refused([*FOLDER, "--map", "7=1", "--map", "8=1"], capsys)
    assert "times" not in told
    assert "c.txt is not a classes file" in told


def test_words_after_a_value_are_told_with_a_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    told = _refused([*FOLDER, "two"], capsys)
    assert "--masks takes one value, and one is followed by two" in told
    assert "--masks 'one two' if this is one name with spaces; else --masks one alone" in told
    told = _refused([*FOLDER, "--map", "7=1", "8=1"], capsys)
    assert "else --map 7=1 --map 8=1 for several" in told
    assert "semiseg presets does not understand: a b" in _refused(["presets", "small", "a", "b"], capsys)


@pytest.mark.parametrize("name", ["check", "predict", "probe"])
def test_paragraphs_of_the_help_are_as_wide_as_the_terminal(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line ends where the next word would have fitted."""
    monkeypatch.setattr(rich_utils, "MAX_WIDTH", 80)
    with pytest.raises(SystemExit):
        cli.app([name, "--help"])
    lines = [line.strip() for line in capsys.readouterr().out.split("╭")[0].splitlines()]
    assert len(lines) > 5
    assert all(len(line) + 1 + len(after.split()[0]) > 78 for line, after in pairwise(lines) if line and after)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([*FOLDER, "--unlabeled", ""], "--unlabeled is given an empty word"),
        ([*FOLDER, "--unlabeled="], "--unlabeled is given an empty word"),
        (["predict", "run", ""], "semiseg predict is given an empty word"),
    ],
)
def test_an_empty_word_is_no_path(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As `"$MORE"` is one where nobody has set MORE: it would be the working directory."""
    assert told in _refused(words, capsys)
