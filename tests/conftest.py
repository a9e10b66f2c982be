"""How tests are divided among processes, and what those that run them load: fixtures for several files."""

from __future__ import annotations

import gc
from typing import Any

import pytest

FIXTURES = ("basics", "browser", "fake_patches", "fake_protocols", "fake_runs", "fake_small", "fake_vit", "park")
pytest.register_assert_rewrite(*FIXTURES)  # though the conftest.py of a folder that is asked for imports them first


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the values in tests/golden/*.json")


def pytest_configure(config: pytest.Config) -> None:
    """The process that hands out tests to others runs none: they need not wait until it has imported PyTorch."""
    if config.getoption("dist", "no") == "no":
        gc.disable()  # until all is imported, of which nothing is garbage
        for name in FIXTURES:
            config.pluginmanager.import_plugin(name)


def pytest_collection_finish() -> None:
    gc.freeze()  # no collection looks at it again
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Halves, of which one takes over from the other at the end: files stay together, and what their tests share."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)
