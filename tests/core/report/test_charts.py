"""Charts: where their points lie, which numbers stand at their axes, what is left out."""

from __future__ import annotations

import math
import re
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semiseg_cli.core.report import charts
from semiseg_cli.core.report.charts import BOTTOM, DOTS, LEFT, MOST, RIGHT, TOP, Series, lines, shares, thinned, ticks


def places(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path)]


def test_points_lie_between_the_axes_in_proportion() -> None:
    chart = lines("m", "mIoU", [Series("a", [(50, 0.0), (100, 50.0), (200, 100.0)])], unit=" %", zero=True)
    assert chart is not None
    assert places(chart.marks[0].path) == [
        pytest.approx(point, abs=0.06)
        for point in ((LEFT + (RIGHT - LEFT) / 4, BOTTOM), ((LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2), (RIGHT, TOP))
    ]
    assert [tick.label for tick in chart.y_ticks] == ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]
    assert [tick.label for tick in chart.x_ticks] == ["0", "50", "100", "150", "200"]
    assert chart.summary == "a: from 0 % to 100 %"
    assert chart.rows == [["50", "0 %"], ["100", "50 %"], ["200", "100 %"]]


def test_a_loss_that_falls_far_is_shown_by_factors() -> None:
    chart = lines("l", "Loss", [Series("a", [(0, 10.0), (1, 1.0), (2, 0.1)])])
    assert chart is not None
    assert [tick.label for tick in chart.y_ticks] == ["0.1", "0.3", "1", "3", "10"]
    heights = [y for _, y in places(chart.marks[0].path)]
    assert heights == pytest.approx([TOP, (TOP + BOTTOM) / 2, BOTTOM], abs=0.06)


def test_what_is_not_finite_is_left_out_and_nothing_is_no_chart() -> None:
    broken = [(1, math.nan), (2, math.inf), (3, 4.0)]
    chart = lines("l", "Loss", [Series("a", broken), Series("b", [(1, math.nan)])])
    assert chart is not None
    assert [mark.label for mark in chart.marks] == ["a"]
    assert chart.rows == [["3", "4"]]
    assert lines("l", "Loss", [Series("a", [(1, math.nan)])]) is None
    assert lines("l", "Loss", []) is None
    assert shares("s", "Shares", [], "") is None
    assert shares("s", "Shares", [Series("a", [(1, 0.0)])], "") is None


def test_a_long_line_is_averaged_and_shows_no_dots() -> None:
    points = [(step, float(step % 2)) for step in range(10 * MOST)]
    thin = thinned(points)
    assert len(thin) == MOST
    assert {y for _, y in thin} == {0.5}
    assert thin[-1][0] == points[-1][0]
    long, short = lines("l", "Loss", [Series("a", points)]), lines("l", "Loss", [Series("a", points[:DOTS])])
    assert long is not None
    assert short is not None
    assert (len(long.marks[0].dots), len(short.marks[0].dots)) == (0, DOTS)
    assert len(long.rows) <= 12


def test_lines_of_one_name_are_one_entry_of_the_legend() -> None:
    chart = lines("l", "Loss", [Series("a", [(1, 1.0)]), Series("a", [(1, 2.0)]), Series("b", [(1, 3.0)], 19)])
    assert chart is not None
    assert (len(chart.marks), [mark.label for mark in chart.legend]) == (3, ["a", "b"])
    assert chart.marks[2].style == 3  # of sixteen


def test_what_is_zero_all_the_time_has_an_axis_above_it() -> None:
    for zero in (False, True):
        chart = lines("k", "Kept", [Series("a", [(1, 0.0), (2, 0.0)])], unit=" %", zero=zero)
        assert chart is not None
        assert (chart.y_ticks[0].label, chart.y_ticks[-1].label) == ("0 %", "1 %")
        assert {y for _, y in places(chart.marks[0].path)} == {BOTTOM}


def test_no_two_styles_look_alike() -> None:
    """By colour and dash, as the style sheet gives them; dots have the colour."""
    sheet = (files("semiseg_cli") / "core/report/templates/report.css").read_text("utf-8")
    looks = dict.fromkeys(range(charts.STYLES), ("", ""))
    for names, body in re.findall(r"((?:\.l\d+,? ?)+)\{([^}]*)\}", sheet):
        colour, dash = re.search(r"stroke: ([^;]+);", body), re.search(r"stroke-dasharray: ([^;]+);", body)
        for number in map(int, re.findall(r"\d+", names)):
            had = looks[number]
            looks[number] = (colour[1] if colour else had[0], dash[1] if dash else had[1])
    assert all(colour for colour, _ in looks.values())
    assert len({*looks.values()}) == charts.STYLES


def test_shares_fill_every_column() -> None:
    chart = shares("s", "Shares", [Series("a", [(10, 0.3), (20, 0.0)]), Series("b", [(10, 0.1), (20, 0.0)])], "said")
    assert chart is not None
    assert [tick.label for tick in chart.y_ticks] == ["0 %", "25 %", "50 %", "75 %", "100 %"]
    first, second = chart.marks
    bottom, top = (re.fullmatch(r"M([\d.]+) ([\d.]+)V([\d.]+)H([\d.]+)V[\d.]+Z", mark.path) for mark in (first, second))
    assert bottom is not None  # the second column holds nothing
    assert top is not None
    border = BOTTOM - 0.75 * (BOTTOM - TOP)
    assert [float(bottom[2]), float(bottom[3]), float(top[2]), float(top[3])] == pytest.approx(
        [BOTTOM, border, border, TOP], abs=0.06
    )
    assert (float(bottom[1]), float(bottom[4])) == (LEFT, (LEFT + RIGHT) / 2)
    assert chart.rows[0] == ["10", "30 %", "10 %"]


@given(low=st.floats(-1e6, 1e6), span=st.floats(0, 1e6))
def test_ticks_hold_all_values(low: float, span: float) -> None:
    found = ticks(low, low + span)
    slack = 1e-6 * max(abs(low), abs(low + span), 1)
    assert found[0] <= low + slack
    assert found[-1] >= low + span - slack
    assert 2 <= len(found) <= 13
    assert found == sorted(set(found))
