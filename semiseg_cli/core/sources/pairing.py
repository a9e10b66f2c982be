"""Which mask belongs to which image, told from their names.

The usual endings are taken file by file. Where they leave masks over, one affix that pairs all masks of the folder is
looked for: a prefix or suffix of the masks, of the images, or of both (x_L, x_0000 with x, image_1 with mask_1), or the
image's suffix within the mask's name (x.jpg.png). Where there is none, what says nothing is left out of the names one
after the other, as long as they stay different: folders called images and masks, all folders, case and leading zeros.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import partial
from itertools import islice
from pathlib import Path
from unicodedata import normalize

from semiseg_cli.core.data.names import shared_start
from semiseg_cli.core.errors import DataError

ENDINGS = ("", "_mask", "_label")
PHOTOS = (".jpg", ".jpeg", ".jpe", ".jfif", ".heic", ".heif", ".hif", ".avif")  # lossy: masks are none of these
_MASK_WORD = re.compile(
    r"(?<![a-z])(masks?|labels?|lbl|gt|seg|segmentation|segmap|ground_?truth|truth|annotations?|anno|target|manual|L)"
    r"(?![a-z])",
    re.IGNORECASE,
)
_ROLE = re.compile(
    r"(images?|imgs?|jpegimages|photos?|pictures?|pics|frames|rgb|raw|inputs?|masks?|labels?|gt|ground_?truth|seg"
    r"|segmentations?|segmentationclass|segmentationobject|annotations?|anno?|targets?)",
    re.IGNORECASE,
)  # folders
_TRIED = 2000  # images whose names are compared with a mask's
_SHOWN = 50  # images for which several masks are looked for, to name them


@dataclass(frozen=True, order=True)
class Rule:
    """The name of an image is `before + core + after`, that of its mask `mask_before + core + mask_after`.

    whole: the image's name includes its suffix.
    """

    before: str = ""
    after: str = ""
    mask_before: str = ""
    mask_after: str = ""
    whole: bool = False

    def __str__(self) -> str:
        name = "NAME.SUFFIX" if self.whole else "NAME"
        return f"{self.mask_before}{name}{self.mask_after} for {self.before}{name}{self.after}"

    def image_of(self, mask: str) -> str | None:
        """The name of the image of this mask; None where the mask is not named by this rule."""
        folder, name = _split(mask)
        core = name[len(self.mask_before) : len(name) - len(self.mask_after)]
        fits = core and name == f"{self.mask_before}{core}{self.mask_after}"
        return f"{folder}{self.before}{core}{self.after}" if fits else None


@dataclass(frozen=True)
class Pairing:
    """The id of the mask of each image that has one, and what was found out about their names, if anything was."""

    masks: Mapping[str, str]
    said: str = ""


def pair(images: Mapping[str, Path], masks: Mapping[str, Path]) -> Pairing:
    """Pair images and masks by id. Raises DataError where one could belong to several others."""
    usual = _by_endings(images, masks)
    if not masks.keys() - usual.values():
        return Pairing(usual)
    if found := _by_affix(images, masks):
        return Pairing(found[0], f"masks are named {found[1]}")
    return next(_by_less(images, masks, usual), Pairing(usual))


def _by_less(images: Mapping[str, Path], masks: Mapping[str, Path], usual: Mapping[str, str]) -> Iterator[Pairing]:
    """Pairings of all masks by names without what says nothing; they contradict none of the `usual` pairs."""
    flat = not all(any("/" in _without_roles(id) for id in ids) for ids in (images, masks))
    manners: list[tuple[str, Callable[[str], str]]] = [("the words images and masks of folders", _without_roles)]
    if flat:  # images and masks of two folders with other names may be of different photos
        manners.append(("their folders", lambda id: _split(id)[1]))
    manners += [(f"{what}, case and leading zeros", partial(_folded, key)) for what, key in manners]
    for what, key in manners:
        ours, theirs = ({key(id): id for id in ids} for ids in (images, masks))
        if len(ours) < len(images) or len(theirs) < len(masks):
            continue
        try:
            found = _by_affix({name: images[id] for name, id in ours.items()}, dict.fromkeys(theirs, Path()))
        except DataError:  # in two ways
            continue
        pairs = {ours[image]: theirs[mask] for image, mask in found[0].items()} if found else {}
        if found and usual.items() <= pairs.items():
            named = f" and named {found[1]}" if found[1] != Rule() else ""
            yield Pairing(pairs, f"masks are matched without {what}{named}")


def _without_roles(id: str) -> str:
    *folders, name = id.split("/")
    return "/".join([*(folder for folder in folders if not _ROLE.fullmatch(folder)), name])


def _folded(key: Callable[[str], str], id: str) -> str:
    """The same for `IMG_7` and `img_007`."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", key(id).casefold())


def _by_endings(images: Mapping[str, Path], masks: Mapping[str, Path]) -> dict[str, str]:
    pairs, owner = dict[str, str](), dict[str, str]()
    for id in images:
        fitting = [id + ending for ending in ENDINGS if id + ending in masks]
        if len(fitting) > 1:
            raise DataError(f"{images[id]} has several masks", why=", ".join(str(masks[mask]) for mask in fitting))
        for mask in fitting:
            if mask in owner:
                both = f"{images[owner[mask]]} and {images[id]}"
                raise DataError(f"{masks[mask]} could be the mask of two images", why=both, fix="rename one")
            pairs[id], owner[mask] = mask, id
    return pairs


def _by_affix(images: Mapping[str, Path], masks: Mapping[str, Path]) -> tuple[dict[str, str], Rule] | None:
    """Image ids to mask ids by the one rule that gives every mask an image of its own; None where there is none.

    Raises DataError where several do, each another way.
    """
    ids = sorted(masks)
    names = {False: {id: id for id in images}, True: {f"{id}{path.suffix}": id for id, path in images.items()}}
    ways = dict[tuple[str, ...], tuple[dict[str, str], Rule]]()
    for rule in sorted(set(_candidates(images, {ids[0], ids[len(ids) // 2], ids[-1]}))):
        pairs = _by_rule(rule, names[rule.whole], ids)
        if len(pairs) == len(ids) and _is_fair(rule, images, pairs):
            ways.setdefault(tuple(pairs), (pairs, rule))
    if len(ways) > 1:
        (_, one), (_, other), *_ = ways.values()
        what = "the names of masks and images fit in two ways"
        raise DataError(what, why=f"{one}, or {other}", fix="give each mask the name of its image")
    return next(iter(ways.values()), None)


def _by_rule(rule: Rule, names: Mapping[str, str], masks: Sequence[str]) -> dict[str, str]:
    """Image ids to mask ids, as far as the rule goes: to the first mask without an image. names: image ids by name."""
    pairs = dict[str, str]()
    for mask in masks:
        image = rule.image_of(mask)
        if image is None or image not in names:
            return pairs
        pairs[names[image]] = mask
    return pairs


def _is_fair(rule: Rule, images: Iterable[str], pairs: Mapping[str, str]) -> bool:
    """Whether a rule that pairs all masks is more than chance.

    What is taken from the images all of them have; one mask alone has whole words for affixes.
    """
    names = [_split(id)[1] for id in images]
    if not all(name.startswith(rule.before) and name.endswith(rule.after) for name in names):
        return False
    alone = len(pairs) == 1 and not rule.whole
    return not (alone and (rule.before or rule.after or _cuts(rule, _split(*pairs)[1], str.isalpha)))


def _candidates(images: Mapping[str, Path], some: Iterable[str]) -> Iterator[Rule]:
    """Rules under which one of these masks belongs to some image beside it."""
    for mask in some:
        folder, name = _split(mask)
        beside = [(_split(id)[1], path.suffix) for id, path in images.items() if _split(id)[0] == folder]
        for image, suffix in beside[:_TRIED]:
            if name.startswith(whole := f"{image}{suffix}"):
                yield Rule(mask_after=name[len(whole) :], whole=True)
            match = SequenceMatcher(None, image, name, autojunk=False).find_longest_match()
            before, after = shared_start(image, name), shared_start(image[::-1], name[::-1])
            for first, mask_first, size in (
                (match.a, match.b, match.size), (0, 0, before), (len(image) - after, len(name) - after, after),
            ):  # fmt: skip
                core = image[first : first + size]
                rule = Rule(image[:first], image[first + size :], name[:mask_first], name[mask_first + size :])
                if core and not _cuts(rule, core, str.isdigit):
                    yield rule


def _cuts(rule: Rule, core: str, kind: Callable[[str], bool]) -> bool:
    """Whether an affix of a rule ends within a number (`str.isdigit`), or a word (`str.isalpha`)."""
    borders = [(affix[-1:], core[0]) for affix in (rule.before, rule.mask_before)]
    borders += [(core[-1], affix[:1]) for affix in (rule.after, rule.mask_after)]
    return any(kind(left) and kind(right) for left, right in borders)


def parted(paths: Sequence[Path], folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Images and masks of one folder by id: told apart by their suffix (x.jpg, x.png), or by a word of masks in names.

    Raises DataError where they cannot be.
    """
    ids = [(normalize("NFC", path.relative_to(folder).with_suffix("").as_posix()), path) for path in paths]
    photos = {id: path for id, path in ids if path.suffix.lower() in PHOTOS}
    others = {id: path for id, path in ids if path.suffix.lower() not in PHOTOS}
    if len(photos) + len(others) == len(ids) and others and others.keys() <= photos.keys():
        return photos, others
    parts: tuple[Callable[[str], str], ...] = (lambda id: _split(id)[1], lambda id: _split(id)[0])
    for part in parts:
        masks = {id: path for id, path in ids if _MASK_WORD.search(part(id))}
        images = {id: path for id, path in ids if id not in masks}
        if len(masks) + len(images) == len(ids) and images and masks and len(pair(images, masks).masks) == len(masks):
            return images, masks
    raise DataError(
        f"{folder} is given for images and for masks, and their names do not tell them apart",
        why=f"such as {', '.join(path.name for path in paths[:4])}" if paths else "there is no image in it",
        fix="name them x.jpg and x_mask.png, or put the masks into another folder",
    )


def differing_in_case(images: Iterable[str], masks: Iterable[str]) -> str:
    """A hint where a mask without an image differs from an image without a mask in upper and lower case alone."""
    lower = {image.lower(): image for image in images}
    found = [(mask, lower[mask.lower()]) for mask in masks if mask.lower() in lower]
    return f"; {found[0][0]} and {found[0][1]} differ in case" if found else ""


def several_kinds(images: Iterable[str], masks: Iterable[str]) -> list[str]:
    """The masks whose names begin with that of one image, where it has several: x_color and x_labelIds."""
    names = sorted(masks)
    patterns = [re.compile(rf"{re.escape(id)}[^\w/]?[_\W]\w+") for id in islice(images, _SHOWN)]
    groups = ([mask for mask in names if pattern.fullmatch(mask)] for pattern in patterns)
    return next((group for group in groups if len(group) > 1), [])


def _split(id: str) -> tuple[str, str]:
    """The folder of an id, with its slash, and the name in it."""
    folder, slash, name = id.rpartition("/")
    return folder + slash, name
