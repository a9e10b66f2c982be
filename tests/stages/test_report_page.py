"""Reports in a real browser: nothing is complained of or asked for, the slider works, every width has room."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from browser import Browser

from semiseg_cli.stages.report import report

WIDTHS = (360, 800, 1400)
CLIP = "getComputedStyle(document.querySelector('.over img')).clipPath"
SIDE_BY_SIDE = """(() => { const [a, b] = [...document.querySelectorAll('.case')[0].querySelectorAll('.layers img')]
    .map(image => image.getBoundingClientRect()); return b.left >= a.right || b.top >= a.bottom; })()"""
OUTSIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
LOST = """[...document.querySelectorAll('.scroll')].filter(each => each.scrollWidth > each.clientWidth)
    .map(each => `${each.ariaLabel}: ${each.scrollWidth} of ${each.clientWidth}`)"""
FACTS = ("Settings", "Labeled images", "Cost", "Environment")  # tables of a run that say what and how much
PAPER = 718  # pixels: A4 without the margins that Chromium gives it
DARK = "getComputedStyle(document.body).backgroundColor"


@pytest.mark.usefixtures("worst_images")
def test_a_run(browser: Browser, fake_run: Callable[..., Path]) -> None:
    page = Path(report([fake_run("one")])["page"])
    browser.size(1400)
    browser.open(page)
    assert browser.complaints() == []
    assert browser.requests() == [page.as_uri()]
    assert browser.reads("[...document.images].every(image => image.complete && image.naturalWidth > 0)")

    assert browser.reads(CLIP) == "inset(0px 50% 0px 0px)"
    assert not browser.reads(SIDE_BY_SIDE)
    browser.reads("document.querySelector('.slide input').focus()")
    for _ in range(3):
        browser.press("ArrowRight")
    assert browser.reads(CLIP) == "inset(0px 47% 0px 0px)"
    browser.press("End")
    assert browser.reads(CLIP) == "inset(0px 0% 0px 0px)"
    assert browser.reads("document.activeElement.labels[0].innerText").startswith("prediction")

    for width in WIDTHS:
        browser.size(width)
        assert browser.reads(OUTSIDE) <= 0, f"{width} px"
    light = browser.reads(DARK)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert (light, browser.reads(DARK)) == ("rgb(255, 255, 255)", "rgb(19, 24, 30)")
    browser.call("Emulation.setEmulatedMedia", media="print", features=[])
    assert browser.reads(SIDE_BY_SIDE)
    assert browser.complaints() == []


@pytest.mark.usefixtures("worst_images")
def test_without_javascript_photo_and_prediction_stand_side_by_side(
    browser: Browser, fake_run: Callable[..., Path]
) -> None:
    browser.call("Emulation.setEmulatedMedia", media="", features=[])
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.size(1400)
        browser.open(Path(report([fake_run("one")])["page"]))
        assert browser.reads(SIDE_BY_SIDE)
        assert browser.reads(CLIP) == "none"
        assert browser.reads("getComputedStyle(document.querySelector('.slide label')).display") == "none"
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_runs_side_by_side(browser: Browser, fake_run: Callable[..., Path]) -> None:
    kinds = [(name, seed) for name in ("supervised", "unimatch") for seed in (0, 1)]
    made = [fake_run(f"{name} {seed}", name, changes={"train.seed": seed}) for name, seed in kinds]
    page = Path(report(made)["page"])
    browser.open(page)
    assert browser.complaints() == []
    assert browser.requests() == [page.as_uri()]
    for width in WIDTHS:
        browser.size(width)
        assert browser.reads(OUTSIDE) <= 0, f"{width} px"


@pytest.mark.usefixtures("worst_images")
def test_settings_and_facts_of_a_run_need_no_scrolling(browser: Browser, fake_run: Callable[..., Path]) -> None:
    run = fake_run("one", changes={"model.weights": f"/{'folder/' * 8}weights.safetensors"})
    (run / "environment.json").write_text(json.dumps({"files": {"weights": {"file": "/w", "sha256": "a" * 64}}}))
    page = Path(report([run])["page"])
    browser.call("Emulation.setEmulatedMedia", media="", features=[])
    for width in (380, *WIDTHS):
        browser.size(width)
        browser.open(page)
        facts = [each for each in browser.reads(LOST) if each.startswith(FACTS)]
        assert facts == [], f"{width} px"
    assert browser.reads("[...document.querySelectorAll('pre')].every(each => each.scrollWidth <= each.clientWidth)")
    rows = browser.reads("[...document.querySelectorAll('#environment tr')].map(row => row.innerText)")
    assert rows[1:] == ["files, weights, file\t/w", f"files, weights, sha256\t{'a' * 64}"]


@pytest.mark.parametrize("count", [2, 16])
def test_nothing_is_cut_on_paper(count: int, browser: Browser, fake_run: Callable[..., Path]) -> None:
    """What is wider than the paper cannot be scrolled to."""
    made = [fake_run(f"a run of this name {k}", changes={"method.tau": 0.8 + k / 100}) for k in range(count)]
    page = Path(report(made)["page"])
    browser.call("Emulation.setEmulatedMedia", media="print", features=[])
    try:
        browser.size(PAPER)
        browser.open(page)
        assert browser.reads("document.querySelectorAll('.classes thead th').length") == count + 2
        assert browser.reads(LOST) == []
    finally:
        browser.call("Emulation.setEmulatedMedia", media="", features=[])
