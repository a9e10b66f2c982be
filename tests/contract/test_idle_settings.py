"""No setting is taken and ignored: every one changes something within a few small steps, or its value is refused.

Every setting of every method and plug-in, and what steps read of `train`, is moved, under the defaults and under every
other choice that a flag or a word of the same section offers. A loss, the state (weights, teachers, memories) or the
deployed network must differ. Values are made from types; what a few steps cannot show stands in UNSEEN with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import tee
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
import torch
from fake_small import SMALL
from steps import fed, whole_step
from torch import Tensor

from semiseg_cli.core.config.layers import Resolved, flatten
from semiseg_cli.core.methods import METHODS, load_method
from semiseg_cli.core.methods.plugins import PLUGINS, load_plugin
from semiseg_cli.core.methods.plugins.base import Extended
from semiseg_cli.core.settings import BadSetting, Config, TrainConfig, hints, ranges
from semiseg_cli.core.training.labeled_classes import class_weights
from semiseg_cli.core.training.optim import build_optimizer, set_learning_rates
from semiseg_cli.core.training.setup import view_settings
from semiseg_cli.core.training.step import Builder, Train
from semiseg_cli.core.types import Clock
from semiseg_cli.core.views import STRONG_VIEWS

CLASSES, FREQUENCIES = 4, (0.4, 0.3, 0.2, 0.1)
TRAIN = TrainConfig(steps=40_000, lr=0.01)
CLOCKS = [Clock(step, TRAIN.steps, epoch=2) for step in (3_000, 20_000, 20_001)]  # within a ramp, and after it
HOST = "unimatch"  # what plug-ins are added to
READ = ("cutmix", "colour", "strong_view", "class_weights", "loss")  # of `train`, by steps
# So that pseudo-labels of a network that knows nothing count, images are mixed, and a few steps are enough.
AWAKE = {"tau": 0.0, "region_tau": 0.0, "phi": 0.0, "match_after": 1, "cutmix": 1.0}
WORDS = {  # that a type does not list
    "pixel_selection": ["all", "consistent"], "strong_view": ["negative"], "class_weights": ["b=3,c=0.5"],
}  # fmt: skip
UNSEEN = {
    ("s4mim", "backward", ""): "the gradient is the same, only memory and time differ",
    **{
        ("maskmatch", name, "masked_task=none"): "what is switched off keeps its settings: presets have some of them"
        for name in ("hidden", "patch", "ratio", "lambda_2")
    },
}

Configured = Callable[..., Resolved]
Batches = Callable[..., dict[str, Tensor]]
Found = tuple[list[tuple[str, torch.Size]], Tensor]  # names and shapes, and all numbers one after the other


class Negative:
    """A strong view without draws."""

    draws = 0

    def __init__(self, strength: float) -> None: ...

    def tables(self, u: np.ndarray) -> dict[str, np.ndarray]:
        return {}

    def apply(self, rgb01_B3HW: Tensor, tables: dict[str, Tensor]) -> Tensor:
        return 1 - rgb01_B3HW


@pytest.fixture(autouse=True, scope="module")
def _known(small_network: None) -> Iterator[None]:
    """A strong view besides the one that there is, and a small network: what is ignored is ignored by any."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STRONG_VIEWS, "negative", f"{__name__}:Negative")
        yield


def settings_of(subject: str) -> dict[str, Any]:
    """The type of every setting that is moved, by dotted name."""
    if subject in PLUGINS:
        return {f"{subject}.{name}": hint for name, hint in hints(load_plugin(subject).Settings).items()}
    own = {f"method.{name}": hint for name, hint in hints(load_method(subject).Settings).items()}
    return own | {f"train.{name}": hints(TrainConfig)[name] for name in READ}


def choices(hint: Any) -> list[Any]:
    """What a flag or a word may be; nothing for a number."""
    kind = get_args(hint)[0]
    return [False, True] if kind is bool else list(get_args(kind)) if get_origin(kind) is Literal else []


def moved(name: str, hint: Any, value: Any) -> Iterator[Any]:
    """Numbers further and further away, of which one must be noticed; of a tuple, all but the last."""
    kind = get_args(hint)[0]
    if get_origin(kind) is tuple:
        yield value[:-1]
        return
    assert kind in (int, float), f"{name}: other values of {kind}? Add them to WORDS"
    low, high = max(r.low for r in ranges(hint)), min(r.high for r in ranges(hint))
    middle = (value + high) / 2 if high < math.inf else value + 1
    for number in (kind(n) for n in (middle, value / 2, 2 * value, low, high) if n < math.inf):
        if number != value and all(number in r for r in ranges(hint)):
            yield number


def base_of(subject: str, configured: Configured, **context: Any) -> dict[str, Any]:
    """The settings from which one is moved: awake, but where a value is refused."""
    known = {dotted: (AWAKE.get(dotted.split(".")[1]), hint) for dotted, hint in settings_of(subject).items()}
    base = {dotted: value for dotted, (value, hint) in known.items() if value is not None and value in ranges(hint)[0]}
    base |= context
    for _ in list(base):
        try:
            config_of(subject, configured, base)
        except BadSetting as bad:
            base.pop(bad.setting)
        else:
            break
    return base


def config_of(subject: str, configured: Configured, settings: dict[str, Any]) -> Config:
    added = () if subject in METHODS else (subject,)
    return configured(subject if subject in METHODS else HOST, {"method.add": added, **settings}).config


def module(config: Config) -> Train:
    """In float64, so that what is the same but for rounding is told from what is not."""
    train = config.train
    weights = class_weights(FREQUENCIES, train.class_weights, classes="abcd")
    weights = None if weights is None else weights.double()
    builder = Builder(SMALL, CLASSES, loss=train.loss, class_weights=weights, prepare=surer)
    method = load_method(config.method_name)(config.method, builder)
    if config.plugins:
        method = Extended(method, {name: load_plugin(name)(own, builder) for name, own in config.plugins.items()})
    views = view_settings(train)
    return Train(method, seed=0, mean=(0.5,) * 3, std=(0.2,) * 3, views=views).double().train()


@torch.no_grad()
def surer(net: Any) -> None:
    """Of what it knows nothing of: a loss of hard pixels alone then leaves some out."""
    net.decoder.classifier.weight *= 20


def steps(train: Train, batches: Batches) -> Iterator[Found]:
    optimizer = build_optimizer(train.method.groups(), TRAIN)
    for number, clock in enumerate(CLOCKS):
        torch.default_generator.manual_seed(number)
        set_learning_rates(optimizer, clock.step, TRAIN)
        losses = whole_step(train, fed(train, batches(number)), clock).losses
        optimizer.step()
        optimizer.zero_grad()
        train.method.after_step(clock)
        train.method.settle(clock)
        deployed = {f"deployed.{key}": x for key, x in train.method.deployed().state_dict().items()}
        found = sorted({**losses, **train.method.state_dict(), **deployed}.items())
        numbers = torch.cat([x.detach().double().flatten() for _, x in found])
        yield [(key, x.shape) for key, x in found], numbers


def differ(one: Found, other: Found) -> bool:
    return one[0] != other[0] or not torch.allclose(one[1], other[1], 1e-9, 1e-11)


def cases() -> Iterator[tuple[str, str, Any]]:
    """Every method and plug-in: as it is, and under every choice of its own that is not its default."""
    for subject in (*METHODS, *PLUGINS):
        yield subject, "", None
        cls = (load_plugin(subject) if subject in PLUGINS else load_method(subject)).Settings
        for name, hint in hints(cls).items():
            yield from ((subject, name, choice) for choice in choices(hint) if choice != getattr(cls(), name))


@pytest.mark.parametrize(("subject", "under", "choice"), list(cases()))
def test_no_setting_is_ignored(
    subject: str, under: str, choice: Any, configured: Configured, host_batch: Batches
) -> None:
    within = f"{subject if subject in PLUGINS else 'method'}.{under}"
    base = base_of(subject, configured, **({within: choice} if under else {}))
    if under and base.get(within) != choice:
        pytest.skip("refused with the defaults of the others")
    config = config_of(subject, configured, base)
    before, values = steps(module(config), host_batch), flatten(config)

    def seen(name: str, value: Any) -> bool | None:
        """None where it is refused."""
        nonlocal before
        try:
            changed = config_of(subject, configured, base | {name: value})
        except BadSetting:
            return None
        before, again = tee(before)  # as many steps as have been asked for
        return any(differ(one, other) for one, other in zip(again, steps(module(changed), host_batch), strict=True))

    ignored = []
    for dotted, hint in settings_of(subject).items():
        name, value = dotted.split(".")[1], values[dotted]
        if dotted == within or {(subject, name, ""), (subject, name, f"{under}={choice}")} & UNSEEN.keys():
            continue
        if words := choices(hint) or WORDS.get(name, []):
            ignored += [f"{dotted}={word}" for word in words if word != value and seen(dotted, word) is False]
        else:
            answers: list[bool | None] = []
            for number in moved(name, hint, value):
                answers.append(seen(dotted, number))
                if answers[-1]:
                    break
            if not answers[-1] and False in answers:
                ignored.append(dotted)
    assert not ignored, f"taken and ignored with {base}"


def test_what_is_unseen_is_there() -> None:
    for subject, name, context in UNSEEN:
        own = {dotted.split(".")[1] for dotted in settings_of(subject)}
        assert {name, *filter(None, [context.partition("=")[0]])} <= own
