"""`prepare folder` on small folders of every kind of trouble."""

import json
import os
import shlex
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.core.sources.colours import distinct
from semiseg_cli.core.sources.folder import Folders, gather
from semiseg_cli.core.sources.told import Told
from semiseg_cli.stages import prepare
from semiseg_cli.stages.prepare import notes, prepare_folder

HEIGHT, WIDTH = 12, 16


def photo(seed, size=(HEIGHT, WIDTH)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def mask(seed, classes=3, size=(HEIGHT, WIDTH)):
    return np.random.default_rng(seed).integers(0, classes, size, np.uint8)


@pytest.fixture
def given(tmp_path):
    """Ten labeled images, four others, two for validation, three classes: the arguments of `prepare_folder`."""
    for i in range(10):
        save(tmp_path / f"labeled/{i}.png", photo(i))
        save(tmp_path / f"masks/{i}.png", mask(i))
    for i in range(4):
        save(tmp_path / f"pool/p{i}.jpg", photo(100 + i))
    for i in range(2):
        save(tmp_path / f"val/v{i}.png", photo(200 + i))
        save(tmp_path / f"val_masks/v{i}.png", mask(200 + i))
    (tmp_path / "classes.txt").write_text("sky\n\nroad\r\ncar\n")
    names = {"labeled": "labeled", "masks": "masks", "unlabeled": "pool", "val": "val", "val_masks": "val_masks"}
    rest = {"root": tmp_path / "data", "name": "mine", "classes": tmp_path / "classes.txt"}
    return {key: tmp_path / name for key, name in names.items()} | rest


def ids(records):
    return [record.id for record in records]


def pixels(path):
    with Image.open(path) as image:
        return np.array(image)


def test_it_all_arrives(given):
    data = prepare_folder(**given)
    assert data.classes == ("sky", "road", "car")
    assert data.palette == distinct(3)
    assert ids(data.labeled) == [str(i) for i in range(10)]
    assert ids(data.train[10:]) == ["p0", "p1", "p2", "p3"]
    assert all(record.mask is None for record in data.train[10:])
    assert ids(data.val) == ["v0", "v1"]
    assert notes(data) == ["masks: 12 grey by value (0 is 'sky', 2 is 'car')"]
    for i, record in enumerate(data.labeled):
        assert record.image.read_bytes() == (given["labeled"] / f"{i}.png").read_bytes()
        assert np.array_equal(pixels(record.mask), mask(i))
        assert record.pixels == tuple(np.bincount(mask(i).ravel(), minlength=3))
    assert os.listdir(given["root"]) == ["mine"]


def test_a_second_run_is_ready_and_another_one_says_what_differs(given, monkeypatch):
    first = prepare_folder(**given)
    monkeypatch.setattr(prepare, "copy", None)  # nothing is converted again
    start = time.perf_counter()
    assert prepare_folder(**given) == first
    assert time.perf_counter() - start < 1
    with pytest.raises(DataError, match="prepared differently") as caught:
        prepare_folder(**given, long_side=8)
    assert caught.value.why == "long_side: 1024 there, 8 here"
    os.utime(given["masks"] / "3.png", (1, 1))
    with pytest.raises(DataError) as caught:
        prepare_folder(**given)
    assert caught.value.why == "files: an image or mask was added, removed or changed since (by its name, size or time)"
    given["classes"].write_text(given["classes"].read_text() + "\n")
    with pytest.raises(DataError, match="prepared differently") as caught:
        prepare_folder(**given)
    assert "; classes: the file of the classes is another one" in f"; {caught.value.why}"
    with pytest.raises(DataError, match="prepared differently") as caught:
        prepare.prepare_shapes(given["root"], name="mine")
    assert caught.value.why == "kind: folder there, shapes here"


def test_a_folder_that_is_something_else_stays_untouched(given):
    keep = given["root"] / "mine" / "thesis.txt"
    keep.parent.mkdir(parents=True)
    keep.write_text("precious")
    with pytest.raises(DataError, match="not a prepared dataset"):
        prepare_folder(**given)
    assert keep.read_text() == "precious"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError("no space left on device")])
def test_an_interrupted_run_leaves_nothing(given, monkeypatch, failure):
    def fail(*arguments):
        raise failure

    monkeypatch.setattr(prepare, "write_dataset", fail)
    with pytest.raises((KeyboardInterrupt, DataError)):
        prepare_folder(**given)
    assert os.listdir(given["root"]) == []
    monkeypatch.undo()
    assert len(prepare_folder(**given).train) == 14


def test_large_images_are_reduced_with_their_masks(given):
    rows = np.repeat(np.arange(3, dtype=np.uint8), 40)[:, None].repeat(60, 1)
    save(given["labeled"] / "0.png", photo(1, (120, 60)))
    save(given["masks"] / "0.png", rows)
    record = prepare_folder(**given, long_side=30).train[0]
    assert (record.height, record.width) == (30, 15)
    assert record.image.suffix == ".jpg"
    assert pixels(record.image).shape == (30, 15, 3)
    assert np.array_equal(pixels(record.mask), np.repeat(np.arange(3), 10)[:, None].repeat(15, 1))


def test_a_reduced_mask_takes_the_pixels_at_the_centres(given):
    """Of three by three the middle one: taken at a corner the mask would lie beside its photo."""
    drawn = mask(0, size=(27, 36))
    save(given["labeled"] / "0.png", photo(1, (27, 36)))
    save(given["masks"] / "0.png", drawn)
    record = prepare_folder(**given, long_side=12).train[0]
    assert np.array_equal(pixels(record.mask), drawn[1::3, 1::3])


@pytest.mark.parametrize("drawn_on", ["stored", "upright"])
def test_a_mask_turns_with_its_photo_only_if_drawn_on_the_stored_pixels(given, drawn_on):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    stored = mask(5)
    upright = np.rot90(stored, -1)
    save(given["labeled"] / "0.png", np.repeat(stored[:, :, None] * 100, 3, 2), exif=exif)
    save(given["masks"] / "0.png", stored if drawn_on == "stored" else upright.copy())
    record = prepare_folder(**given).train[0]
    assert (record.height, record.width) == (WIDTH, HEIGHT)
    assert np.array_equal(pixels(record.mask), upright)
    assert abs(pixels(record.image)[:, :, 0].astype(int) - upright * 100).mean() < 30


def test_every_unreadable_file_is_listed(given):
    for name in ("labeled/3.png", "pool/p1.jpg", "val_masks/v0.png"):
        path = given["root"].parent / name
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match="2 files") as caught:
        prepare_folder(**given)
    for name in ("3.png", "v0.png"):
        assert name in caught.value.why
    assert "p1.jpg" not in caught.value.why  # without a label: it would be left out


def test_sizes_differ(given):
    save(given["masks"] / "4.png", mask(4, size=(HEIGHT, WIDTH - 1)))
    with pytest.raises(DataError, match="differ in size") as caught:
        prepare_folder(**given)
    assert "4.png is 16x12" in caught.value.why
    assert "15x12" in caught.value.why


def test_values_outside_the_classes_come_with_a_histogram(given):
    strange = mask(4)
    strange[0, :5] = 7
    save(given["masks"] / "4.png", strange)
    strange[0, :2] = 9
    save(given["val_masks"] / "v0.png", strange)
    with pytest.raises(DataError, match="2 files: masks have values outside the 3 classes") as caught:
        prepare_folder(**given)
    assert caught.value.why.startswith("7 (8 pixels), 9 (2 pixels)\n")
    assert "--map '7=255' --map '9=255'" in caught.value.fix
    data = prepare_folder(**given, told=Told(map={7: 255, 9: 2}))
    assert (pixels(data.train[4].mask)[0, :5] == 255).all()
    assert (pixels(data.val[0].mask)[0, :2] == 2).all()


def test_ignored_values_become_255(given):
    save(given["masks"] / "0.png", np.full((HEIGHT, WIDTH), 99, np.uint8))
    data = prepare_folder(**given, told=Told(ignore=99))
    assert (pixels(data.train[0].mask) == 255).all()
    assert data.train[0].pixels == (0, 0, 0)


def test_a_map_to_no_class(given):
    with pytest.raises(UsageError, match="there is no class 3"):
        prepare_folder(**given, told=Told(map={255: 3}))


def test_a_class_is_a_class_where_its_value_is_ignored(given):
    data = prepare_folder(**given, told=Told(ignore=0, map={1: 0, 2: 1}))
    expected = np.array([255, 0, 1], np.uint8)
    assert all(np.array_equal(pixels(data.train[i].mask), expected[mask(i)]) for i in range(10))
    assert data.train[0].pixels[0] > 0


def test_another_ignored_value_is_no_target(given):
    with pytest.raises(UsageError, match="there is no class 99") as caught:
        prepare_folder(**given, told=Told(ignore=99, map={2: 99}))
    assert "255 for pixels that count nowhere" in caught.value.fix


def test_a_value_that_is_ignored_and_a_class(given):
    with pytest.raises(UsageError, match="--ignore 2 and --map 2=1 contradict") as caught:
        prepare_folder(**given, told=Told(ignore=2, map={2: 1}))
    assert "leave one of them out" in caught.value.fix
    assert prepare_folder(**given, told=Told(ignore=2, map={2: 255})).train[0].pixels[2] == 0


PALETTE = np.array([[0, 0, 0], [128, 64, 0], [0, 0, 255]], np.uint8)


def test_colour_masks_are_translated_by_their_palette(given):
    for folder in ("masks", "val_masks"):
        for path in given[folder].iterdir():
            save(path, PALETTE[pixels(path)])
    with pytest.raises(DataError, match="outside the 3 classes") as caught:
        prepare_folder(**given)
    assert "palette" in caught.value.fix
    assert "#804000" in caught.value.why
    given["classes"] = given["root"].parent / "classes.json"
    given["classes"].write_text(json.dumps({"names": ["sky", "road", "car"], "palette": PALETTE.tolist()}))
    data = prepare_folder(**given)
    assert np.array_equal(pixels(data.train[3].mask), mask(3))
    assert data.palette == tuple(map(tuple, PALETTE.tolist()))


def test_the_classes_file_may_name_the_ignored_value(given):
    given["classes"] = given["root"].parent / "classes.json"
    given["classes"].write_text(json.dumps({"names": ["sky", "road"], "ignore_index": 2, "licence": "CC0"}))
    data = prepare_folder(**given)
    assert np.array_equal(pixels(data.train[0].mask) == 255, mask(0) == 2)
    assert data.licence == "CC0"


def test_no_validation_images_holds_out_a_fifth(given):
    given |= {"val": None, "val_masks": None}
    data = prepare_folder(**given)
    assert (len(data.labeled), len(data.val)) == (8, 2)
    assert set(ids(data.labeled)) | set(ids(data.val)) == {str(i) for i in range(10)}
    held = ", ".join(ids(data.val))
    assert notes(data)[1:] == [f"2 of 10 labeled images held out for validation (no --val): {held}"]


def test_folders_called_val_are_told(given):
    for i in range(4):
        for kind, pixels_of in (("labeled", photo), ("masks", mask)):
            save(given[kind] / f"{'val' if i == 3 else 'train'}/n{i}.png", pixels_of(20 + i))
    some = "1 labeled image in folders called val, taken like all others"
    assert not any(some in note for note in notes(prepare_folder(**given))), "others were given"
    given |= {"val": None, "val_masks": None, "name": "other"}
    assert any(some in note for note in notes(prepare_folder(**given)))


def test_equal_pictures_are_held_out_together(given):
    given |= {"val": None, "val_masks": None, "unlabeled": None}
    for i in range(10):  # five pictures, each twice, under names and formats that differ
        save(given["labeled"] / f"{i}.png", photo(i // 2), optimize=bool(i % 2))
    data = prepare_folder(**given)
    assert sorted(int(id) // 2 for id in ids(data.val)) == [int(ids(data.val)[0]) // 2] * 2


def test_one_labeled_image_is_too_few_to_hold_out(given):
    for i in range(1, 10):
        (given["masks"] / f"{i}.png").unlink()
    with pytest.raises(DataError, match="one labeled image"):
        prepare_folder(**given | {"val": None, "val_masks": None})


def test_a_picture_for_training_and_validation(given):
    save(given["val"] / "v1.png", photo(3), optimize=True)
    with pytest.raises(DataError, match="share pictures: 1") as caught:
        prepare_folder(**given)
    assert caught.value.why == "3 = v1"


def test_pool_pictures_that_are_labeled_or_validation_are_left_out(given):
    save(given["unlabeled"] / "again.png", photo(3))
    save(given["unlabeled"] / "val.png", photo(201))
    data = prepare_folder(**given)
    assert ids(data.train[10:]) == ["p0", "p1", "p2", "p3"]
    assert notes(data)[1:] == ["2 images of the pool left out: equal to a labeled or validation image: again, val"]
    assert sorted(path.stem for path in (data.root / "images").iterdir()) == sorted(ids(data.train + data.val))


def test_images_without_a_mask_join_the_pool(given):
    for i in (2, 7):
        (given["masks"] / f"{i}.png").unlink()
    (given["val_masks"] / "v1.png").unlink()
    save(given["masks"] / "stray.png", mask(0))
    data = prepare_folder(**given)
    assert len(data.labeled) == 8
    assert ids(data.train[8:]) == ["2", "7", "p0", "p1", "p2", "p3"]
    assert ids(data.val) == ["v0"]
    _, stray, joined, left = notes(data)
    assert stray == f"1 mask in {given['masks']} has no image: not used: stray"
    assert joined == f"2 images in {given['labeled']} without a mask: part of the unlabeled pool: 2, 7"
    assert left == f"1 image in {given['val']} without a mask: left out: v1"


def test_no_mask_fits(given):
    for i, path in enumerate(sorted(given["masks"].iterdir())):
        path.rename(path.with_name(f"{'abcdefghij'[i]}.png"))
    with pytest.raises(DataError, match="no labeled image") as caught:
        prepare_folder(**given)
    assert "images: 0, 1, 2" in caught.value.why
    assert "masks: a, b" in caught.value.why
    (given["masks"] / "a.json").write_text("{}")
    with pytest.raises(DataError) as caught:
        prepare_folder(**given)
    assert "a.json holds no pixels" in caught.value.fix


def test_many_classes_without_a_pixel_are_shortened(given):
    given["classes"].write_text("".join(f"c{k}\n" for k in range(20)))
    absent = "c3, c4, c5, c6, c7 and 12 more (17 of 20 classes)"
    assert notes(prepare_folder(**given))[1:] == [
        f"no pixel in the labeled images: {absent}",
        f"no pixel in the validation images: {absent}",
    ]


def test_classes_without_a_pixel_are_noted(given):
    given["classes"].write_text("sky\nroad\ncar\nplane\nship\n")
    assert notes(prepare_folder(**given))[1:] == [
        "no pixel in the labeled images: plane, ship",
        "no pixel in the validation images: plane, ship",
    ]


def folders(tmp_path, *files, **more):
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(os.fsencode(file))
    places = {"labeled": tmp_path / "i", "masks": tmp_path / "m"} | {key: tmp_path / name for key, name in more.items()}
    return Folders(**places)


def test_masks_match_by_name_or_ending(tmp_path):
    sources = gather(folders(tmp_path, "i/a/1.jpg", "i/2.JPG", "i/3.png", "m/a/1.png", "m/2_mask.png", "m/3_label.tif"))
    found = {source.id: source.mask.name for source in sources.labeled}
    assert found == {"a/1": "1.png", "2": "2_mask.png", "3": "3_label.tif"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["i/1.jpg", "m/1.png", "m/1_mask.png"], "several masks"),
        (["i/1.jpg", "i/1_mask.jpg", "m/1_mask.png"], "two images"),
        (["i/1.jpg", "i/1.png", "m/1.png"], "named as another but for the suffix"),
        (["i/1.jpg"], "there is no folder"),
        (["i/1.jpg", "m"], "m is not a folder"),
        (["i/1\n2.jpg", "m/1.png"], "has a tab or a line break in its name"),
        (["i/1\udce9.jpg", "m/1\udce9.png"], "1 file has a name in no UTF-8"),
    ],
)
def test_names_that_leave_a_choice(tmp_path, files, message):
    with pytest.raises(DataError, match=message):
        gather(folders(tmp_path, *files))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("m.zip", "unpack it: unzip {0}/m.zip -d {0}/m"),
        ("m.tar.gz", "unpack it: mkdir -p {0}/m.tar && tar -xf {0}/m.tar.gz -C {0}/m.tar"),
        ("1.png", "name the folder: {0}"),
    ],
)
def test_an_archive_or_a_file_given_as_a_folder(tmp_path, name, said):
    (tmp_path / name).write_bytes(b"x")
    folders(tmp_path, "i/1.jpg")
    with pytest.raises(DataError, match="is not a folder") as caught:
        gather(Folders(tmp_path / "i", tmp_path / name))
    assert caught.value.fix.startswith(said.format(tmp_path))


def test_folders_within_each_other(tmp_path):
    (tmp_path / "i").mkdir()
    place = Folders(tmp_path / "i", tmp_path / "i/masks", unlabeled=tmp_path / "i/more")
    for file in ("1.jpg", "2.jpg", "masks/1.png", "more/3.jpg", ".hidden.jpg", "notes.txt"):
        (tmp_path / "i" / file).parent.mkdir(exist_ok=True)
        (tmp_path / "i" / file).write_bytes(file.encode())
    sources = gather(place)
    assert [source.id for source in sources.labeled] == ["1"]
    assert [source.id for source in sources.pool] == ["2", "3"]
    with pytest.raises(DataError, match="images and for masks"):
        gather(Folders(tmp_path / "i/more", tmp_path / "i/more"))
    with pytest.raises(UsageError, match="go together"):
        gather(Folders(tmp_path / "i", tmp_path / "i/masks", val=tmp_path / "i/more"))


def test_equal_names_in_two_folders(tmp_path):
    files = ("i/1.jpg", "m/1.png", "u/1.jpg", "u/2.jpg", "v/1.jpg", "w/1.png")
    sources = gather(folders(tmp_path, *files, unlabeled="u", val="v", val_masks="w"))
    assert [source.id for source in sources.pool] == ["unlabeled/1", "unlabeled/2"]
    assert [source.id for source in sources.val] == ["val/1"]
    (tmp_path / "u/1.jpg").write_bytes((tmp_path / "i/1.jpg").read_bytes())  # the pool holds the labeled ones, too
    sources = gather(folders(tmp_path, unlabeled="u", val="v", val_masks="w"))
    assert [source.id for source in sources.pool] == ["2"]
    (tmp_path / "u/2.jpg").unlink()
    sources = gather(folders(tmp_path, unlabeled="u", val="v", val_masks="w"))
    assert sources.pool == ()
    assert "unlabeled images: all 1 are there already, under the same names, and none is new" in sources.notes


def test_files_of_one_name_are_all_named_and_one_is_renamed_as_is_said(tmp_path):
    names = ("i/1.jpg", "i/1.png", "i/2.JPG", "i/2.jpg", "i/3.png", "m/1.png", "m/2.png")
    with pytest.raises(DataError, match="2 files in") as caught:
        gather(folders(tmp_path, *names))
    assert caught.value.why.count(" and ") == 2
    (tmp_path / "i/2.JPG").unlink()
    with pytest.raises(DataError, match="1 file in") as caught:
        gather(folders(tmp_path))
    subprocess.run(shlex.split(caught.value.fix.partition(": ")[2]), check=True)
    sources = gather(folders(tmp_path))
    assert [source.id for source in sources.pool] == ["1-png", "3"]


def test_photos_without_a_mask_that_annotations_label_are_refused(given, tmp_path):
    """They would be trained on as unlabeled; annotations of photos that have a mask, and files without a shape, say
    nothing new."""
    (given["masks"] / "3.png").unlink()
    corners = [[0, 0], [9, 0], [9, 9]]

    def annotate(folder, name, shapes):
        table = {"shapes": shapes, "imagePath": f"{name}.png", "imageHeight": HEIGHT, "imageWidth": WIDTH}
        (folder / f"{name}.json").write_text(json.dumps(table))

    shape = {"label": "road", "points": corners, "shape_type": "polygon"}
    annotate(given["masks"], "4", [shape])
    annotate(given["labeled"], "3", [])
    assert len(gather(Folders(given["labeled"], given["masks"])).labeled) == 9
    for folder in (given["masks"], given["labeled"]):  # LabelMe saves beside the photo
        annotate(folder, "3", [shape])
        with pytest.raises(DataError, match=r"1 photo without a mask in .* and annotations label it: 3") as error:
            prepare_folder(**given)
        subprocess.run(error.value.fix.partition("move them away: ")[2], shell=True, check=True)
    assert "3" in [record.id for record in prepare_folder(**given).train if record.mask is None]


def test_what_lies_in_place_of_masks_is_told(tmp_path):
    with pytest.raises(DataError, match="no labeled image") as caught:
        gather(folders(tmp_path, "i/1.jpg", "m/1.npy", "m/2.npy"))
    assert caught.value.why == f"images: 1; masks: none (not read in {tmp_path / 'm'}: 2 .npy)"


def test_a_folder_as_another_shell_would_name_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folders(tmp_path, "i/1.jpg", "m/1.png")
    for name in ("~/m", f"{tmp_path}\\m"):
        with pytest.raises(DataError, match="there is no folder") as caught:
            gather(Folders(tmp_path / "i", Path(name)))
        assert caught.value.fix == f"name it as {tmp_path / 'm'}"
