"""`LabelMap`: byte masks go through a table, others through a search, to the same end."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from semiseg_cli.core.sources.cityscapes import TRANSLATIONS
from semiseg_cli.core.sources.classes import Classes, LabelMap, colour_code, declared, label_map
from semiseg_cli.core.sources.voc import MASKS

OWN = label_map(Classes(("a", "b"), ((1, 2, 3), (4, 5, 6))), 7, {300: 1, 255: 0})


@given(
    st.sampled_from([MASKS, OWN, *TRANSLATIONS.values()]),
    st.lists(st.one_of(st.integers(0, 40), st.integers(250, 256), st.just(300), st.just(colour_code((1, 2, 3))))),
)
def test_each_code_becomes_its_class(translate: LabelMap, codes: list[int]) -> None:
    known = dict(zip(translate.known.tolist(), translate.value.tolist(), strict=True))
    mask, strange = translate(np.array([[0, *codes]], np.int32))
    assert mask.dtype == np.uint8
    assert [value for value, code in zip(mask[0, 1:].tolist(), codes, strict=True) if code in known] == [
        known[code] for code in codes if code in known
    ]
    assert strange == {code: [0, *codes].count(code) for code in {0, *codes} - known.keys()}


def test_a_benchmarks_codes_are_those_that_it_declares() -> None:
    road = colour_code((128, 64, 128))
    translate = declared({7: 0, road: 1, 9: -1, 10: 2}, classes=2)
    mask, strange = translate(np.array([[7, road, 9, 10]], np.int32))
    assert mask.tolist() == [[0, 1, 255, 255]]
    assert not strange
    assert translate(np.array([[7, 0, 1, 1, 255]], np.int32))[1] == {0: 1, 1: 2, 255: 1}
    assert translate(np.array([[7, colour_code((1, 2, 3))]], np.int32))[1] == {colour_code((1, 2, 3)): 1}
