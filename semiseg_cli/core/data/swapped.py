"""A prepared dataset whose folder is about to give its name to a newer one: a kill on the way is undone by the next
command, whichever it is.
"""

from __future__ import annotations

import os
import warnings
from contextlib import suppress
from pathlib import Path

_BEFORE = ".before"


def aside(there: Path) -> Path:
    """Where a dataset's folder is while its successor takes its name."""
    return there.with_name(f".{there.name}{_BEFORE}")


def put_back(there: Path) -> bool:
    """Give a dataset its name again where it was taken and no new one has it. Whether that was so."""
    old = aside(there)
    if not there.exists() and old.exists():
        os.rename(old, there)
        return True
    return False


def put_right(there: Path) -> None:
    """The same as somebody looks for a dataset: whoever was changing it was killed, which is said."""
    with suppress(OSError):  # another process was faster, or nothing may be written here
        if put_back(there):
            warnings.warn(f"an update of {there.name} was killed: the dataset is as it was before", stacklevel=3)


def put_all_right(root: Path) -> None:
    """The same for every dataset of a data root."""
    for old in root.glob(f".*{_BEFORE}"):
        put_right(root / old.name[1 : -len(_BEFORE)])
