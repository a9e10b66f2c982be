"""On a GPU it is the smallest of the product's own networks that is trained."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from fake_small import IS_TINY, TINY

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.training.step import Train


@pytest.fixture(scope="module")
def train_module(train_module: Callable[..., Train]) -> Callable[..., Train]:
    return partial(train_module, spec=TINY)


@pytest.fixture
def configured(configured: Callable[..., Resolved]) -> Callable[..., Resolved]:
    def make(method: str, changes: dict[str, Any]) -> Resolved:
        return configured(method, IS_TINY | changes)

    return make
