"""STPG compares classes from place to place: of networks that tell several, as the small one does not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from fake_small import TINY

from semiseg_cli.core.training.step import Train


@pytest.fixture(scope="module")
def train_module(train_module: Callable[..., Train]) -> Callable[..., Train]:
    return partial(train_module, spec=TINY)
