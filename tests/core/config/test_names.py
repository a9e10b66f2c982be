"""Names that no setting has get a hint; names of settings that are gone are read where they change nothing."""

from __future__ import annotations

from typing import Any

import pytest

from semiseg_cli.core.config.layers import resolve
from semiseg_cli.core.config.names import SECTIONS, typed
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.methods import load_method
from semiseg_cli.core.settings import BadSetting, TrainConfig

FIXMATCH = {"method": load_method("fixmatch").Settings, **SECTIONS}
STPG = {"method": load_method("stpg").Settings, **SECTIONS}
GONE = {f"train.{name}": value for name, value in TrainConfig.retired.items()}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("train.lrr", "did you mean 'train.lr'?"),
        ("lr", "did you mean 'train.lr'?"),
        ("trian.lr", "did you mean 'train.lr'?"),
        ("batch", "did you mean 'train.batch' or 'eval.batch'?"),
        ("model.tau", "did you mean 'method.tau'?"),
        ("method.cutmix_partners", "did you mean 'method.cutmix_partner'?"),
        ("steps", "did you mean 'train.steps'?"),
        ("method", "[method] is a table of settings: name, add, warmup, ema_teacher"),
        ("eval.qqqqqqq", "settings of eval: window, stride, batch"),
        ("qqqqqqq", "sections: method, data, model, train, eval"),
    ],
)
def test_an_unknown_setting_gets_a_hint(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match="there is no setting") as caught:
        typed({name: "1"}, FIXMATCH, "--set")
    assert f"'{name}' (from: --set)" in caught.value.what
    assert hint in caught.value.fix


def test_a_setting_of_a_plug_in_that_is_not_added() -> None:
    with pytest.raises(UsageError, match="of a plug-in that is not added") as caught:
        typed({"masked.ratio": 0.5}, FIXMATCH, "--set")
    assert caught.value.fix == "--add masked"


def test_the_way_on_is_where_the_value_stands() -> None:
    for origin, fix in {"--set": "--set train.lr=VALUE", "a/semiseg.toml": "another lr in a/semiseg.toml"}.items():
        with pytest.raises(BadSetting) as caught:
            typed({"train.lr": "x"}, FIXMATCH, origin)
        assert (caught.value.why, caught.value.fix) == (f"it was set by: {origin}", fix)


def test_the_settings_of_a_layer_have_their_types() -> None:
    found = typed({"train.scale": "0.5,2", "train.steps": "1e4", "method.add": "masked, interpixel"}, FIXMATCH, "--set")
    assert found == {"train.scale": (0.5, 2.0), "train.steps": 10000, "method.add": ("masked", "interpixel")}


@pytest.mark.parametrize(("name", "value"), GONE.items())
def test_a_setting_that_is_gone_is_read_where_it_changes_nothing(name: str, value: Any) -> None:
    assert name not in FIXMATCH
    assert typed({name: value, "train.lr": 0.1}, FIXMATCH, "config.toml") == {"train.lr": 0.1}
    assert typed({name: str(value)}, FIXMATCH, "--set") == {}


@pytest.mark.parametrize(("name", "value"), [("train.poly_power", "0.8"), ("train.sync_bn", False)])
def test_a_setting_that_is_gone_cannot_change_anything(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"{name} = {value} is not possible any more") as caught:
        typed({name: value}, FIXMATCH, "config.toml")
    assert caught.value.why == f"the setting is gone: every run is as with {GONE[name]} (from: config.toml)"
    assert caught.value.fix == f"leave {name} out"
    with pytest.raises(BadSetting, match="it must be"):
        typed({name: "some"}, FIXMATCH, "config.toml")


def test_a_setting_that_is_gone_was_one_methods() -> None:
    assert typed({"method.deployed": "gen_student", "method.projection_input": "aspp"}, STPG, "config.toml") == {}
    with pytest.raises(UsageError, match="is not possible any more"):
        typed({"method.deployed": "pro_student"}, STPG, "config.toml")
    for other, given in ((FIXMATCH, {"method.deployed": "gen_student"}), (FIXMATCH, {"method.weight": 1.0})):
        with pytest.raises(UsageError, match="there is no setting"):
            typed(given, other, "config.toml")


def test_an_old_name_is_still_taken_where_no_setting_has_it() -> None:
    ema = {"method.ema_teacher": True, "method.ema_decay": 0.5}
    old = resolve([("here", {"method.name": "ipixmatch", "method.omega": 0.3, **ema})])
    assert (old.config.method.region_tau, old.config.method.alpha) == (0.3, 0.5)
    assert old.origins["method.region_tau"] == "here"
    assert resolve([("here", {"method.name": "guidedmix", "method.omega": 3})]).config.method.omega == 3
    weighed = resolve([("here", {"method.name": "meanteacher", "method.weight": "confidence"})])
    assert weighed.config.method.pixel_weight == "confidence"
