"""How messages name some of many."""

from __future__ import annotations

import pytest

from semiseg_cli.core.errors import few, few_lines


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, ""), (1, "0"), (5, "0, 1, 2, 3, 4"), (6, "0, 1, 2, 3, 4 and 1 more"),
        (2005, "0, 1, 2, 3, 4 and 2,000 more"),
    ],
)  # fmt: skip
def test_the_first_of_many(count: int, said: str) -> None:
    assert few(range(count)) == said


def test_the_first_of_many_lines() -> None:
    lines = list("abc")
    assert few_lines(lines, 3) == "a\nb\nc"
    assert few_lines(lines, 2) == "a\nb\n... and 1 more"
