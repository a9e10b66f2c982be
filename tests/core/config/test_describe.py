"""What is read from the source of the methods is what their classes say when they are imported."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

from semiseg_cli.core.config import describe
from semiseg_cli.core.config.describe import NEEDS, Description, Setting, describe_method
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.methods import METHODS, load_method
from semiseg_cli.core.methods.plugins import PLUGINS, load_plugin
from semiseg_cli.core.settings import hints, ranges


@pytest.mark.parametrize("name", METHODS | PLUGINS)
def test_settings_are_those_of_the_class(name: str) -> None:
    cls: Any = load_method(name) if name in METHODS else load_plugin(name)
    found = describe_method(name).settings
    assert [(s.name, s.default) for s in found] == [(f.name, f.default) for f in fields(cls.Settings)]
    for setting in found:
        hint: Any = hints(cls.Settings)[setting.name]
        assert setting.meaning == hint.__metadata__[-1]
        kind = get_args(hint)[0]
        if get_origin(kind) is Literal:
            assert setting.allowed == " | ".join(map(str, get_args(kind)))
        elif isinstance(kind, type):
            assert setting.allowed == " ".join([kind.__name__, *(each.signs for each in ranges(hint))])


@pytest.mark.parametrize("name", METHODS)
def test_needs_and_changes_are_those_of_the_class(name: str) -> None:
    cls, found = load_method(name), describe_method(name)
    assert found.changes == dict(cls.defaults)
    needed = cls.inputs(cls.Settings()) & NEEDS.keys()
    assert set(found.needs) <= needed <= {*found.needs, *found.may_need}
    assert {*found.needs, *found.may_need} <= set(NEEDS)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_what_it_is(name: str) -> None:
    found = describe_method(name)
    assert len(found.paper) > 20
    assert "\n" not in found.paper
    assert found.text
    assert name == "supervised" or "arXiv" in found.paper


def test_needs_of_some_settings_only() -> None:
    found = describe_method("unimatch")
    assert (found.needs, found.may_need) == (("unlabeled",), ("second",))
    assert describe_method("supervised").needs == ()


SOURCE = """
'Paper of\\ntwo lines.\\n\\nFirst.\\n\\nSecond.'
import a_module_that_nobody_has
class S:
    tau: Doc[float, "a threshold"] = -0.5
    kind: Doc[Literal["a", "b"], "a choice"] = "b"
    share: Doc[Below1, "a share"] = 1 / 2
    scales: Doc[tuple[Positive, ...], "scales"] = (1.0, 2.0)
    largest: Doc[int, Range(3), "a limit"] = 4
class Paper(Method):
    Settings: ClassVar = S
    defaults = {"model.decoder": "other"}
    def inputs(cls, settings):
        return frozenset({"unlabeled", "second"})
"""


def test_a_source_that_cannot_be_imported_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "__init__.py").touch()
    (tmp_path / "papers" / "paper.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(METHODS, "paper", "papers.paper:Paper")
    assert describe_method("paper") == Description(
        name="paper",
        paper="Paper of two lines.",
        text="First.\n\nSecond.",
        needs=("second", "unlabeled"),
        may_need=(),
        settings=(
            Setting("tau", "float", -0.5, "a threshold"),
            Setting("kind", "a | b", "b", "a choice"),
            Setting("share", "float in [0, 1)", 0.5, "a share"),
            Setting("scales", "tuple[float > 0, ...]", (1.0, 2.0), "scales"),
            Setting("largest", "int >= 3", 4, "a limit"),
        ),
        changes={"model.decoder": "other"},
    )


def test_an_unknown_method_has_a_hint() -> None:
    with pytest.raises(UsageError) as caught:
        describe_method("unimatsch")
    assert "did you mean 'unimatch'" in caught.value.fix


def test_describing_imports_no_method() -> None:
    code = (
        f"import sys; from {describe.__name__} import describe_method, METHODS; "
        "[describe_method(name) for name in METHODS]; print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "semiseg_cli.core.methods.base"} & set(loaded)
