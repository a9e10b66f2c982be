"""Where a benchmark's files are: named, known from before, below the data root, or around where somebody stands."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semiseg_cli.core.data.again import preparing
from semiseg_cli.core.download import Published, download
from semiseg_cli.core.errors import DataError, few
from semiseg_cli.core.sources import archives, cityscapes, sbd, voc
from semiseg_cli.core.sources.around import Seen, Sought, look_around
from semiseg_cli.stages.building import unpack
from semiseg_cli.stages.progress import Progress, silent

NO_SBD = Path("none")  # --sbd none: VOC's own labels alone
DEVKIT = Sought(voc.is_devkit, voc.SOUGHT)
LABELS = Sought(sbd.is_labels, sbd.SOUGHT)
STREETS = Sought(cityscapes.is_part, cityscapes.SOUGHT)


@dataclass(frozen=True)
class Call:
    """A `prepare` as it was asked for, and what its dataset is made of so far (`before`).

    wanted: whether a member of an archive is of use. around: the folder in which, below and beside which data are
    looked for that nobody named; None: nowhere.
    """

    root: Path
    name: str
    wanted: Callable[[str], bool]
    source: Path | None = None
    archive: Sequence[Path] = ()
    sbd: Path | None = None
    fetch: bool = False
    around: Path | None = None
    note: Callable[[str], None] = lambda line: None
    progress: Progress = silent
    before: Mapping[str, Any] = field(default_factory=dict)

    def look(self, sought: Sought, *beside: Path) -> Seen:
        return look_around(self.around, sought, *beside) if self.around else Seen()

    def take(self, what: str, taken: Path, seen: Seen, option: str) -> Path:
        """Say what is taken, and what else there was; the folder of what is taken, unpacked if it is an archive."""
        self.note(f"{what}: {taken}")
        if others := seen.but(taken):
            self.note(f"also seen: {few(others)} ({option} takes another)")
        return self.unpack(taken) if taken.is_file() else taken

    def unpack(self, archive: Path) -> Path:
        return unpack(archive, self.root, self.wanted, self.progress)

    def unpacked(self) -> Iterator[Path]:
        """Folders below the data root that an archive was unpacked to, whole."""
        return (folder for folder in sorted(self.root.glob("unpacked/*")) if archives.is_complete(folder))


def locate_voc(call: Call) -> tuple[Path, Path | None]:
    """The folder VOC2012, and the one of SBD's labels, if any. DataError with all ways where VOC is not at hand."""
    folders = [call.unpack(file) for file in call.archive]
    devkit = _devkit(call, folders)
    return devkit, _labels(call, folders, devkit)


def _devkit(call: Call, folders: list[Path]) -> Path:
    if call.source:
        if found := voc.find_devkit(call.source):
            return found
        seen = call.look(DEVKIT)
        why = "no VOC2012 with JPEGImages, SegmentationClass and ImageSets/Segmentation at or below it"
        fix = preparing(call.name, "voc", call.root, "--source", seen.folders[0]) if seen.folders else ways(call)
        raise DataError(f"{call.source} is not VOC 2012", why=why, fix=fix)
    known = [call.root / call.before["devkit"]] if call.before else []
    places = [*folders, *known, call.root, *sorted(call.root.glob("*/VOCdevkit")), *call.unpacked()]
    if found := next((found for place in places if (found := voc.find_devkit(place))), None):
        return found
    seen = call.look(DEVKIT)
    if near := next(iter([*seen.folders, *seen.archives]), None):
        folder = call.take("found VOC 2012", near, seen, "--source or --archive")
    elif call.fetch:
        folder = _fetch(voc.ARCHIVE, "--archive", call)
    else:
        raise DataError("VOC 2012 is not at hand", why=_nowhere(call, "VOCdevkit", voc.ARCHIVE.name), fix=ways(call))
    if found := voc.find_devkit(folder):
        return found
    raise DataError(f"{near} is not VOC 2012", why="the archive holds something else", fix=ways(call))


def _labels(call: Call, folders: list[Path], devkit: Path) -> Path | None:
    if call.sbd:
        given = None if call.sbd == NO_SBD else call.sbd
        return call.unpack(given) if given and given.is_file() else given
    if named := next((folder for folder in folders if not voc.find_devkit(folder)), None):
        return named
    before = str(call.before.get("sbd", ""))
    known = call.root / before if before not in ("", "none") else None
    if known and known.is_dir():
        return known
    places: list[Path] = [devkit / "SegmentationClassAug", *call.unpacked()]
    if there := next(filter(sbd.holds_labels, places), None):
        return there
    seen = call.look(LABELS, _holder(devkit))
    if near := next(iter([*seen.folders, *seen.archives]), None):
        return call.take("found SBD's labels", near, seen, "--sbd")
    if known or not call.fetch:
        return known
    try:
        return _fetch(sbd.ARCHIVE, "--sbd", call)
    except DataError as error:
        call.note(f"{error.what}, so that VOC's own labels are prepared alone\n{error.why}")
        return None


def _holder(devkit: Path) -> Path:
    """The folder that VOCdevkit is in, or VOC2012 where there is no VOCdevkit; seen from here if the devkit is."""
    whole = Path(os.path.abspath(devkit))
    holder = whole.parent.parent if whole.parent.name == "VOCdevkit" else whole.parent
    return holder if devkit.is_absolute() else Path(os.path.relpath(holder))


def locate_cityscapes(call: Call) -> tuple[Path, Path]:
    """The folders leftImg8bit and gtFine. DataError with the way to them where they are not."""
    named, before = bool(call.source or call.archive), call.before
    if before and not named and all((call.root / before[part]).is_dir() for part in ("images", "labels")):
        return call.root / before["images"], call.root / before["labels"]
    places = [call.unpack(file) for file in call.archive] + [place for place in (call.source,) if place]
    if not named:
        seen = call.look(STREETS)
        own = [call.root, *call.unpacked()]
        lacking = [kind for kind in (cityscapes.IMAGES, cityscapes.MASKS) if not cityscapes.find_one(own, kind)]
        near = [folder for folder in seen.folders if any((folder / kind).is_dir() for kind in lacking)]
        places = [*own, *(call.take("found", folder, seen, "--source") for folder in near[:1]), *near[1:]]
        for kind in lacking:
            packed = next((file for file in seen.archives if file.name.startswith(kind)), None)
            if packed and not cityscapes.find_one(places, kind):
                places.append(call.take("found", packed, Seen(), "--archive"))
    if found := cityscapes.find(places):
        return found
    where = ", ".join(map(str, [call.source] if call.source else call.archive))
    why = f"no leftImg8bit and gtFine in {where}" if named else _nowhere(call, "leftImg8bit", "gtFine")
    raise DataError("Cityscapes is not at hand", why=why, fix=ways_to_cityscapes(call))


def ways(call: Call) -> str:
    """What brings VOC 2012, as commands."""
    lines = {
        preparing(call.name, "voc", call.root, "--download"):
            f"fetches VOC, {voc.ARCHIVE.size / 1e9:.1f} GB, and SBD's labels, {sbd.ARCHIVE.size / 1e9:.1f} GB",
        preparing(call.name, "voc", call.root, "--source", "DIR"): "VOCdevkit, unpacked elsewhere",
        preparing(call.name, "voc", call.root, "--archive", "FILE"): f"{voc.ARCHIVE.name}, from elsewhere",
    }  # fmt: skip
    return "\n    ".join(["one of", *(f"{line}    # {what}" for line, what in lines.items())])


def ways_to_cityscapes(call: Call) -> str:
    """What brings Cityscapes: it needs a registration."""
    images, masks = f"{cityscapes.IMAGES}_trainvaltest.zip", f"{cityscapes.MASKS}_trainvaltest.zip"
    line = preparing(call.name, "cityscapes", call.root)
    return f"""register at https://www.cityscapes-dataset.com/register/ (free for research), download {images} (11 GB)
    and {masks} (241 MB) to the folder you are in, then
    {line}    # finds them, packed or unpacked
    {line} --source DIR    # leftImg8bit and gtFine, unpacked elsewhere
    {line} --archive {images} --archive {masks}    # from elsewhere"""


def _nowhere(call: Call, *names: str) -> str:
    """Where data were looked for."""
    here = f"in {call.around.absolute()}, below it or beside it, nor " if call.around else ""
    return f"neither {' nor '.join(names)} {here}below {call.root}"


def _fetch(item: Published, option: str, call: Call) -> Path:
    """A published archive, downloaded and unpacked; at once where that has been done."""
    folder = archives.unpacked(Path(item.name), call.root)
    if archives.is_complete(folder):
        return folder
    try:
        with call.progress(f"downloading {item.name} (MB)", round(item.size / 1e6)) as advance:
            file = download(item, call.root / "downloads", note=call.note, advance=advance)
    except DataError as error:
        if not error.fix:
            line = preparing(call.name, "voc", call.root, option, item.name)
            error.fix = f"get it in another way, then {line}"
        raise
    call.note(f"{file} can be removed once this is done")
    return call.unpack(file)
