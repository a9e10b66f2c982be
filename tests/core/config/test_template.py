"""The settings file to start from: it changes nothing, and each of its lines is true."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields

import pytest

from semiseg_cli.core.config.layers import SECTIONS, flat, flatten, resolve
from semiseg_cli.core.config.template import settings_template
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.methods import METHODS
from semiseg_cli.core.settings import doc


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
            assert re.search(rf"^# {re.escape(doc(cls, field.name))}.*\n#{field.name} = ", text, re.MULTILINE)
    assert "# labeled images: a count" in text
    assert "(ce | ohem)\n#loss" in text
    assert "strong" in text


def test_of_an_unknown_method() -> None:
    with pytest.raises(UsageError):
        settings_template("unimatsch")
