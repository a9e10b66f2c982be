"""`semiseg shard`: what is said, and options that say nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from semiseg_cli.cli import main
from semiseg_cli.stages.prepare import prepare_shapes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    prepare_shapes(tmp_path / "data", labeled=2, unlabeled=9, val=1, size=32)
    return tmp_path / "data"


def test_it_says_what_it_made_and_what_comes_next(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["shard", "shapes", "--root", str(root), "--shard-mb", "0.01"]) == 0
        out, err = capsys.readouterr()
        assert f"shapes-shards is ready in {root}/shapes-shards: 9 photos in 3 shards of about 3" in out
        assert f"next: semiseg train -d shapes-shards --root {root}" in err


def test_its_document_has_the_same(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"file://{tmp_path}/far"
    words = ["shard", "shapes", "--root", str(root), "--name", "new", "--shard-mb", "0.01", "--to", f"{url}/", "--json"]
    assert main([*words, "--cache-gb", "0.001"]) == 0
    found = json.loads(capsys.readouterr().out)["result"]
    assert found == {
        "name": "new", "folder": f"{root}/new", "photos": 9, "shards": 3, "each": 3, "url": url, "labeled": 2, "val": 1,
    }  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "far").iterdir()) == ["00000.tar", "00001.tar", "00002.tar"]
    assert not list((root / "new" / "shards").glob("*.tar"))
    assert "cache = 1000000\n" in (root / "new" / "shards" / "store.toml").read_text()
    assert main([*words, "--cache-gb", "0.002"]) == 0  # another bound for the same shards
    assert "cache = 2000000\n" in (root / "new" / "shards" / "store.toml").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cache-gb", "3"], "--cache-gb goes with --to"),
        (["--to", "file:///x", "--cache-gb", "0.1"], "a cache of 0.1 GB is too small for shards of 64 MB"),
        (["--to", "bucket/photos"], "bucket/photos is no address of an object store"),
        (["--shard-mb", "0"], "--shard-mb 0 is no size of a shard"),
    ],
)
def test_options_that_cannot_be_are_refused(
    root: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["shard", "shapes", "--root", str(root), *words]) == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in root.iterdir()] == ["shapes"]
