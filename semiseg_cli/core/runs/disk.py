"""Files of a run: how they are written, and what is said of those that cannot be, or that are damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from semiseg_cli.core.errors import CheckpointError
from semiseg_cli.core.files import unwritable, write_text


def damaged(path: Path, why: object, fix: str = "") -> CheckpointError:
    return CheckpointError(f"{path} is damaged", why=str(why), fix=fix or "put it back as it was, or remove it")


def write(path: Path, text: str) -> None:
    with writing(path):
        write_text(path, text)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A disk that is full or read-only is a CheckpointError that says how the run whose file `path` is goes on."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error
