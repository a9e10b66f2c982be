"""What lies below a folder: images, and by kind what is none; linked folders once, loops never."""

import os
from pathlib import Path

import pytest

from semiseg_cli.core.data import listing
from semiseg_cli.core.data.listing import leads_to, left_out, look_below
from semiseg_cli.core.errors import DataError


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture
def bare(monkeypatch):
    """Without what reads HEIC and AVIF."""
    monkeypatch.setattr(listing, "find_spec", lambda name: None)
    monkeypatch.setattr(listing.features, "check", lambda name: False)
    listing.suffixes.cache_clear()
    yield
    monkeypatch.undo()
    listing.suffixes.cache_clear()


def test_what_is_no_image_is_counted_by_kind(tmp_path, bare):
    touch(*(tmp_path / name for name in ("a.jpg", "b/c.PNG", "IMG.HEIC", "b/2.heif", "x.avif", "clip.MOV", "raw.NEF")))
    touch(*(tmp_path / name for name in ("notes.txt", "more.txt", "README", ".hidden.heic", ".cache/d.jpg")))
    found = look_below(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found.files] == ["a.jpg", "b/c.PNG"]
    assert found.others == {
        "HEIC": 2, ".txt": 2, "AVIF": 1, "video": 1, "camera raw": 1, "without a suffix": 1,
    }  # fmt: skip
    line = left_out(Path("in"), found.others.items())
    assert line.startswith("not read in in: 2 .txt, 2 HEIC (pip install pillow-heif), 1 AVIF")
    assert left_out(tmp_path, []) == ""


def test_linked_folders_are_looked_at_once(tmp_path):
    touch(tmp_path / "elsewhere/deep/a.jpg", tmp_path / "photos/b.jpg", tmp_path / "photos/own/c.jpg")
    photos = tmp_path / "photos"
    (photos / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (photos / "twice").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (photos / "own" / "loop").symlink_to(photos, target_is_directory=True)
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "photos", target_is_directory=True)
    found = look_below(photos)
    assert [path.relative_to(photos).as_posix() for path in found.files] == [
        "b.jpg", "linked/deep/a.jpg", "own/c.jpg",
    ]  # fmt: skip
    assert found.others == {"link to a folder that is there already": 3}


def test_a_folder_that_is_linked_and_below_is_found_under_one_name(tmp_path):
    touch(tmp_path / "z/a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "z", target_is_directory=True)
    assert [path.name for path in look_below(tmp_path).files] == ["a.jpg"]


def test_folders_that_are_others(tmp_path):
    touch(tmp_path / "a.jpg", tmp_path / "masks/a.png")
    assert [path.name for path in look_below(tmp_path, {(tmp_path / "masks").resolve()}).files] == ["a.jpg"]


def test_broken_links_and_special_files_are_counted(tmp_path):
    touch(tmp_path / "a.jpg")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "linked.jpg").symlink_to(tmp_path / "a.jpg")
    os.mkfifo(tmp_path / "pipe.png")
    found = look_below(tmp_path)
    assert [path.name for path in found.files] == ["a.jpg", "linked.jpg"]
    assert found.others == {"broken link": 1, "special file": 1}


def test_a_folder_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    touch(tmp_path / "mine/a.jpg", tmp_path / "yours/b.jpg")
    scan = os.scandir

    def denied(place):
        if str(place).endswith("yours"):
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DataError, match="yours cannot be read") as caught:
        look_below(tmp_path)
    assert caught.value.why == "Permission denied"


def test_links_in_a_circle_end(tmp_path):
    touch(tmp_path / "a.jpg")
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    assert [path.name for path in look_below(tmp_path).files] == ["a.jpg"]
    with pytest.raises(DataError, match="one cannot be read"):
        look_below(tmp_path / "one")
    assert leads_to(tmp_path / "a.jpg") == (tmp_path / "a.jpg").resolve()


def test_predictions_among_the_photos_are_no_photos(tmp_path):
    touch(tmp_path / "a.jpg", tmp_path / "out/labels/a.png", tmp_path / "out/overlays/a.jpg")
    assert len(look_below(tmp_path).files) == 3
    touch(tmp_path / "out/overlays/legend.png")
    found = look_below(tmp_path)
    assert [path.name for path in found.files] == ["a.jpg"]
    assert found.others == {"folder of predictions": 1}
    assert [path.name for path in look_below(tmp_path / "out/labels").files] == ["a.png"]
