"""Text of any script: drawn by a font that has it, or told of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from semiseg_cli.core.viz import fonts
from semiseg_cli.core.viz.fonts import cut, lacks, width_of, wrapped, write

CHINESE, ARABIC, GREEK = "\u5929\u7a7a", "\u0633\u0645\u0627\u0621", "\u03bf\u03c5\u03c1"
DEJAVU = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A machine whose fonts the test says."""
    def forget() -> None:
        for each in (fonts._files, fonts._parts, fonts._has):
            each.cache_clear()

    forget()
    monkeypatch.setattr(fonts, "folders", list)
    yield monkeypatch
    monkeypatch.undo()
    forget()


def ink(text: str, width: int = 300) -> np.ndarray:
    image = Image.new("L", (width, 40), 255)
    write(ImageDraw.Draw(image), (4, 4), text, 20, 0, width - 8)  # type: ignore[arg-type]
    return np.asarray(image)


@pytest.mark.usefixtures("only")
def test_what_no_font_has_is_a_question_mark_and_never_a_box() -> None:
    assert not lacks("sky, 95 %")
    for text in (CHINESE, "a\udc80", "a\nb", "\U0001f697", "\U0010fffe"):
        assert lacks(text)
    assert (ink(f"a {CHINESE}") == ink("a ??")).all()
    assert (ink("a\nb") == ink("a?b")).all()


@pytest.mark.skipif(not DEJAVU.is_file(), reason="DejaVu Sans is not installed")
def test_a_font_of_the_machine_is_taken_for_letters_that_pillows_lacks(only: pytest.MonkeyPatch) -> None:
    only.setattr(fonts, "folders", lambda: [DEJAVU.parent])
    assert not lacks(GREEK)
    assert fonts._parts(GREEK) == ((str(DEJAVU), GREEK),)
    assert width_of(GREEK, 20) == ImageFont.truetype(str(DEJAVU), 20).getlength(GREEK)
    assert fonts._parts("sky") == ((fonts.OWN, "sky"),)
    assert fonts._parts(f"{GREEK} {CHINESE}") == ((str(DEJAVU), f"{GREEK} "), (None, CHINESE))
    assert not (ink(GREEK) == ink("???")).all()


@pytest.mark.skipif(not DEJAVU.is_file(), reason="DejaVu Sans is not installed")
def test_a_script_whose_letters_join_is_not_drawn_apart(only: pytest.MonkeyPatch) -> None:
    only.setattr(fonts, "folders", lambda: [DEJAVU.parent])
    only.setattr(fonts, "_shapes", lambda: False)
    assert lacks(ARABIC)
    fonts._parts.cache_clear()
    fonts._has.cache_clear()
    only.setattr(fonts, "_shapes", lambda: True)
    assert not lacks(ARABIC)


def test_what_is_too_wide_is_cut_in_its_middle() -> None:
    text = "a rather long name of a class"
    assert cut(text, 14, 1000) == text
    short = cut(text, 14, 100)
    assert width_of(short, 14) <= 100
    assert short.startswith("a ra")
    assert short.endswith("lass")
    assert "..." in short
    assert cut("abcdefgh", 14, 0) == "a...gh"


def test_lines_are_of_whole_words() -> None:
    text = "one two three four five six seven"
    lines = wrapped(text, 14, 90)
    assert " ".join(lines) == text
    assert all(width_of(line, 14) <= 90 for line in lines)
    assert wrapped("", 14, 90) == [""]
