"""Codes of mask pixels, how they are written, and `LabelMap`: bytes by a table, others by a search, to the same end."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semiseg_cli.core.sources.cityscapes import TRANSLATIONS
from semiseg_cli.core.sources.classes import Classes
from semiseg_cli.core.sources.codes import (
    COLOUR,
    NOT_A_NUMBER,
    TRANSPARENT,
    LabelMap,
    code_name,
    colour_code,
    declared,
    parse_codes,
    saved_as_colour,
)
from semiseg_cli.core.sources.told import Told, tabulate
from semiseg_cli.core.sources.voc import MASKS

OWN = tabulate(Classes(("a", "b"), ((1, 2, 3), (4, 5, 6))), Told(ignore=7, map={300: 1, 255: 0})).label_map


@given(
    st.sampled_from([MASKS, OWN, *TRANSLATIONS.values()]),
    st.lists(st.one_of(st.integers(0, 40), st.integers(250, 256), st.just(300), st.just(colour_code((1, 2, 3))))),
)
def test_each_code_becomes_its_class(translate: LabelMap, codes: list[int]) -> None:
    known = dict(zip(translate.known.tolist(), translate.value.tolist(), strict=True))
    mask, strange = translate(np.array([[0, *codes]], np.int64))
    if max(codes, default=0) < 256:
        assert translate(np.array([[0, *codes]], np.uint8))[0].tolist() == mask.tolist()
    assert mask.dtype == np.uint8
    assert [value for value, code in zip(mask[0, 1:].tolist(), codes, strict=True) if code in known] == [
        known[code] for code in codes if code in known
    ]
    assert strange == {code: [0, *codes].count(code) for code in {0, *codes} - known.keys()}


def test_a_benchmarks_codes_are_those_that_it_declares() -> None:
    road = colour_code((128, 64, 128))
    translate = declared({7: 0, road: 1, 9: -1, 10: 2}, classes=2)
    mask, strange = translate(np.array([[7, road, 9, 10]], np.int64))
    assert mask.tolist() == [[0, 1, 255, 255]]
    assert not strange
    assert translate(np.array([[7, 0, 1, 1, 255]], np.int64))[1] == {0: 1, 1: 2, 255: 1}
    assert translate(np.array([[7, colour_code((1, 2, 3))]], np.int64))[1] == {colour_code((1, 2, 3)): 1}


@pytest.mark.parametrize(
    ("word", "codes"),
    [
        ("7", [7]),
        ("-9999", [-9999]),
        ("4-7", [4, 5, 6, 7]),
        ("-2-0", [-2, -1, 0]),
        ("#804000", [COLOUR | 0x804000]),
        ("nan", [NOT_A_NUMBER]),
        ("transparent", [TRANSPARENT]),
        ("0.5", [0.5]),
        ("0.1", [float(np.float32(0.1))]),
        ("70000", [70000]),
    ],
)
def test_a_code_is_read_as_it_is_written(word, codes):
    assert list(parse_codes(word)) == codes
    if len(codes) == 1:
        assert code_name(codes[0]) == word


@pytest.mark.parametrize("word", ["", "a", "#80400", "7-4", "0-99999999", "#gggggg", "1,2"])
def test_a_code_that_is_none(word):
    with pytest.raises(ValueError, match=r"\w"):
        list(parse_codes(word))


def test_indices_saved_as_rgb_are_grey_colours():
    assert saved_as_colour({3: 1, 300: 2}) == {3: 1, 300: 2, COLOUR | 0x030303: 1}
