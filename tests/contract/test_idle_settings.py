"""No setting is taken and ignored: every one changes something within a few small steps, or its value is refused.

Every setting of every method and plug-in is moved, under the defaults and under every other choice that a flag or a
word of the same section offers. A loss, the state (weights, teachers, memories) or the deployed network must differ.
Values are made from types; what a few steps cannot show stands in UNSEEN with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from steps import fed, whole_step
from torch import Tensor

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.methods import METHODS, load_method
from semiseg_cli.core.methods.plugins import PLUGINS, load_plugin
from semiseg_cli.core.methods.plugins.base import Extended
from semiseg_cli.core.settings import BadSetting, TrainConfig, hints, ranges
from semiseg_cli.core.training.optim import build_optimizer, set_learning_rates
from semiseg_cli.core.training.step import Builder, Train
from semiseg_cli.core.types import Clock
from semiseg_cli.core.views.device import ViewSettings
from semiseg_cli.core.views.photometric import Photometric

CLASSES, TRAIN = 4, TrainConfig(steps=40_000, lr=0.01)
CLOCKS = [Clock(step, TRAIN.steps, epoch=2) for step in (3_000, 20_000, 20_001)]  # within a ramp, and after it
HOST = "unimatch"  # what plug-ins are added to
# So that pseudo-labels of a network that knows nothing count, and that a few steps are enough.
AWAKE = {"tau": 0.0, "region_tau": 0.0, "phi": 0.0, "match_after": 1}
WORDS = {"pixel_selection": ["all", "consistent"]}  # that a type does not list
UNSEEN = {
    ("s4mim", "backward", ""): "the gradient is the same, only memory and time differ",
    **{
        ("maskmatch", name, "masked_task=none"): "what is switched off keeps its settings: presets have some of them"
        for name in ("hidden", "patch", "ratio", "lambda_2")
    },
}

Configured = Callable[..., Resolved]
Batches = Callable[..., dict[str, Tensor]]
Found = dict[str, Tensor]


def settings_of(subject: str) -> type:
    return (load_plugin(subject) if subject in PLUGINS else load_method(subject)).Settings


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
    """The settings from which one is moved: awake, but where a threshold is refused."""
    kinds = hints(settings_of(subject))
    base = {name: value for name, value in AWAKE.items() if name in kinds and value in ranges(kinds[name])[0]} | context
    for _ in list(base):
        try:
            module(subject, configured, base)
        except BadSetting as bad:
            base.pop(bad.setting.split(".")[1])
        else:
            break
    return base


def module(subject: str, configured: Configured, settings: dict[str, Any]) -> Train:
    """In float64, so that what is the same but for rounding is told from what is not."""
    section, added = ("method", ()) if subject in METHODS else (subject, (subject,))
    layer = {"method.add": added, **{f"{section}.{name}": value for name, value in settings.items()}}
    config = configured(subject if subject in METHODS else HOST, layer).config
    builder = Builder({"backbone": "tiny", "decoder": "deeplabv3plus", "output_stride": 16}, CLASSES)
    method = load_method(config.method_name)(config.method, builder)
    if config.plugins:
        method = Extended(method, {name: load_plugin(name)(own, builder) for name, own in config.plugins.items()})
    views = ViewSettings(Photometric(), cutmix=1.0)
    return Train(method, seed=0, mean=(0.5,) * 3, std=(0.2,) * 3, views=views).double().train()


def steps(train: Train, batches: Batches) -> Iterator[Found]:
    optimizer = build_optimizer(train.method.groups(), TRAIN)
    for number, clock in enumerate(CLOCKS):
        torch.manual_seed(number)
        set_learning_rates(optimizer, clock.step, TRAIN)
        losses = whole_step(train, fed(train, batches(number)), clock).losses
        optimizer.step()
        optimizer.zero_grad()
        train.method.after_step(clock)
        deployed = {f"deployed.{key}": x for key, x in train.method.deployed().state_dict().items()}
        found = {**losses, **train.method.state_dict(), **deployed}
        yield {key: x.detach().clone() for key, x in found.items()}


def differ(one: Found, other: Found) -> bool:
    if one.keys() != other.keys():
        return True
    pairs = [(x, other[key]) for key, x in one.items()]
    return not all(a.shape == b.shape and torch.allclose(a.double(), b.double(), 1e-9, 1e-11) for a, b in pairs)


def cases() -> Iterator[tuple[str, str, Any]]:
    """Every method and plug-in: as it is, and under every choice that is not its default."""
    for subject in (*METHODS, *PLUGINS):
        yield subject, "", None
        cls = settings_of(subject)
        for name, hint in hints(cls).items():
            yield from ((subject, name, choice) for choice in choices(hint) if choice != getattr(cls(), name))


@pytest.mark.parametrize(("subject", "under", "choice"), list(cases()))
def test_no_setting_is_ignored(
    subject: str, under: str, choice: Any, configured: Configured, host_batch: Batches
) -> None:
    context = {under: choice} if under else {}
    cls, base = settings_of(subject), base_of(subject, configured, **context)
    if under and base.get(under) != choice:
        pytest.skip("refused with the defaults of the others")
    before = list(steps(module(subject, configured, base), host_batch))

    def seen(name: str, value: Any) -> bool | None:
        """None where it is refused."""
        try:
            changed = module(subject, configured, base | {name: value})
        except BadSetting:
            return None
        return any(differ(one, other) for one, other in zip(before, steps(changed, host_batch), strict=True))

    ignored = []
    for field in fields(cls):
        name, hint, value = field.name, hints(cls)[field.name], base.get(field.name, field.default)
        if name == under or {(subject, name, ""), (subject, name, f"{under}={choice}")} & UNSEEN.keys():
            continue
        if words := choices(hint) or WORDS.get(name, []):
            ignored += [f"{name}={word}" for word in words if word != value and seen(name, word) is False]
        else:
            answers: list[bool | None] = []
            for number in moved(name, hint, value):
                answers.append(seen(name, number))
                if answers[-1]:
                    break
            if not answers[-1] and False in answers:
                ignored.append(name)
    assert not ignored, f"taken and ignored with {base}"


def test_what_is_unseen_is_there() -> None:
    for subject, name, context in UNSEEN:
        assert {name, *filter(None, [context.partition("=")[0]])} <= hints(settings_of(subject)).keys()
