"""Settings as TOML, there and back; the file to start from changes nothing, and each of its lines is true."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semiseg_cli.core.config.layers import flatten, resolve
from semiseg_cli.core.config.names import SECTIONS
from semiseg_cli.core.config.toml import flat, read_toml, settings_template, to_toml
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.methods import METHODS
from semiseg_cli.core.settings import hints

texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), texts,
    st.lists(st.integers(0, 9)), st.lists(texts, max_size=3),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["train.lr", "train.x", "method.name", "eval.a_b"]), values))
def test_toml_reads_back_what_was_written(layer: dict[str, Any]) -> None:
    assert flat(tomllib.loads(to_toml(layer, dict.fromkeys(layer, "preset x")))) == layer


def test_flat_takes_an_empty_table_and_leaves_a_bare_entry_to_be_refused() -> None:
    assert flat({"train": {}, "eval": {"batch": 1}}) == {"eval.batch": 1}
    assert flat({"steps": 3}) == {"steps": 3}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no file .*absent\.toml"):
        read_toml(tmp_path / "absent.toml")
    for content in (b"[train\n", b"\xff\xff", b"a = 1\na = 2\n"):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(UsageError, match=r"bad\.toml cannot be read") as caught:
            read_toml(tmp_path / "bad.toml")
        assert caught.value.why
    with pytest.raises(UsageError, match="cannot be read"):
        read_toml(tmp_path)


def test_origins_are_comments() -> None:
    text = to_toml({"train.lr": 3e-4}, {"train.lr": "preset small"})
    assert text == "[train]\nlr = 0.0003  # preset small\n"
    assert tomllib.loads(text) == {"train": {"lr": 3e-4}}


def uncommented(text: str) -> str:
    return re.sub(r"^#(?=\w+ = )", "", text, flags=re.MULTILINE)


def test_as_written_it_sets_nothing() -> None:
    assert flat(tomllib.loads(settings_template("unimatch"))) == {}


@pytest.mark.parametrize("method", METHODS)
def test_uncommented_it_holds_every_setting_at_its_default(method: str) -> None:
    layer = flat(tomllib.loads(uncommented(settings_template(method))))
    default = resolve([("", {"method.name": method})])
    assert set(layer) == set(flatten(default.config))
    config = resolve([("file", layer)])
    assert flatten(config.config) | {"train.lr": 0} == flatten(default.config) | {"train.lr": 0}
    assert layer["train.lr"] == default.config.train.lr
    assert set(config.origins.values()) == {"file"}


def test_every_setting_has_its_meaning_above_it() -> None:
    text = settings_template("supervised")
    for cls in SECTIONS.values():
        for field in fields(cls):
            words = hints(cls)[field.name].__metadata__[-1]
            assert re.search(rf"^# {re.escape(words)}.*\n#{field.name} = ", text, re.MULTILINE)
    assert "# labeled images: a count" in text
    assert "(ce | ohem)\n#loss" in text
    assert "(float in [0, 1))\n#momentum" in text
    assert "(tuple[float > 0, float > 0])\n#scale" in text
    assert "strong" in text


def test_of_an_unknown_method() -> None:
    with pytest.raises(UsageError):
        settings_template("unimatsch")
