"""Ranges that stand in the types of settings: what lies in them, how they are told, and who checks them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated as Doc
from typing import Any

import pytest

from semiseg_cli.core.settings import (
    BadSetting,
    BaseSettings,
    Below1,
    Count,
    Positive,
    Probability,
    Range,
    TrainConfig,
    doc,
    limits,
    require,
)


@pytest.mark.parametrize(
    ("numbers", "inside", "outside", "words", "signs"),
    [
        (Range(0, 1), (0, 0.5, 1), (-1e-9, 1.001), "in [0, 1]", "in [0, 1]"),
        (Range(0, 1, open=")"), (0, 0.999), (1, -0.1), "in [0, 1)", "in [0, 1)"),
        (Range(0, 0.5, open="("), (1e-9, 0.5), (0, 0.51), "in (0, 0.5]", "in (0, 0.5]"),
        (Range(0, 1, open="()"), (0.5,), (0, 1), "in (0, 1)", "in (0, 1)"),
        (Range(1), (1, 10**9), (0, 0.99), "1 or more", ">= 1"),
        (Range(0, open="("), (1e-9, 7), (0, -1), "more than 0", "> 0"),
    ],
    ids=str,
)
def test_a_range(numbers: Range, inside: tuple[float, ...], outside: tuple[float, ...], words: str, signs: str) -> None:
    assert all(number in numbers for number in inside)
    assert not any(number in numbers for number in outside)
    assert (str(numbers), numbers.signs) == (words, signs)


@dataclass(frozen=True, kw_only=True)
class Settings(BaseSettings):
    tau: Doc[Probability, "threshold"] = 0.95
    side: Doc[int, Range(32, 64), "side"] = 32
    rates: Doc[tuple[Positive, ...], "rates"] = (1.0, 2.0)
    heads: Doc[Count, "heads"] = 1
    name: Doc[str, "no number"] = ""


@dataclass(frozen=True, kw_only=True)
class Own(Settings):
    section = "masked"

    decay: Doc[Below1, "of the teacher"] = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.decay != self.tau, f"{self.section}.decay", self.decay, "another than tau")


@pytest.mark.parametrize(
    ("cls", "setting", "value", "message"),
    [
        (Settings, "tau", 1.5, "method.tau = 1.5 is not possible: it must be in [0, 1]"),
        (Settings, "side", 65, "method.side = 65 is not possible: it must be in [32, 64]"),
        (Settings, "rates", (1.0, 0.0), "method.rates = (1.0, 0.0) is not possible: it must be more than 0 each"),
        (Settings, "heads", 0, "method.heads = 0 is not possible: it must be 1 or more"),
        (Own, "tau", -1, "masked.tau = -1 is not possible: it must be in [0, 1]"),
        (Own, "decay", 1, "masked.decay = 1 is not possible: it must be in [0, 1)"),
        (Own, "decay", 0.95, "masked.decay = 0.95 is not possible: it must be another than tau"),
    ],
    ids=str,
)
def test_a_number_out_of_its_range_is_refused_on_creation(cls: Any, setting: str, value: Any, message: str) -> None:
    with pytest.raises(BadSetting) as caught:
        cls(**{setting: value})
    assert caught.value.what == message
    assert caught.value.setting == f"{cls.section}.{setting}"


def test_what_is_in_range_is_taken_as_it_is() -> None:
    own = Own(tau=1, side=64, rates=(), decay=0, name="any")
    assert (own.tau, own.side, own.rates, own.decay) == (1, 64, (), 0)


def test_a_setting_of_a_run_is_explained_with_its_range() -> None:
    assert doc(TrainConfig, "steps") == "optimiser steps; 0: as many as train.epochs are (0 or more)"
    assert doc(TrainConfig, "optimizer") == "optimiser"


def test_the_words_of_a_setting_end_with_its_range() -> None:
    assert doc(Own, "side") == "side (in [32, 64])"
    assert doc(Own, "rates") == "rates (more than 0 each)"
    assert doc(Own, "name") == "no number"


def test_a_narrower_range_comes_on_top() -> None:
    assert limits(Doc[Probability, Range(0.5), "words"]) == "in [0, 1] and 0.5 or more"
