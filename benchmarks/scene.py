"""A scene: a kind of file that somebody hands in, what reads it, and how it is damaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.damages import ANY, Damage

Call = Callable[[], object]
RUN = ("--device", "cpu")


@dataclass(frozen=True)
class Scene:
    """A kind of file, the files of that kind, what reads them (a command line, or a call), and how they are damaged."""

    kind: str
    files: Sequence[str]
    reads: Sequence[tuple[str, ...] | Call]
    damages: Sequence[Damage] = ()
    special: bool = True  # whether a pipe, a device, a folder may lie in their place
    share: int = 1  # of all cases, for its weight
    all: list[Damage] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.all.extend([*ANY, *self.damages, *self.damages, *self.damages])
