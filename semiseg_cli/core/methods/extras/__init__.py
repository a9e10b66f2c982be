"""The plug-ins by name: losses that go on top of any method that gives them something to act on (`--add`).

Listing them imports neither torch nor a plug-in; `load_extra` does. A new one is a file beside this one and a line
below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.registry import load_named

if TYPE_CHECKING:
    from semiseg_cli.core.methods.extras.base import Extra

EXTRAS = {
    "interpixel": "semiseg_cli.core.methods.extras.interpixel:InterPixel",
    "masked": "semiseg_cli.core.methods.extras.masked:Masked",
}


def load_extra(name: str) -> type[Extra]:
    """The class of a plug-in. Raises UsageError with a hint for a name that is not in EXTRAS."""
    extra: type[Extra] = load_named(EXTRAS, name, f"there is no plug-in '{name}'")
    return extra


def load_extras(names: Sequence[str], method_name: str, method: Any) -> dict[str, type[Extra]]:
    """The classes of the plug-ins that are added to a method, by name.

    Raises UsageError for one that is not there, is added twice, is part of the method already, or that the method
    gives nothing to act on.
    """
    extras: dict[str, type[Extra]] = {}
    for name in names:
        if name in extras:
            raise UsageError(f"the plug-in '{name}' is added twice", fix=f"--add {name} once")
        extra = extras[name] = load_extra(name)
        if name in method.includes:
            raise UsageError(f"{method_name} has the loss of the plug-in '{name}' already", fix=f"without --add {name}")
        if extra.acts_on not in method.offers:
            raise UsageError(
                f"{method_name} gives the plug-in '{name}' nothing to act on",
                why={"terms": "no view of it is taught by a teacher", "weak": "it labels no weak view"}[extra.acts_on],
                fix="--method meanteacher, fixmatch or unimatch",
            )
    return extras
