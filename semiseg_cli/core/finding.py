"""Which run or network is meant: a run directory, a file of one, or nothing, which is the newest that will do.

`eval`, `predict`, `export`, `viz`, `train --resume`, `--init` and `--weights` all ask here. Where an option needs a
value, the word `newest` stands for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from semiseg_cli.core import runs
from semiseg_cli.core.commands import command
from semiseg_cli.core.errors import CheckpointError, UsageError
from semiseg_cli.core.files import NETWORKS, STATE, network_of

NEWEST = "newest"
WANTED: dict[str, tuple[str, Callable[[Path], bool]]] = {
    "run": ("run", lambda run: True),
    "network": ("run with a network", lambda run: any((run / name).is_file() for name in NETWORKS)),
    "state": ("run with a resume state", lambda run: (run / STATE).is_file()),
    "unfinished": ("unfinished run", lambda run: (run / STATE).is_file() and not runs.is_finished(run)),
}
Note = Callable[[str], None]


def find(named: Path | None, wanted: str, root: Path, note: Note = lambda line: None) -> Path:
    """`named` as it is, or the newest run below `root` of the kind that is `wanted`; note is told which that is.

    Raises UsageError where there is none, CheckpointError where there is nothing at `named`.
    """
    if named is None or (str(named) == NEWEST and not named.exists()):
        words, fits = WANTED[wanted]
        found = next((run for run in runs.list_runs(root) if fits(run)), None)
        if found is None:
            fix = f"{command('train', runs=root)}, or name the run's directory"
            raise UsageError(f"there is no {words} in {root}", fix=fix)
        note(f"the newest {words}: {found}")
        return found
    if not named.exists():
        near = get_close_matches(named.name, [run.name for run in runs.list_runs(root)], n=1)
        fix = f"did you mean {root / near[0]}?" if near else command("runs", runs=root)
        raise CheckpointError(f"there is no {named}", why="a run directory or a file is needed", fix=fix)
    return named


def find_network(named: Path | None, root: Path, note: Note = lambda line: None) -> Path:
    """The checkpoint that is meant: of a run, its best network, else its last."""
    return network_of(find(named, "network", root, note))


def find_run(named: Path | None, wanted: str, root: Path, note: Note = lambda line: None) -> Path:
    """The run directory that is meant: of a file, the run that it is in. UsageError where it is in none."""
    found = find(named, wanted, root, note)
    if found.is_dir():
        return found
    run = next((above for above in (found.parent, found.parent.parent) if (above / "config.toml").is_file()), None)
    if run is None:
        raise UsageError(f"{found} is in no run", why="no config.toml lies beside it", fix=command("runs", runs=root))
    return run
