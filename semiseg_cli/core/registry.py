"""Registries are plain dicts, name to "module:attribute", so that listing them imports nothing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from semiseg_cli.core.errors import UsageError, did_you_mean


def load_named(registry: Mapping[str, str], name: str, absent: str) -> Any:
    """What a registry calls `name`. Raises UsageError(absent) with a hint for a name that is not in it."""
    if name not in registry:
        raise UsageError(absent, fix=did_you_mean(name, registry))
    module, attribute = registry[name].split(":")
    return getattr(import_module(module), attribute)
