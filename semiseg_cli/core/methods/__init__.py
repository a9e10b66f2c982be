"""The methods by name. Listing them imports neither torch nor a method; `load_method` does.

A new paper is a file beside this one, or a folder, and a line below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from semiseg_cli.core.registry import load_named

if TYPE_CHECKING:
    from semiseg_cli.core.methods.base import Method

METHODS = {
    "supervised": "semiseg_cli.core.methods.supervised:Supervised",
    "meanteacher": "semiseg_cli.core.methods.meanteacher:MeanTeacher",
    "fixmatch": "semiseg_cli.core.methods.fixmatch:FixMatch",
    "unimatch": "semiseg_cli.core.methods.unimatch:UniMatch",
    "unimatchv2": "semiseg_cli.core.methods.unimatch_v2:UniMatchV2",
    "guidedmix": "semiseg_cli.core.methods.guidedmix:GuidedMix",
    "ipixmatch": "semiseg_cli.core.methods.ipixmatch:IPixMatch",
    "maskmatch": "semiseg_cli.core.methods.maskmatch:MaskMatch",
    "stpg": "semiseg_cli.core.methods.stpg.method:STPG",
    "s4mim": "semiseg_cli.core.methods.s4mim.method:S4MIM",
}


def load_method(name: str) -> type[Method[Any]]:
    """The class of a method. Raises UsageError with a hint for a name that is not in METHODS."""
    method: type[Method[Any]] = load_named(METHODS, name, f"there is no method '{name}'")
    return method
