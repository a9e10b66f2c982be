"""The files of `semiseg pick`. Below its output folder:

    picked.txt              ids in the order of use: `train -l` and `split --import` read it when they have masks
    images/<id>.<suffix>    the photos, as links to the user's files or as copies
    sheet-1.png, ...        each photo beside some of those that it stands for, and all of them in sheet.html
    labels/, overlays/      with --prelabel what `semiseg predict` writes of images/
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semiseg_cli.core.data.decode import read
from semiseg_cli.core.data.photos import reduced
from semiseg_cli.core.data.shards import member
from semiseg_cli.core.errors import DataError, UsageError, counted
from semiseg_cli.core.files import write_text
from semiseg_cli.core.partitions.picking import Floats, Picks, Places, squares
from semiseg_cli.core.viz.legend import Legend
from semiseg_cli.core.viz.palette import PAPER
from semiseg_cli.core.viz.sheets import Gallery, Row
from semiseg_cli.core.viz.tiles import Photo, Tile
from semiseg_cli.stages.pick_pool import Pool
from semiseg_cli.stages.visualize import write

LIST, IMAGES = "picked.txt", "images"
BOX = (224, 200)  # of a tile
BESIDE = 4  # photos beside each
COLUMNS = ("picked", "stands for: most alike", "", "", "least alike")


def claim(out: Path | None) -> Path:
    """A new folder: `out`, which must be empty if it is there; without a name `picked`, `picked-2`, ..."""
    number = 1
    try:
        while out is None:
            folder = Path("picked" if number == 1 else f"picked-{number}")
            try:
                folder.mkdir()
            except FileExistsError:
                number += 1
            else:
                return folder
        out.mkdir(parents=True, exist_ok=True)
        taken = any(out.iterdir())
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{out} is not a folder", fix="choose another one: -o DIR") from None
    except OSError as error:
        raise DataError(f"cannot write {out or folder}", why=str(error), fix="choose another folder: -o DIR") from error
    if taken:
        raise UsageError(f"{out} is not empty", why="nothing is overwritten", fix="choose another folder: -o DIR")
    return out


def write_photos(out: Path, pool: Pool, places: Sequence[int], copy: bool) -> None:
    """The list, and the photos under their ids as symbolic links or copies; those in shards are always copied."""
    try:
        write_text(out / LIST, "".join(f"{pool.records[place].id}\n" for place in places))
        for place in places:
            original = pool.original(place).absolute()
            target = out / IMAGES / f"{pool.records[place].id}{original.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            if member(original):
                target.write_bytes(read(original))
            elif copy:
                shutil.copyfile(original, target)
            else:
                target.symlink_to(original)
    except OSError as error:
        fix = "free some disk space" if copy else "copies instead of links: --copy"
        raise DataError(f"cannot write into {out / IMAGES}", why=str(error), fix=fix) from error


def write_sheet(out: Path, pool: Pool, rows: Places, x_ND: Floats, picks: Picks, rule: str) -> dict[str, Any]:
    """The contact sheets. rows: the place in the pool of every row of x."""

    def tile(row: int) -> Tile:
        return Photo(np.ascontiguousarray(reduced(pool.load(pool.records[rows[row]]), 2 * max(BOX))))

    shown = []
    for number, row in enumerate(picks.places):
        others = np.setdiff1d(np.flatnonzero(picks.nearest == number), row)
        others = others[squares(x_ND[others], x_ND[[row]])[:, 0].argsort(kind="stable")]
        some = others[np.linspace(0, len(others) - 1, min(BESIDE, len(others))).round().astype(int)]
        tiles = [tile(row), *(tile(int(other)) for other in some)]
        tiles += [Photo(np.full((*tiles[0].shape, 3), PAPER, np.uint8))] * (1 + BESIDE - len(tiles))
        twins = int((picks.alike == row).sum()) - 1
        many = f"{len(others)} others" if len(others) != 1 else "one other"
        said = f"stands for {many}" if len(others) else "like no other"
        said += f"; {twins} of the same picture" * (twins > 0)
        shown.append(Row(f"{number + 1}. {pool.records[rows[row]].id}: {said}", tiles))
    title = f"{counted(len(shown), 'photo')} to label next, of {pool.name}"
    return write(Gallery(title, rule, COLUMNS, shown, Legend((), np.zeros((0, 3), np.uint8), ""), BOX), out, "sheet")
