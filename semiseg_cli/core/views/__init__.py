"""Random views of a micro-batch, computed on the device from keyed draws (`device.DeviceViews`).

The strong views that a run may have (`train.strong_view`) by name; listing them imports no torch. One is a class with
`draws`, `tables` and `apply` (`core.types.StrongView`) that is made with the strength in [0, 1] that `train.colour`
gives it; a new one is a file beside this one and a line below. A paper that has one of its own keeps it in its file and
hands it to `views.strong(images, key, view)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from semiseg_cli.core.registry import load_named

if TYPE_CHECKING:
    from semiseg_cli.core.types import StrongView

STRONG_VIEWS = {"photometric": "semiseg_cli.core.views.photometric:Photometric"}


def load_strong_view(name: str, strength: float) -> StrongView:
    """A strong view at a strength. Raises UsageError with a hint for a name that is not in STRONG_VIEWS."""
    view: StrongView = load_named(STRONG_VIEWS, name, f"there is no strong view '{name}'")(strength)
    return view
