"""What is given as masks and is something else: it is named, and what is said to paste gives the masks meant."""

import json
import shlex
import subprocess

import numpy as np
import pytest
from PIL import Image

from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.errors import DataError
from semiseg_cli.core.sources.codes import parse_codes
from semiseg_cli.core.sources.told import Told
from semiseg_cli.stages.prepare import notes, prepare_folder

TRUTH = [np.random.default_rng(i).integers(0, 3, (8, 8), np.uint8).repeat(4, 0).repeat(4, 1) for i in range(5)]
COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
NAMED = {"names": {"7": "road", "24": "person", "26": "car"}}


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def given(tmp_path):
    """The arguments of `prepare_folder`; masks are written by each test."""
    for i, truth in enumerate(TRUTH):
        save(tmp_path / f"photos/ulm/ulm_{i}_leftImg8bit.png", np.repeat(truth[:, :, None] * np.uint8(90 + i), 3, 2))
    (tmp_path / "c.json").write_text(json.dumps(NAMED))
    places = {"labeled": tmp_path / "photos", "masks": tmp_path / "masks", "classes": tmp_path / "c.json"}
    return {"root": tmp_path / "data", "name": "x", **places}


def right(given):
    """Whether all masks are as they were meant."""
    data = load_dataset(given["root"], "x")
    records = [*data.labeled, *data.val]
    numbers = {record.id.split("_")[-2] if "_left" in record.id else record.id: record for record in records}
    return len(records) == 5 and all(
        np.array_equal(np.array(Image.open(numbers[str(i)].mask)), truth) for i, truth in enumerate(TRUTH)
    )


def cityscapes(folder, *kinds):
    drawn = {"labelIds": [7, 24, 26], "instanceIds": [7, 24000, 26003]}
    for i, truth in enumerate(TRUTH):
        for kind in kinds:
            path = folder / f"ulm/ulm_{i}_gtFine_{kind}"
            if kind == "polygons":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_suffix(".json").write_text('{"imgHeight": 32, "imgWidth": 32, "objects": []}')
            elif kind == "color":
                save(path.with_suffix(".png"), COLOURS[truth])
            else:
                save(path.with_suffix(".png"), np.array(drawn[kind], np.uint16 if kind[0] == "i" else np.uint8)[truth])


def test_all_kinds_of_cityscapes_files_at_once(given):
    cityscapes(given["masks"], "color", "instanceIds", "labelIds", "polygons")
    with pytest.raises(DataError, match="no labeled image") as caught:
        prepare_folder(**given)
    assert caught.value.fix.startswith("these are Cityscapes' files, of which one kind counts: mkdir ")
    assert "semiseg prepare cityscapes --source DIR" in caught.value.fix
    line, _, new = caught.value.fix.partition(": ")[2].partition(" and --masks ")
    subprocess.run(line, shell=True, check=True)
    prepare_folder(**given | {"masks": given["masks"].with_name(shlex.split(new)[0].rsplit("/")[-1].rstrip(";"))})
    assert right(given)


def test_polygons_are_no_masks(given):
    cityscapes(given["masks"] / "gtFine", "polygons")
    with pytest.raises(DataError, match="no annotations that are read") as caught:
        prepare_folder(**given | {"masks": given["masks"] / "gtFine/ulm"})
    assert "polygons in Cityscapes' form" in caught.value.fix
    assert f"CITYSCAPES_DATASET={given['masks']} csCreateTrainIdLabelImgs" in caught.value.fix


def test_folders_of_labelmes_export(given):
    for i, truth in enumerate(TRUTH):
        save(given["masks"] / f"ulm_{i}_json/label.png", truth)
        save(given["masks"] / f"ulm_{i}_json/img.png", truth)
    with pytest.raises(DataError, match="no labeled image") as caught:
        prepare_folder(**given)
    assert "give LabelMe's JSON files themselves as --masks" in caught.value.fix


def test_annotations_of_no_kind_that_is_read(given):
    """As V7 writes them."""
    darwin = '{"version": "2.0", "item": {"name": "ulm_0.png"}, "annotations": [{"name": "car", "polygon": {}}]}'
    text = given["masks"] / "ulm/ulm_0.json"
    text.parent.mkdir(parents=True, exist_ok=True)
    text.write_text(darwin)
    with pytest.raises(DataError, match="no annotations that are read") as caught:
        prepare_folder(**given)
    assert f"{text} holds no pixels: annotations are read as COCO, LabelMe" in caught.value.fix


def test_instance_ids_are_named_also_one_of_a_class_that_is_none(given):
    cityscapes(given["masks"], "instanceIds")
    path = given["masks"] / "ulm/ulm_0_gtFine_instanceIds.png"
    save(path, np.where(TRUTH[0] == 1, 33001, np.array([7, 24000, 26003])[TRUTH[0]]).astype(np.uint16))
    with pytest.raises(DataError, match="values outside") as caught:
        prepare_folder(**given)
    said = caught.value.fix
    assert said.startswith("values from 1000 on are instance ids, class * 1000 + number, as of Cityscapes' instanceIds")
    words = shlex.split(said.partition("instanceIds: ")[2].partition(" takes")[0])
    assert words == ["--map", "24000-24999=1", "--map", "26000-26999=2", "--map", "33000-33999=255"]
    told = {code: int(word.split("=")[1]) for word in words[1::2] for code in parse_codes(word.split("=")[0])}
    save(path, np.array([7, 24999, 26000], np.uint16)[TRUTH[0]])
    prepare_folder(**given, told=Told(map=told))
    assert right(given)


def test_no_data_is_no_instance(given):
    for i, truth in enumerate(TRUTH):
        save(given["masks"] / f"ulm/ulm_{i}_leftImg8bit.png", np.array([7, 24, 65535], np.uint16)[truth])
    with pytest.raises(DataError) as caught:
        prepare_folder(**given)
    assert caught.value.fix.startswith("--map '65535=255' to ignore")


def test_photos_among_the_masks(given):
    for i, truth in enumerate(TRUTH):
        save(given["masks"] / f"ulm/ulm_{i}_leftImg8bit.png", np.array([7, 24, 26], np.uint8)[truth])
    photo = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    save(given["masks"] / "ulm/ulm_3_leftImg8bit.png", photo)
    with pytest.raises(DataError) as caught:
        prepare_folder(**given)
    assert "1 of these files look like photos and no masks" in caught.value.fix
    assert "ulm_3_left" in caught.value.fix
    large = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)  # more colours than are counted
    save(given["masks"] / "ulm/ulm_3_leftImg8bit.png", large)
    save(given["labeled"] / "ulm/ulm_3_leftImg8bit.png", large)
    with pytest.raises(DataError, match="1 file cannot be used") as caught:
        prepare_folder(**given)
    assert "a photo or a measurement, and no mask" in caught.value.why


def test_cut_out_photos(given):
    for i, truth in enumerate(TRUTH):
        photo = np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8)
        save(given["masks"] / f"ulm/ulm_{i}_leftImg8bit.png", np.dstack([photo, np.uint8(255) * (truth > 0)]))
    with pytest.raises(DataError) as caught:
        prepare_folder(**given)
    assert "5 of these files are cut-out photos; what they show as a mask: mkdir " in caught.value.fix
    assert "-alpha extract" in caught.value.fix


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m[::2, ::2], "-sample '32x32!'"),
        (lambda m: m.repeat(2, 0).repeat(2, 1), "-sample '32x32!'"),
        (lambda m: m[:, :20], "cut in different ways"),
    ],
)
def test_masks_of_another_size(given, change, said):
    for i, truth in enumerate(TRUTH):
        save(given["masks"] / f"ulm/ulm_{i}_leftImg8bit.png", change(np.array([7, 24, 26], np.uint8)[truth]))
    with pytest.raises(DataError, match="differ in size") as caught:
        prepare_folder(**given)
    assert said in caught.value.fix


def test_jpeg_masks_of_known_colours_where_the_nearest_is_asked_for(given, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps({"names": ["road", "person", "car"], "palette": COLOURS.tolist()}))
    for i, truth in enumerate(TRUTH):
        save(given["masks"] / f"ulm/ulm_{i}_leftImg8bit.jpg", COLOURS[truth], quality=85, subsampling=0)
    with pytest.raises(DataError) as caught:
        prepare_folder(**given)
    assert "--unknown nearest" in caught.value.why
    data = prepare_folder(**given, told=Told(unknown="nearest"))
    assert right(given)  # at borders of blocks of 8 pixels, which these are, JPEG smears nothing to another class
    (said, *_) = notes(data)
    assert "pixels (" in said
    assert "5 of the masks are lossy, such as JPEG" in said


def test_jpeg_masks_of_black_and_white_are_colours_too(given, tmp_path):
    table = {"names": ["road", "person", "car"], "palette": [[0, 0, 0], [255, 255, 255], [128, 128, 128]]}
    (tmp_path / "c.json").write_text(json.dumps(table))
    for i, truth in enumerate(TRUTH):
        save(given["masks"] / f"ulm/ulm_{i}_leftImg8bit.jpg", np.array([1, 254, 128], np.uint8)[truth], quality=100)
    prepare_folder(**given, told=Told(unknown="nearest"))
    assert right(given)


@pytest.mark.parametrize("table", [NAMED, {"names": ["a", "b", "c"]}])
def test_jpeg_masks_of_values_stay_refused(given, tmp_path, table):
    (tmp_path / "c.json").write_text(json.dumps(table))
    for i, truth in enumerate(TRUTH):
        save(given["masks"] / f"ulm/ulm_{i}_leftImg8bit.jpg", truth, quality=95)
    with pytest.raises(DataError, match="5 files cannot be used") as caught:
        prepare_folder(**given, told=Told(unknown="nearest"))
    assert "lossy compression smears labels" in caught.value.why
