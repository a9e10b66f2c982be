"""`semiseg report` as typed: which runs are meant, where the page goes, what is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from semiseg_cli.cli import main


@pytest.mark.usefixtures("worst_images")
def test_the_newest_run_or_those_named(
    fake_run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fake_run("runs/one")
    assert main(["report", "--runs-root", str(tmp_path / "runs")]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [str(run / "report.html")]
    assert f"the newest run: {run}" in said.err

    other = fake_run("runs/two", "supervised")
    (other / "last.safetensors").touch()
    out = tmp_path / "page.html"
    assert main(["report", str(run), str(other / "last.safetensors"), "-o", str(tmp_path / "page"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["result"]
    assert found == {"page": str(out), "runs": [str(run), str(other)], "bytes": out.stat().st_size}


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "there is no run in" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "absent")]) == 5
