"""Values of every type a setting may have, from text and from TOML; and the words for what is allowed."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated as Doc
from typing import Any, Literal

import pytest

from semiseg_cli.core.config.coerce import coerce, describe, spelled
from semiseg_cli.core.config.names import SECTIONS
from semiseg_cli.core.methods import METHODS, load_method
from semiseg_cli.core.settings import Count, Positive, Probability, doc, hints


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        ("5e-4", float, 5e-4),
        ("2/3", float, 2 / 3),
        (1, float, 1.0),
        ("1e4", int, 10000),
        (" 12 ", int, 12),
        ("-3", int, -3),
        (10**20, int, 10**20),
        ("Yes", bool, True),
        ("off", bool, False),
        (183, str, "183"),
        ("0.5,2", tuple[float, float], (0.5, 2.0)),
        ("[0.5, 2.0]", tuple[float, float], (0.5, 2.0)),
        ("(1,)", tuple[int, ...], (1,)),
        ("", tuple[int, ...], ()),
        ([1, 2], tuple[float, ...], (1.0, 2.0)),
        ("8", Literal[8, 16], 8),
        (16, Literal[8, 16], 16),
        ("2", Doc[int, "a number"], 2),
    ],
    ids=str,
)
def test_coercion(value: Any, annotation: Any, expected: Any) -> None:
    found = coerce(value, annotation)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ("2.5", int), ("1/3", int), ("", int), (True, int), ("x", float), ("", float), ("1/0", float), ("nan", float),
        (10**400, float), (float("inf"), float), (False, float), ([1], float), ("maybe", bool), (2, bool), ("", bool),
        (0.5, str), (True, str), ([], str), ("4", Literal[8, 16]), ("SGD", Literal["sgd"]), ("1", tuple[int, int]),
        ("1,2,3", tuple[int, int]), (3, tuple[int, ...]), ("1,,2", tuple[int, ...]), ({}, tuple[int, ...]),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_fit(value: Any, annotation: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011, the caller says what would fit
        coerce(value, annotation)


@pytest.mark.parametrize(
    ("annotation", "words", "type_"),
    [
        (Doc[float, "words"], "a number", "float"),
        (Doc[Probability, "words"], "a number in [0, 1]", "float in [0, 1]"),
        (Doc[Count, "words"], "a whole number, 1 or more", "int >= 1"),
        (Doc[bool, "words"], "true or false", "bool"),
        (Doc[str, "words"], "text", "str"),
        (Doc[Literal["a", "b"], "words"], "a or b", "a | b"),
        (
            Doc[tuple[Positive, Positive], "words"],
            "2 values joined by commas, each a number, more than 0",
            "tuple[float > 0, float > 0]",
        ),
        (Doc[tuple[int, ...], "words"], "a whole number: any number of them joined by commas", "tuple[int, ...]"),
    ],
    ids=str,
)
def test_words_for_what_is_allowed(annotation: Any, words: str, type_: str) -> None:
    assert describe(annotation) == words
    assert spelled(annotation) == type_


def test_every_setting_has_words_and_a_type_that_can_be_typed() -> None:
    for name in METHODS:
        for section, cls in {**SECTIONS, "method": load_method(name).Settings}.items():
            for field in fields(cls):
                hint = hints(cls)[field.name]
                assert doc(cls, field.name), f"{section}.{field.name} has no words"
                assert describe(hint)
                assert coerce(field.default, hint) == field.default
