"""Commands that are printed: quoted, and with the folders that would else be others."""

from __future__ import annotations

from pathlib import Path

import pytest

from semiseg_cli.core.commands import command
from semiseg_cli.core.files import resuming


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SEMISEG_DATA", "SEMISEG_RUNS"):
        monkeypatch.delenv(name, raising=False)


def test_words_are_quoted() -> None:
    assert command("eval", Path("runs/a b")) == "semiseg eval 'runs/a b'"


@pytest.mark.parametrize(("named", "said"), [("data", ""), ("there/data", " --root there/data")])
def test_a_data_root_is_named_where_it_is_not_the_default(named: str, said: str) -> None:
    assert command("check", "voc", root=Path(named)) == f"semiseg check voc{said}"
    assert command("check", "voc", root=Path(named).absolute()).count("--root") == bool(said)


def test_the_environment_decides_what_the_default_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEMISEG_DATA", str(tmp_path))
    monkeypatch.setenv("SEMISEG_RUNS", "elsewhere")
    assert command("check", root=tmp_path) == "semiseg check"
    assert command("check", root=Path("data")) == "semiseg check --root data"
    assert command("runs", runs=Path("runs")) == "semiseg runs --runs-root runs"
    assert command("runs", runs=Path("elsewhere")) == "semiseg runs"


def test_a_run_is_gone_on_with_on_its_data() -> None:
    assert resuming(Path("r")) == "semiseg train --resume r"
    assert resuming(Path("r"), Path("d")) == "semiseg train --resume r --root d"
