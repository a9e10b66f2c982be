"""Layers of settings: precedence, origins, types, ranges, hints, the learning-rate rule, and TOML there and back."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import Annotated as Doc
from typing import Any, ClassVar, Literal

import pytest

from semiseg_cli.core.config.layers import (
    Resolved,
    flatten,
    parse_set,
    refuse_changes,
    resolve,
    settled,
    with_steps,
)
from semiseg_cli.core.config.toml import flat, to_toml
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.methods import METHODS
from semiseg_cli.core.settings import BadSetting, BaseSettings, Config, Probability, Unread, require


@dataclass(frozen=True, kw_only=True)
class Settings(BaseSettings):
    tau: Doc[Probability, "threshold"] = 0.95
    limit: Doc[int, "largest"] = 3
    rates: Doc[tuple[float, ...], "rates"] = (1.0, 2.0)
    partner: Doc[Literal["batch", "self"], "partner"] = "batch"


class Method:
    Settings = Settings
    defaults: ClassVar[dict[str, Any]] = {"train.momentum": 0.5, "model.decoder": "own"}

    @classmethod
    def check(cls, config: Config) -> None:
        require(config.method.limit != config.train.crop, "method.limit", config.method.limit, "not the crop")

    @classmethod
    def unread(cls, settings: Settings) -> dict[str, str]:
        return {"momentum": "method.partner is self"} if settings.partner == "self" else {}


def resolved(*layers: tuple[str, dict[str, Any]]) -> Resolved:
    return resolve(layers, lambda name: Method)


def test_later_layers_win_and_every_value_knows_its_origin() -> None:
    found = resolved(("preset", {"train.crop": 96, "train.steps": 10}), ("--set", {"train.crop": "128"}))
    assert found.config.train.crop == 128
    assert found.config.train.steps == 10
    assert found.config.train.momentum == 0.5
    assert found.config.model.decoder == "own"
    expected = {
        "train.crop": "--set",
        "train.steps": "preset",
        "train.momentum": "method unimatch",
        "train.lr": "default",
    }
    assert {name: found.origins[name] for name in expected} == expected
    assert set(found.origins) == set(flatten(found.config))


def test_a_method_checks_what_is_only_impossible_together() -> None:
    with pytest.raises(BadSetting, match=r"method\.limit = 64 is not possible: it must be not the crop") as caught:
        resolved(("a", {"method.limit": 64}), ("b", {"train.crop": 64}))
    assert caught.value.why == "it was set by: a"
    assert resolved(("a", {"method.limit": 64}), ("b", {"train.crop": 65})).config.method.limit == 64


def test_what_a_method_does_not_read_is_refused_away_from_its_default() -> None:
    alone = {"method.partner": "self"}
    assert resolved(("a", alone)).config.train.momentum == 0.5  # as the method has it
    said = r"train\.momentum = 0\.9 .* it must be 0\.5, its default, where method\.partner"
    with pytest.raises(Unread, match=said) as bad:
        resolved(("a", alone), ("b", {"train.momentum": 0.9}))
    assert bad.value.why == "it was set by: b"
    assert resolved(("a", {"train.momentum": 0.9})).config.train.momentum == 0.9


def test_epochs_and_steps_take_each_other_back_and_epochs_become_steps() -> None:
    paper = ("preset", {"train.epochs": 80, "train.batch": 8, "train.lr": 1e-3})
    found = resolved(paper)
    assert (found.config.train.steps, found.config.train.epochs) == (0, 80)
    assert found.origins["train.steps"] == "preset, by train.epochs"
    settled = with_steps(found.config, 10_582 - 92)
    assert settled.train.steps == 104_880  # UniMatch at 92 labels: 80 epochs of floor(10,490 / 8)
    assert with_steps(settled, 5) == settled
    assert with_steps(found.config, 3).train.steps == 80
    short = resolved(paper, ("command line", {"train.steps": "9"}))
    assert with_steps(short.config, 10_490).train.steps == 9
    assert short.config.train.epochs == 0
    # a run's config.toml has both; a new layer over it counts, for either
    whole = ("config.toml", flatten(settled))
    assert resolved(whole).config == settled
    assert with_steps(resolved(whole, ("--set", {"train.epochs": "10"})).config, 10_490).train.steps == 13_110
    assert resolved(whole, ("--set", {"train.steps": 4})).config.train.epochs == 0
    with pytest.raises(UsageError, match="0 with train"):
        resolved(("preset", {"train.steps": 5}), ("--set", {"train.steps": "0"}))


def test_a_layer_overrides_what_the_method_changes() -> None:
    assert resolved(("preset", {"train.momentum": 0.8})).config.train.momentum == 0.8


def test_the_last_method_named_is_the_method() -> None:
    asked: list[str] = []

    def load(name: str) -> type[Method]:
        asked.append(name)
        return Method

    found = resolve([("file", {"method.name": "fixmatch"}), ("command line", {"method.name": "supervised"})], load)
    assert asked == [found.config.method_name] == ["supervised"]
    assert found.origins["method.name"] == "command line"


@pytest.mark.parametrize(
    ("layers", "lr", "origin"),
    [
        pytest.param([{"train.lr": 0.1, "train.batch": 4}], 0.1, "0", id="one layer states both"),
        pytest.param([{"train.lr": 0.1, "train.batch": 4}, {"train.batch": 8}], 0.2, "0, scaled", id="batch above lr"),
        pytest.param([{"train.lr": 0.1, "train.batch": 4}, {"train.batch": 8, "train.lr": 0.1}], 0.1, "1", id="both"),
        pytest.param(
            [{"train.lr": 0.1, "train.batch": 4}, {"train.batch": 8}, {"train.lr": 0.1}], 0.1, "2", id="lr above"
        ),
        pytest.param(
            [{"train.lr": 0.1, "train.batch": 4}, {"train.lr": 0.3}, {"train.batch": 2}], 0.15, "1, sc", id="last lr"
        ),
        pytest.param([{"train.batch": 4}, {"train.batch": 8}], 0.001, "default, scaled", id="defaults are for 16"),
        pytest.param([{"train.batch": "8"}], 0.001, "default, scaled", id="text"),
        pytest.param(
            [{"train.lr": 0.1, "train.batch": 4}, {"train.batch": 8}, {"train.batch": 4}], 0.1, "0", id="and back"
        ),
    ],
)
def test_a_changed_batch_rescales_a_learning_rate_set_below_it(
    layers: list[dict[str, Any]], lr: float, origin: str
) -> None:
    found = resolved(*((str(number), layer) for number, layer in enumerate(layers)))
    assert found.config.train.lr == pytest.approx(lr, rel=1e-12)
    assert found.origins["train.lr"].startswith(origin)
    assert ("scaled" in found.origins["train.lr"]) == ("sc" in origin)


@pytest.mark.parametrize(
    ("layer", "allowed"),
    [
        ({"train.steps": 0}, "1 or more"),
        ({"train.steps": 0, "train.epochs": 0}, "0 with train.epochs"),
        ({"train.epochs": -1}, "0 or more"),
        ({"train.batch": "-4"}, "1 or more"),
        ({"train.crop": 31}, "32 or more"),
        ({"train.lr": 0.0}, "more than 0"),
        ({"train.lr": "nan"}, "a number"),
        ({"train.lr": "inf"}, "a number"),
        ({"train.lr": True}, "a number"),
        ({"train.steps": "2.5"}, "a whole number"),
        ({"train.steps": "many"}, "a whole number"),
        ({"train.scale": [1.5, 0.5]}, "0 < smallest <= largest"),
        ({"train.scale": "0.5"}, "2 values"),
        ({"train.scale": 0.5}, "2 values"),
        ({"train.momentum": 1}, "in [0, 1)"),
        ({"train.seed": -1}, "0 or more"),
        ({"train.workers": -2}, "-1 or more"),
        ({"train.optimizer": "adam"}, "sgd or adamw"),
        ({"train.compile": "maybe"}, "true or false"),
        ({"train.compile": 2}, "true or false"),
        ({"model.output_stride": 4}, "8 or 16 or 32"),
        ({"train.rotation": 200}, "in [0, 180]"),
        ({"eval.window": "half"}, "auto, none, or a side"),
        ({"eval.stride": "3/2"}, "in (0, 1]"),
        ({"eval.stride": "1/0"}, "a number"),
        ({"data.labeled": 0.5}, "text"),
        ({"data.split_seed": -2}, "-1 or more"),
        ({"method.tau": 2}, "in [0, 1]"),
        ({"method.limit": "some"}, "a whole number"),
        ({"method.rates": "1,x"}, "any number of them"),
        ({"train.batch": 6, "train.micro_batch": 4}, "a divisor of train.batch = 6"),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_is_named_with_what_is_allowed_and_where_it_came_from(
    layer: dict[str, Any], allowed: str
) -> None:
    with pytest.raises(BadSetting) as caught:
        resolved(("semiseg.toml", layer))
    assert caught.value.setting in layer
    assert caught.value.setting in caught.value.what
    assert allowed in caught.value.what
    assert "semiseg.toml" in caught.value.why
    assert caught.value.code == 2


@pytest.mark.parametrize("name", METHODS)
def test_every_method_resolves_and_reads_back(name: str) -> None:
    found = resolve([("command line", {"method.name": name})])
    again = resolve([("file", flat(tomllib.loads(to_toml(flatten(found.config), found.origins))))])
    assert again.config == found.config


def test_set_is_split_at_the_first_equals() -> None:
    assert parse_set(["a.b=c=d", " x.y = 1 "]) == {"a.b": "c=d", "x.y": "1"}
    for bad in ("train.lr", "=1", " =1"):
        with pytest.raises(UsageError, match="name=value"):
            parse_set([bad])


def test_a_resumed_run_refuses_a_change_and_shows_it() -> None:
    config = resolved(("x", {"train.batch": 8})).config
    refuse_changes(config, {"train.batch": "8", "train.lr": config.train.lr, "method.name": "unimatch"})
    with pytest.raises(UsageError) as caught:
        refuse_changes(config, {"train.batch": 4, "method.tau": "0.5"})
    assert "train.batch was 8, now 4" in caught.value.why
    assert "method.tau was 0.95, now 0.5" in caught.value.why
    with pytest.raises(UsageError, match="no setting"):
        refuse_changes(config, {"train.bacth": 4})


def test_tuples_read_back_through_their_types() -> None:
    found = resolved(("x", {"train.scale": (0.7, 1.4), "method.rates": ()}))
    assert resolved(("file", flat(tomllib.loads(to_toml(flatten(found.config), {}))))).config == found.config


def test_what_was_chosen_in_the_end_says_instead_of_what() -> None:
    asked = resolve([("preset p", {"train.epochs": 4, "train.batch": 2})])
    done = settled(asked, with_steps(asked.config, 10))
    assert done.config.train.steps == 20
    assert done.origins["train.steps"] == "chosen: 0 (preset p, by train.epochs)"
    assert {name for name in done.origins if done.origins[name] != asked.origins[name]} == {"train.steps"}
