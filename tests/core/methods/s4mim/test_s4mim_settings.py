"""What the settings of S4MIM may be, and what would be ignored and is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.methods.s4mim.method import S4MIM

OFF = {"lambda_mp": 0.0, "lambda_mf": 0.0, "lambda_ms": 0.0}


def test_the_weights_add_up() -> None:
    assert S4MIM.Settings().divisor == pytest.approx(3.25)
    assert S4MIM.Settings(lambda_mp=0.0).divisor == pytest.approx(2.25)
    assert S4MIM.Settings(**OFF).divisor == pytest.approx(2)
    assert S4MIM.Settings(lambda_u=0.0, **OFF).divisor == pytest.approx(1)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("patch", 0), ("ratio", 0.0), ("ratio", 1.0), ("ratio", 1.2), ("lambda_mp", -1.0), ("temperature", 0.0)],
)
def test_settings_out_of_range(setting: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"method\.{setting}\b"):
        S4MIM.Settings(**{setting: value})


IGNORED = [
    ({"lambda_mp": 0.0}, {"mim": "basic", "fp_target": "image"}),
    ({"lambda_mf": 0.0}, {"dictionary": False, "confidence": False, "alpha": 0.9, "temperature": 1.0}),
    ({"lambda_ms": 0.0}, {"semantic": "mse"}),
    ({"dictionary": False}, {"alpha": 0.9}),
    (OFF, {"patch": 4, "ratio": 0.5, "masked_statistics": True, "backward": "joint"}),
]


@pytest.mark.parametrize(("off", "setting", "value"), [(off, *one) for off, made in IGNORED for one in made.items()])
def test_a_setting_of_a_term_that_is_off_is_refused(off: dict[str, object], setting: str, value: object) -> None:
    with pytest.raises(UsageError, match=rf"method\.{setting} = .*, its default, where ") as error:
        S4MIM.Settings(**off, **{setting: value})
    assert next(iter(off)) in str(error.value)
    S4MIM.Settings(**{setting: value})
    S4MIM.Settings(**off)


def test_a_crop_that_is_smaller_than_a_patch(configured: Callable) -> None:
    with pytest.raises(UsageError, match=r"method\.patch = 40 .* train\.crop = 33"):
        configured("s4mim", {"method.patch": 40})


@pytest.mark.parametrize(("ratio", "patch"), [(0.001, 4), (0.9999, 4), (0.4, 33)])
def test_a_mask_of_nothing_or_of_everything(configured: Callable, ratio: float, patch: int) -> None:
    with pytest.raises(UsageError, match=r"method\.ratio = .* some of a crop's \d+ patches are masked"):
        configured("s4mim", {"method.ratio": ratio, "method.patch": patch})
