"""What is read of files that somebody hands in: regular ones, bounded, and of the shape that is declared."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest

from semiseg_cli.core.reading import opened, parse_json, read_bytes, read_json, read_text, read_toml, regular, shaped
from semiseg_cli.core.settings import Range


class Inner(TypedDict, total=False):
    share: float


class Table(TypedDict):
    """The kinds of entries there are."""

    name: str
    size: Annotated[int, Range(1, 9)]
    colours: list[tuple[int, int, int]]
    best: float | None
    inner: NotRequired[Inner]
    counts: NotRequired[dict[str, int]]
    word: NotRequired[Literal["a", "b"]]
    good: NotRequired[bool]


GOOD: dict[str, Any] = {"name": "x", "size": 9, "colours": [[1, 2, 3], (4, 5, 6)], "best": None}


@pytest.mark.parametrize("change", [{}, {"best": 1}, {"inner": {"share": 1, "more": []}}, {"word": "b", "good": True}])
def test_what_is_of_the_declared_type_passes_as_it_is(change: dict[str, Any]) -> None:
    value = GOOD | change
    assert shaped(value, Table) is value


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": 3}, "name is '3', not text"), ({"name": None}, "name is 'None', not text"),
        ({"size": True}, "size is 'True', not a whole number"), ({"size": 1.5}, "size is '1.5', not a whole number"),
        ({"size": 10}, r"size is '10', not in \[1, 9\]"), ({"best": "1"}, "best is '1', not a number or nothing"),
        ({"best": False}, "best is 'False', not a number"), ({"colours": {}}, "colours is '{}', not a list"),
        ({"colours": [[1, 2]]}, r"colours\[0\] is '\[1, 2\]', not 3 values"),
        ({"colours": [[1, 2, 3], [1, 2, "x"]]}, r"colours\[1\]\[2\] is 'x', not a whole number"),
        ({"inner": {"share": "x"}}, "inner.share is 'x', not a number"), ({"inner": []}, "inner is .*, not a table"),
        ({"counts": {"a": 1, "b": []}}, r"counts.b is '\[\]', not a whole number"),
        ({"word": "c"}, "word is 'c', not a or b"), ({"good": 1}, "good is '1', not true or false"),
        ({"name": "x" * 999 + "\x1b[31m", "size": "y" * 999}, "size is 'y{60}', not a whole number"),
    ],
)  # fmt: skip
def test_what_is_not_is_named_with_its_place(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        shaped(GOOD | change, Table)


def test_what_lacks_is_named() -> None:
    with pytest.raises(ValueError, match=r"^it lacks 'best'"):
        shaped({key: GOOD[key] for key in ("name", "size", "colours")}, Table)
    with pytest.raises(ValueError, match=r"^it is '7', not a table"):
        shaped(7, Table)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 5000, "{", ""])
def test_no_text_breaks_a_parser(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text, Table)


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 100_000, "a = " + "{b = " * 50_000, "a = " + "1" * 5000, "[a", "a = \x00"]
)
def test_no_toml_does(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(ValueError, match=r"."):
        read_toml(tmp_path / "x.toml")


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    (file := tmp_path / "x").write_bytes(b"\xc3\xa9\r\n1")
    assert read_text(file) == "é\n1"
    assert read_bytes(file, most=5) == b"\xc3\xa9\r\n1"
    with pytest.raises(OSError, match="5 bytes, more than the 4"):
        read_bytes(file, most=4)
    file.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="utf-8"):
        read_json(file)


def test_what_is_added_while_it_is_read_is_left_out(tmp_path: Path) -> None:
    (file := tmp_path / "x").write_bytes(b"abc")
    with opened(file) as first, file.open("ab") as log:
        log.write(b"def")
        log.flush()
        assert first.read(3) == b"abc"


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """A pipe is not waited for, and a device that never ends is not begun."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name, said in (("pipe", "it is a pipe"), (".", "it is a folder"), ("link", "it is a device"), ("loop", "loop")):
        for read in (regular, read_bytes):
            with pytest.raises(OSError, match=rf"(?i){said}|Is a directory|Too many levels"):
                read(tmp_path / name)
    with pytest.raises(OSError, match="No such file"):
        read_bytes(tmp_path / "none")


@pytest.mark.parametrize("text", ["1979-05-27", "07:32:00", "1979-05-27T07:32:00Z"])
def test_a_date_has_no_place_in_a_table(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(f"[pixels]\nsky = [1, {text}]\n")
    with pytest.raises(ValueError, match=r"pixels\.sky\.1 is .*, not text or a number"):
        read_toml(path)


def test_numbers_that_nothing_can_hold(tmp_path: Path) -> None:
    (path := tmp_path / "a.toml").write_text(f"[train]\nsteps = 0x{'f' * 5000}\n")
    with pytest.raises(ValueError, match=r"train\.steps is '0xfff.*, not a number of 64 bits"):
        read_toml(path)
    with pytest.raises(ValueError, match="a number of 400 digits"):
        parse_json(f'{{"a": {"1" * 400}}}')
    with pytest.raises(ValueError, match=r"a is '0x.*, not a whole number"):
        parse_json(f'{{"a": {2**63}}}', dict[str, int])
    assert parse_json(f'{{"a": {2**63}}}') == {"a": 2**63}  # an id may be long


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path, coding: str) -> None:
    """As Windows' Notepad and PowerShell write one."""
    (tmp_path / "a.toml").write_bytes('name = "Größe"\r\n'.encode(coding))
    (tmp_path / "a.json").write_bytes('{"name": "Größe"}'.encode(coding))
    assert read_toml(tmp_path / "a.toml") == read_json(tmp_path / "a.json") == {"name": "Größe"}
