"""The plug-ins by name: losses that go on top of any method that gives them something to act on (`--add`).

Listing them imports neither torch nor a plug-in; `load_plugin` does. A new one is a file beside this one and a line
below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.registry import load_named

if TYPE_CHECKING:
    from semiseg_cli.core.methods.plugins.base import PlugIn

PLUGINS = {
    "interpixel": "semiseg_cli.core.methods.plugins.interpixel:InterPixel",
    "masked": "semiseg_cli.core.methods.plugins.masked:Masked",
}


def load_plugin(name: str) -> type[PlugIn]:
    """The class of a plug-in. Raises UsageError with a hint for a name that is not in PLUGINS."""
    plugin: type[PlugIn] = load_named(PLUGINS, name, f"there is no plug-in '{name}'")
    return plugin


def load_plugins(names: Sequence[str], method_name: str, method: Any) -> dict[str, type[PlugIn]]:
    """The classes of the plug-ins that are added to a method, by name.

    Raises UsageError for one that is not there, is added twice, is part of the method already, or that the method
    gives nothing to act on.
    """
    plugins: dict[str, type[PlugIn]] = {}
    for name in names:
        if name in plugins:
            raise UsageError(f"the plug-in '{name}' is added twice", fix=f"--add {name} once")
        plugin = plugins[name] = load_plugin(name)
        if name in method.includes:
            raise UsageError(f"{method_name} has the loss of the plug-in '{name}' already", fix=f"without --add {name}")
        if plugin.acts_on not in method.offers:
            raise UsageError(
                f"{method_name} gives the plug-in '{name}' nothing to act on",
                why={"terms": "no view of it is taught by a teacher", "weak": "it labels no weak view"}[plugin.acts_on],
                fix="--method meanteacher, fixmatch or unimatch",
            )
    return plugins
