"""`prepare_voc` on tiny trees: what becomes a dataset, how it grows by SBD, what is refused, how it goes on."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from trees import MORE, SIZE, TRAIN, VAL, augmented_tree, labels, packed, palette_png, photo, sbd_tree, voc_tree

from semiseg_cli.core.data.index import load_dataset, manifest, write_dataset
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.errors import DataError, Interrupted, SemisegError
from semiseg_cli.core.sources import sbd, voc
from semiseg_cli.stages import convert, locate
from semiseg_cli.stages.prepare import notes
from semiseg_cli.stages.prepare_voc import prepare_voc


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return voc_tree(tmp_path / "there")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids that were converted, in the order in which they were."""
    ids: list[str] = []

    def noted(task: convert.Task, *more: object, **how: bool) -> object:
        ids.append(task.id)
        return original(task, *more, **how)

    original = convert.convert
    monkeypatch.setattr(convert, "convert", noted)
    return ids


def mask_of(record: Record) -> np.ndarray:
    """As the loader reads it."""
    assert record.mask is not None
    return cv2.imread(str(record.mask), cv2.IMREAD_UNCHANGED)


def ids(records: tuple[Record, ...]) -> list[str]:
    return [record.id for record in records]


def state(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob("*")}


def check(data: Dataset, more: bool) -> None:
    """VOC's own labels with their void; SBD's for the others, none of which is in val."""
    assert ids(data.train) == [*TRAIN, *(MORE if more else ())]
    assert ids(data.val) == list(VAL)
    for record in (*data.train, *data.val):
        expected = labels(f"sbd {record.id}", void=False) if record.id in MORE else labels(record.id)
        assert np.array_equal(mask_of(record), expected)
        assert record.pixels == tuple(np.bincount(expected.ravel(), minlength=256)[:21])
        assert (record.height, record.width) == SIZE
    assert (data.root / "lists" / "fine.txt").read_text().split() == list(TRAIN)


@pytest.mark.parametrize("below", [".", "VOC2012"])
def test_vocs_own_labels(root: Path, tree: Path, below: str) -> None:
    data = prepare_voc(root, source=tree / below)
    check(data, more=False)
    assert data.kind == "voc"
    assert data.classes[15] == "person"
    assert data.palette[15] == (192, 128, 128)
    assert data.train[0].image == tree / "VOC2012/JPEGImages" / f"{TRAIN[0]}.jpg", "photos stay where they are"
    assert sorted(os.listdir(data.root)) == ["dataset.toml", "index.safetensors", "index.tsv", "lists", "masks"]
    without, counts = manifest(data.root)["notes"]
    assert without == "without SBD: 3 training images instead of 10,582"
    assert f"semiseg prepare voc --download --root {root}" in notes(data)[-1]
    assert counts == "VOC 2012 has 1,464 train and 1,449 val images, these lists 3 and 2"


FORMS = ["cls", "dataset", "png", "png parent", "tgz", "png.zip", "in the devkit", "archives", "masks"]


@pytest.mark.parametrize("form", FORMS)
def test_sbd_in_every_form(root: Path, tmp_path: Path, tree: Path, form: str) -> None:
    if form == "masks":  # an archive of all 12,031 masks under the name of VOC's own folder
        augmented_tree(tmp_path).rename(tmp_path / "SegmentationClass")
        masks = packed(tmp_path / "SegmentationClass", tmp_path / "SegmentationClass.zip")
        data = prepare_voc(root, archive=[masks, packed(tree, tmp_path / "voc.tar")])
    elif form == "in the devkit":
        augmented_tree(tree / "VOC2012")
        data = prepare_voc(root, source=tree)
    elif form == "archives":
        files = [packed(tree, tmp_path / "voc.tar"), packed(sbd_tree(tmp_path), tmp_path / "benchmark.tgz")]
        data = prepare_voc(root, archive=files)
    else:
        given = {
            "cls": lambda: sbd_tree(tmp_path),
            "dataset": lambda: sbd_tree(tmp_path) / "dataset",
            "png": lambda: augmented_tree(tmp_path),
            "png parent": lambda: augmented_tree(tmp_path / "x").parent,
            "tgz": lambda: packed(sbd_tree(tmp_path), tmp_path / "benchmark.tgz"),
            "png.zip": lambda: packed(augmented_tree(tmp_path), tmp_path / "SegmentationClassAug.zip"),
        }[form]()
        data = prepare_voc(root, source=tree, sbd=given)
    check(data, more=True)
    assert not any("without SBD" in note for note in manifest(data.root)["notes"])


def test_sbds_own_photos_serve_where_voc_lacks_them(root: Path, tmp_path: Path) -> None:
    tree = voc_tree(tmp_path / "there", photos=(*TRAIN, *VAL))
    sbd = sbd_tree(tmp_path)
    with pytest.raises(DataError, match="2 of 2 images that SBD labels are missing"):
        prepare_voc(root, source=tree, sbd=sbd)
    for id in MORE:
        photo(sbd / "dataset" / "img" / f"{id}.jpg", id)
    data = prepare_voc(root, source=tree, sbd=sbd)
    check(data, more=True)
    assert data.train[-1].image.parent == sbd / "dataset" / "img"


def test_a_second_run_changes_nothing(root: Path, tree: Path, tmp_path: Path, converted: list[str]) -> None:
    sbd = sbd_tree(tmp_path)
    first = prepare_voc(root, source=tree, sbd=sbd)
    before, count = state(first.root), len(converted)
    for more in ({"source": tree, "sbd": sbd}, {"source": tree}, {"sbd": sbd}, {}):
        assert prepare_voc(root, **more) == first
    assert state(first.root) == before
    assert len(converted) == count == 7


def test_sbd_is_added_later(root: Path, tree: Path, tmp_path: Path, converted: list[str]) -> None:
    data = prepare_voc(root, source=tree)
    (data.root / "splits" / "mine").mkdir(parents=True)
    before = {file: when for file, when in state(data.root).items() if file.startswith("masks/")}
    converted.clear()
    grown = prepare_voc(root, sbd=sbd_tree(tmp_path))
    check(grown, more=True)
    assert sorted(converted) == list(MORE)
    after = state(data.root)
    assert {file: after[file] for file in before} == before, "what was prepared is not written again"
    assert (data.root / "splits" / "mine").is_dir()


def test_what_is_prepared_stays_while_sbd_cannot_be_added(root: Path, tree: Path, tmp_path: Path) -> None:
    before = prepare_voc(root, source=tree)
    sbd = sbd_tree(tmp_path)
    broken = sbd / "dataset" / "cls" / f"{MORE[1]}.mat"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="1 file cannot be used") as caught:
        prepare_voc(root, sbd=sbd)
    assert str(broken) in caught.value.why
    assert str(sbd) in caught.value.fix
    assert prepare_voc(root) == before == load_dataset(root, "voc")
    broken.write_bytes(whole)
    check(prepare_voc(root, sbd=sbd), more=True)


@pytest.mark.parametrize("done", [0, 3])
def test_an_interrupted_run_is_gone_on_with(
    root: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, converted: list[str], done: int
) -> None:
    counted, sbd = convert.convert, sbd_tree(tmp_path)

    def stops(task: convert.Task, *more: object, **how: bool) -> object:
        if len(converted) == done:
            raise KeyboardInterrupt
        return counted(task, *more, **how)

    monkeypatch.setattr(convert, "on_all_cores", lambda work, tasks: tuple(map(work, tasks)))
    monkeypatch.setattr(convert, "convert", stops)
    with pytest.raises(Interrupted) as caught:
        prepare_voc(root, source=tree, sbd=sbd)
    assert caught.value.code == 130
    with pytest.raises(DataError, match="no prepared dataset 'voc'"):
        load_dataset(root, "voc")
    (root / "voc" / "masks").mkdir(exist_ok=True)
    (root / "voc" / "masks" / f"{MORE[0]}.png").write_bytes(b"half a mask")  # as a kill leaves it
    with (root / "voc" / "unfinished.tsv").open("a") as file:
        file.write(f"{MORE[1]}\ttrain\t/half a li")
    monkeypatch.setattr(convert, "convert", counted)
    check(prepare_voc(root, source=tree, sbd=sbd), more=True)
    assert len(converted) == len({*converted}) == 7, "every image once"
    assert not (root / "voc" / "unfinished.tsv").exists()


def test_a_beginning_from_elsewhere_is_begun_anew(root: Path, tree: Path, tmp_path: Path) -> None:
    broken = tree / "VOC2012/JPEGImages" / f"{VAL[0]}.jpg"
    broken.write_bytes(b"no image")
    with pytest.raises(DataError):
        prepare_voc(root, source=tree)
    other = voc_tree(tmp_path / "elsewhere")
    palette_png(other / "VOC2012/SegmentationClass" / f"{TRAIN[0]}.png", labels("other"))
    data = prepare_voc(root, source=other)
    assert np.array_equal(mask_of(data.train[0]), labels("other"))


def test_a_lost_mask_of_a_beginning_is_made_again(root: Path, tree: Path) -> None:
    broken = tree / "VOC2012/JPEGImages" / f"{VAL[0]}.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(b"no image")
    with pytest.raises(DataError):
        prepare_voc(root, source=tree)
    (root / "voc" / "masks" / f"{TRAIN[0]}.png").write_bytes(b"")
    (root / "voc" / "masks" / f"{TRAIN[1]}.png").unlink()
    broken.write_bytes(whole)
    check(prepare_voc(root, source=tree), more=False)


def test_from_an_archive_that_moves_with_the_data_root(root: Path, tree: Path, tmp_path: Path) -> None:
    archive = packed(tree, tmp_path / "VOCtrainval_11-May-2012.tar")
    shutil.rmtree(tree.parent)
    data = prepare_voc(root, archive=[archive])
    check(data, more=False)
    assert prepare_voc(root, archive=[archive]) == data
    lines = (data.root / "index.tsv").read_text().splitlines()
    assert all("\t../unpacked/VOCtrainval_11-May-2012/VOCdevkit/VOC2012/JPEGImages/" in line for line in lines[1:])
    root.rename(tmp_path / "moved")
    moved = prepare_voc(tmp_path / "moved")
    check(moved, more=False)
    assert all(record.image.is_file() for record in moved.train)
    assert prepare_voc(tmp_path / "moved", archive=[archive]) == moved


def test_what_was_lost_after_unpacking_comes_back_with_the_archive(root: Path, tree: Path, tmp_path: Path) -> None:
    archive = packed(tree, tmp_path / "VOCtrainval_11-May-2012.tar")
    lost = prepare_voc(root, archive=[archive]).train[0].image
    lost.unlink()
    shutil.rmtree(root / "voc")
    with pytest.raises(DataError, match="1 of 5 images are missing") as caught:
        prepare_voc(root)
    assert f"--archive {archive.name}" in caught.value.fix
    check(prepare_voc(root, archive=[archive]), more=False)
    assert lost.is_file()


def test_an_image_listed_twice_is_told(root: Path, tree: Path) -> None:
    names = tree / "VOC2012" / TRAIN_LIST
    names.write_bytes("".join(f"{id}\r\n" for id in (*TRAIN, TRAIN[0])).encode())
    with pytest.warns(UserWarning, match=r"train\.txt names 1 image more than once"):
        check(prepare_voc(root, source=tree), more=False)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_lists_of_pairs_of_paths_as_other_code_writes_them(root: Path, tree: Path, encoding: str) -> None:
    for part, ids in (("train", TRAIN), ("val", VAL)):
        lines = "".join(f"/JPEGImages/{id}.jpg /SegmentationClass/{id}.png\n" for id in ids)
        (tree / "VOC2012" / f"ImageSets/Segmentation/{part}.txt").write_bytes(lines.encode(encoding))
    check(prepare_voc(root, source=tree), more=False)


def test_what_lies_below_the_data_root_is_found(root: Path, tmp_path: Path) -> None:
    voc_tree(root)
    data = prepare_voc(root)
    check(data, more=False)
    assert "\t../VOCdevkit/VOC2012/" in (data.root / "index.tsv").read_text()


def lose(name: str) -> Callable[[Path], None]:
    return lambda devkit: shutil.rmtree(devkit / name) if (devkit / name).is_dir() else (devkit / name).unlink()


TRAIN_LIST = "ImageSets/Segmentation/train.txt"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lose("JPEGImages"), "JPEGImages is incomplete: 5 of 5 images are missing"),
        (lose("SegmentationClass"), "SegmentationClass is incomplete: 5 of 5 masks are missing"),
        (lose("ImageSets"), r"incomplete: there is no .*train\.txt"),
        (lose(f"JPEGImages/{TRAIN[1]}.jpg"), f"1 of 5 images are missing: {TRAIN[1]}.jpg"),
        (lose(f"SegmentationClass/{VAL[1]}.png"), f"1 of 5 masks are missing: {VAL[1]}.png"),
        (lambda devkit: (devkit / TRAIN_LIST).write_text("\n"), r"train\.txt is empty"),
        (lambda devkit: (devkit / TRAIN_LIST).write_text(f"{VAL[0]}\r\n"), f"share 1 image: {VAL[0]}"),
    ],
)
def test_a_half_unpacked_devkit(root: Path, tree: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(tree / "VOC2012")
    with pytest.raises(DataError) as caught:
        prepare_voc(root, source=tree)
    assert re.search(said, f"{caught.value.what}: {caught.value.why}")
    assert "--archive VOCtrainval_11-May-2012.tar" in caught.value.fix
    assert not (root / "voc").exists()


def bad_value(devkit: Path, id: str) -> None:
    palette_png(devkit / "SegmentationClass" / f"{id}.png", np.full(SIZE, 21, np.uint8))


def other_size(devkit: Path, id: str) -> None:
    palette_png(devkit / "SegmentationClass" / f"{id}.png", np.zeros((24, 30), np.uint8))


def cut_photo(devkit: Path, id: str) -> None:
    path = devkit / "JPEGImages" / f"{id}.jpg"
    path.write_bytes(path.read_bytes()[:-40])


def cut_mask(devkit: Path, id: str) -> None:
    path = devkit / "SegmentationClass" / f"{id}.png"
    path.write_bytes(path.read_bytes()[:-60])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (bad_value, "masks have values outside the 21 classes"),
        (other_size, "image and mask differ in size"),
        (cut_photo, "cannot be used"),
        (cut_mask, "cannot be used"),
    ],
)
def test_files_that_cannot_be_used_are_all_named(root: Path, tree: Path, damage: Callable, said: str) -> None:
    for id in (TRAIN[1], VAL[0]):
        damage(tree / "VOC2012", id)
    with pytest.raises(DataError, match=f"2 files.*{said}") as caught:
        prepare_voc(root, source=tree)
    assert TRAIN[1] in caught.value.why
    assert VAL[0] in caught.value.why
    assert "unpack VOCtrainval_11-May-2012.tar again" in caught.value.fix
    assert not (root / "voc" / "dataset.toml").exists()


def test_colour_masks_are_understood(root: Path, tree: Path) -> None:
    """Some pass VOC's masks on as RGB, with the colours of its palette."""
    path = tree / "VOC2012/SegmentationClass" / f"{TRAIN[0]}.png"
    Image.open(path).convert("RGB").save(path)
    check(prepare_voc(root, source=tree), more=False)


@pytest.mark.parametrize("kind", ["absent", "empty", "other"])
def test_sbd_that_is_none(root: Path, tree: Path, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "sbd"
    if kind != "absent":
        place.mkdir()
    if kind == "other":
        (place / "readme.txt").touch()
    with pytest.raises(DataError, match="holds no labels of SBD") as caught:
        prepare_voc(root, source=tree, sbd=place)
    assert "--sbd DIR|FILE" in caught.value.fix
    assert not (root / "voc").exists()


def test_without_data_all_ways_are_told(root: Path, tmp_path: Path) -> None:
    for more in ({}, {"source": tmp_path}, {"sbd": sbd_tree(tmp_path)}):
        with pytest.raises(DataError) as caught:
            prepare_voc(root, **more)
        for way in ("--source DIR", "--archive FILE", "--download"):
            assert f"semiseg prepare voc {way} --root {root}" in caught.value.fix


def test_something_else_of_that_name_is_left_alone(root: Path, tree: Path, tmp_path: Path) -> None:
    (root / "voc").mkdir(parents=True)
    (root / "voc" / "mine.txt").touch()
    with pytest.raises(DataError, match="is not a prepared dataset"):
        prepare_voc(root, source=tree)
    write_dataset(Dataset("voc", "folder", root / "voc", ("a", "b"), ((0, 0, 0), (1, 1, 1)), (), ()), {"source": {}})
    with pytest.raises(DataError, match="prepared differently"):
        prepare_voc(root, source=tree)
    prepare_voc(root, source=tree, name="other")
    with pytest.raises(DataError, match="prepared differently") as caught:
        prepare_voc(root, source=tree, sbd=sbd_tree(tmp_path), name="voc")
    assert caught.value.fix == "choose another name: --name voc-2"


def test_download(root: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is fetched is tested in test_download.py; here: what it is fetched for, and SBD that cannot be had."""
    offered = {"VOCtrainval_11-May-2012.tar": packed(tree, tmp_path / "v.tar")}
    asked: list[str] = []

    def fetched(item: object, folder: Path, **_: object) -> Path:
        asked.append(item.name)
        if item.name not in offered:
            raise DataError(f"{item.name} could not be downloaded", why="tried:\nhttps://a: gone\nhttps://b: gone")
        folder.mkdir(exist_ok=True, parents=True)
        return Path(shutil.copy(offered[item.name], folder / item.name))

    notes: list[str] = []
    monkeypatch.setattr(locate, "download", fetched)
    check(prepare_voc(root, fetch=True, note=notes.append), more=False)
    said = "\n".join(notes)
    assert "benchmark.tgz could not be downloaded, so that VOC's own labels are prepared alone" in said
    assert "https://b: gone" in said
    offered["benchmark.tgz"] = packed(sbd_tree(tmp_path), tmp_path / "s.tgz")
    check(prepare_voc(root, fetch=True), more=True)
    shutil.rmtree(root / "downloads")
    check(prepare_voc(root, fetch=True), more=True)
    assert asked == ["VOCtrainval_11-May-2012.tar", "benchmark.tgz", "benchmark.tgz"]
    del offered["VOCtrainval_11-May-2012.tar"]
    with pytest.raises(SemisegError) as caught:
        prepare_voc(tmp_path / "new", fetch=True)
    line = f"semiseg prepare voc --archive VOCtrainval_11-May-2012.tar --root {tmp_path / 'new'}"
    assert caught.value.fix.endswith(line)


def test_a_downloaded_archive_is_the_published_one() -> None:
    """Addresses as in torchvision 0.29; digests as in torchvision's prototype datasets."""
    from torchvision.datasets import SBDataset
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    assert voc.ARCHIVE.sha256 == "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb"
    assert voc.ARCHIVE.urls[0] == DATASET_YEAR_DICT["2012"]["url"]
    assert voc.ARCHIVE.name == DATASET_YEAR_DICT["2012"]["filename"]
    assert sbd.ARCHIVE.sha256 == "6a5a2918d5c73ce032fdeba876574d150d9d04113ab87540a1304cbcc715be53"
    assert sbd.ARCHIVE.urls[0] == SBDataset.url
