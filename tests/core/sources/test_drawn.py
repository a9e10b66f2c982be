"""Masks of turned photos: drawn on the stored or on the upright pixels, as those say whose size proves it."""

import numpy as np
import pytest
from PIL import Image

from semiseg_cli.core.errors import DataError
from semiseg_cli.core.sources.classes import Classes
from semiseg_cli.core.sources.copies import Copy, Refusal, Source, copy
from semiseg_cli.core.sources.masks import agree, look_at
from semiseg_cli.core.sources.told import Told

STORED = {  # from upright pixels to those that are stored, by EXIF orientation
    1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
    5: lambda a: a.swapaxes(0, 1), 6: np.rot90,
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: lambda a: np.rot90(a, -1),
}  # fmt: skip
CLASSES = Classes(("a", "b", "c"))


def scene(number, square=False):
    return np.random.default_rng(number).integers(0, 3, (12, 12 if square else 16), np.uint8)


def save(path, pixels, exif=1):
    table = Image.Exif()
    table[0x0112] = exif
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, exif=table)
    return path


def folder(place, drawn, square=(), only=range(1, 9)):
    """A photo of each EXIF orientation, which shows its classes as levels of grey, and its mask drawn one way."""
    tasks = []
    for exif in only:
        upright = scene(exif, exif in square)
        photo = save(place / f"p/{exif}.png", np.repeat(STORED[exif](upright)[:, :, None] * 100, 3, 2), exif)
        how = drawn if isinstance(drawn, str) else drawn[exif]
        mask = save(place / f"m/{exif}.png", STORED[exif](upright) if how == "stored" else upright)
        tasks.append(Source(str(exif), photo, mask))
    return tasks


def copied(tasks, place, orientation=""):
    masks = agree([look_at(task.image, task.mask) for task in tasks], CLASSES, Told(orientation=orientation))
    done = [copy(task, place / "copies", masks, 0) for task in tasks]
    assert not [each for each in done if isinstance(each, Refusal)]
    return done, masks.notes[1:]


def right(done: list[Copy]) -> list[str]:
    """Which of them have the mask that belongs to their upright photo, by id."""
    found = []
    for each in done:
        photo, mask = (np.array(Image.open(path)) for path in (each.record.image, each.record.mask))
        if photo.shape[:2] == mask.shape and (abs(photo[:, :, 0] / 100 - mask) < 0.5).mean() > 0.95:
            found.append(each.record.id)
    return found


@pytest.mark.parametrize("drawn", ["stored", "upright"])
def test_masks_whose_size_proves_how_they_were_drawn_decide_for_the_others(tmp_path, drawn):
    done, notes = copied(folder(tmp_path, drawn, square=(5,)), tmp_path)
    assert right(done) == list("12345678")
    how, other = {"upright": ("photo as it is shown", "stored"), "stored": ("stored pixels", "upright")}[drawn]
    assert notes == (
        f"4 masks of photos that EXIF turns (2.png, 3.png, 4.png and 1 more) taken as drawn on the {how}, "
        f"as the size of 3 others proves; else --mask-orientation {other}",
    )


def test_without_a_proof_they_are_upright_and_that_is_said(tmp_path):
    only = (1, 2, 3, 4)
    done, notes = copied(folder(tmp_path / "u", "upright", only=only), tmp_path / "u")
    assert right(done) == list("1234")
    assert notes == (
        "3 masks of photos that EXIF turns (2.png, 3.png, 4.png) taken as drawn on the photo as it is shown, "
        "which no size proves, so look at one; else --mask-orientation stored",
    )
    done, notes = copied(folder(tmp_path / "s", "stored", only=only), tmp_path / "s", "stored")
    assert right(done) == list("1234")
    assert notes == (
        "3 masks of photos that EXIF turns (2.png, 3.png, 4.png) taken as drawn on the stored pixels, "
        "as --mask-orientation says",
    )


def test_square_photos_alone_prove_nothing_and_what_is_assumed_is_said(tmp_path):
    tasks = folder(tmp_path / "s", "stored", square=range(1, 9))
    done, notes = copied(tasks, tmp_path / "s")
    assert right(done) == ["1"]
    assert notes[0].startswith("7 masks of photos that EXIF turns (2.png, 3.png, 4.png and 4 more) taken as drawn on")
    done, _ = copied(tasks, tmp_path / "s", "stored")
    assert right(done) == list("12345678")


def test_what_is_asked_against_the_sizes_is_said(tmp_path):
    done, notes = copied(folder(tmp_path, "upright", square=(5,)), tmp_path, "stored")
    assert right(done) == list("1678")
    assert notes[0].startswith("--mask-orientation stored is against the size of 3 masks, such as ")


def test_proofs_that_contradict_each_other(tmp_path):
    drawn = dict.fromkeys(range(1, 9), "upright") | {6: "stored"}
    with pytest.raises(DataError, match="3 masks of turned photos") as caught:
        copied(folder(tmp_path / "a", drawn), tmp_path / "a")
    assert "6.png is drawn on the stored" in caught.value.why
    assert caught.value.fix.startswith("--mask-orientation upright")
    done, _ = copied(folder(tmp_path / "b", drawn), tmp_path / "b", "upright")
    assert right(done) == list("12345678")
    done, notes = copied(folder(tmp_path / "c", drawn, only=(1, 5, 6, 7)), tmp_path / "c")  # each by its own size
    assert right(done) == list("1567")
    assert notes == ()


def test_upright_photos_say_nothing(tmp_path):
    assert copied(folder(tmp_path, "upright", only=(1,)), tmp_path)[1] == ()


def test_a_mask_that_turns_itself_is_taken_as_it_is_shown(tmp_path):
    tasks = []
    for exif in (2, 6, 8):
        upright = scene(exif)
        photo = save(tmp_path / f"p/{exif}.png", np.repeat(upright[:, :, None] * 100, 3, 2))
        tasks.append(Source(str(exif), photo, save(tmp_path / f"m/{exif}.png", STORED[exif](upright), exif)))
    done, notes = copied(tasks, tmp_path)
    assert right(done) == list("268")
    assert notes == (
        "1 mask with an EXIF orientation of their own (2.png) taken as drawn on the stored pixels, "
        "as the size of 2 others proves; else --mask-orientation upright",
    )
