"""`prepare folder` and the photos themselves: 16 bits, files that cannot be read, what is left out, linked folders."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import semiseg_cli
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.data.photos import read_image
from semiseg_cli.core.errors import DataError
from semiseg_cli.stages.prepare import notes, prepare_folder

SIZE = (24, 32)


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """Six labeled photos of two classes, three without labels: the arguments of `prepare_folder`."""
    rng = np.random.default_rng(0)
    for part, count in (("labeled", 6), ("pool", 3)):
        (tmp_path / part).mkdir()
        for i in range(count):
            image = Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8))
            image.save(tmp_path / part / f"{part[0]}{i}.png")
    (tmp_path / "masks").mkdir()
    for i in range(6):
        Image.fromarray(rng.integers(0, 2, SIZE, np.uint8)).save(tmp_path / "masks" / f"l{i}.png")
    (tmp_path / "classes.txt").write_text("a\nb\n")
    return {
        "root": tmp_path / "data", "name": "mine", "labeled": tmp_path / "labeled", "masks": tmp_path / "masks",
        "unlabeled": tmp_path / "pool", "classes": tmp_path / "classes.txt",
    }  # fmt: skip


def thermal(path: Path, low: int, high: int) -> np.ndarray:
    values = np.linspace(low, high, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint16)
    cv2.imwrite(str(path), values)
    return values


def test_16_bits_have_one_range_for_the_folder(given: dict[str, Any]) -> None:
    """Two photos of different temperatures: what is warmer stays brighter, and the whole range is used."""
    cold = thermal(given["labeled"] / "l0.png", 7000, 8000)
    warm = thermal(given["unlabeled"] / "p0.png", 7500, 9000)
    data = prepare_folder(**given)
    low, high = data.levels
    assert low == pytest.approx(7000, abs=10)
    assert high == pytest.approx(9000, abs=10)
    assert load_dataset(given["root"], "mine").levels == data.levels
    by_id = {record.id: read_image(record.image)[:, :, 0] for record in (*data.train, *data.val)}
    for id, values in (("l0", cold), ("p0", warm)):
        wanted = (values.astype(float) - low).clip(0, high - low) / (high - low) * 255
        assert np.abs(by_id[id] - wanted).max() < 8  # JPEG
    (said,) = [note for note in notes(data) if "16 bits" in note]
    assert f"2 photos of 16 bits a channel, from {low} to {high}" in said


def test_a_range_that_somebody_gives(given: dict[str, Any]) -> None:
    thermal(given["labeled"] / "l0.png", 100, 200)
    thermal(given["labeled"] / "l1.png", 0, 4095)
    data = prepare_folder(**given, levels=(0, 4095))
    assert data.levels == (0, 4095)
    (said,) = [note for note in notes(data) if "16 bits" in note]
    assert "1 of 2 photos of 16 bits has next to nothing between 0 and 4095" in said
    assert str(given["labeled"] / "l0.png") in said
    assert prepare_folder(**given, levels=(0, 4095)) == data
    with pytest.raises(DataError, match="prepared differently"):
        prepare_folder(**given)


def test_the_whole_range_stays_and_what_shows_little_in_it_is_told(given: dict[str, Any]) -> None:
    thermal(given["labeled"] / "l0.png", 0, 65535)
    thermal(given["labeled"] / "l1.png", 0, 4095)
    data = prepare_folder(**given)
    assert data.levels == (0, 65535)
    assert "\nlevels = " not in (data.root / "dataset.toml").read_text()
    assert any("1 of 2 photos of 16 bits has next to nothing" in note for note in notes(data))


def test_a_bad_photo_without_a_label_is_left_out_and_named(given: dict[str, Any]) -> None:
    whole = (given["unlabeled"] / "p1.png").read_bytes()
    (given["unlabeled"] / "p1.png").write_bytes(whole[:100])
    (given["labeled"] / "bare.jpg").write_text("<html>404</html>")
    data = prepare_folder(**given)
    assert [record.id for record in data.train if not record.mask] == ["p0", "p2"]
    (said,) = [note for note in notes(data) if "cannot be read" in note]
    assert said.startswith("2 images without a label cannot be read and are left out: ")
    assert "p1.png" in said
    assert "bare.jpg" in said


def test_a_bad_labeled_photo_and_a_pool_of_bad_ones_stop(given: dict[str, Any]) -> None:
    for path in given["unlabeled"].iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of 3 unlabeled images can be read"):
        prepare_folder(**given)
    (given["labeled"] / "l2.png").write_bytes(b"")
    with pytest.raises(DataError, match="1 file cannot be used") as caught:
        prepare_folder(**given)
    assert "l2.png" in caught.value.why


def test_a_single_bad_photo_beside_the_labeled_ones_does_not_stop(given: dict[str, Any]) -> None:
    (given["labeled"] / "bare.jpg").write_bytes(b"")
    data = prepare_folder(**given | {"unlabeled": None})
    assert len(data.train) == len(data.labeled)
    assert any("1 image without a label cannot be read and is left out: " in note for note in notes(data))


def test_what_is_left_out_is_counted_and_links_are_followed(given: dict[str, Any], tmp_path: Path) -> None:
    (given["unlabeled"] / "clip.mp4").touch()
    (given["unlabeled"] / "notes.txt").touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Image.fromarray(np.full((*SIZE, 3), 9, np.uint8)).save(elsewhere / "far.png")
    (given["unlabeled"] / "more").symlink_to(elsewhere, target_is_directory=True)
    (elsewhere / "loop").symlink_to(given["unlabeled"], target_is_directory=True)
    data = prepare_folder(**given)
    assert [record.id for record in data.train if not record.mask] == ["more/far", "p0", "p1", "p2"]
    (said,) = [note for note in notes(data) if "not read in" in note]
    assert f"{given['unlabeled']}: 1 .txt, 1 link to a folder that is there already, 1 video" in said


def test_a_network_reads_16_bits_as_its_training_did(given: dict[str, Any], tmp_path: Path, configured: Any) -> None:
    """Kept with the checkpoint; `load` and `predict` see what training saw."""
    from semiseg_cli.core.training.checkpoint import load_network
    from semiseg_cli.stages.predict import predict_images
    from semiseg_cli.stages.train import train

    for i in range(6):
        thermal(given["labeled"] / f"l{i}.png", 7000, 8000 + 100 * i)
    data = prepare_folder(**given)
    train(
        configured("supervised", {"data.name": "mine", "train.steps": 1, "train.batch": 1}), data_root=given["root"],
        runs_root=tmp_path, out=tmp_path / "run", device="cpu",
    )  # fmt: skip
    _, meta = load_network(tmp_path / "run" / "last.safetensors")
    assert tuple(meta["data"]["levels"]) == data.levels
    photo = given["labeled"] / "l0.png"
    predict_images(tmp_path / "run", [photo], out=tmp_path / "out", device="cpu")
    net = semiseg_cli.load(tmp_path / "run" / "best.safetensors")
    labels = np.array(Image.open(tmp_path / "out" / "labels" / "l0.png"))
    assert np.array_equal(net(photo).numpy(), labels)
    assert np.array_equal(net(read_image(photo, data.levels)).numpy(), labels)
    assert not np.array_equal(read_image(photo, data.levels), read_image(photo))


@pytest.mark.parametrize("in_place", [False, True])
def test_of_a_photo_of_several_pages_it_is_said_that_one_is_taken(given: dict[str, Any], in_place: bool) -> None:
    whole = [Image.new("RGB", SIZE, (k, 0, 0)) for k in range(3)]
    whole[0].save(given["unlabeled"] / "stack.tif", save_all=True, append_images=whole[1:])
    small = [Image.new("RGB", size) for size in (SIZE, (SIZE[0] // 2, SIZE[1] // 2), SIZE)]
    small[2].encoderinfo = {"tiffinfo": {254: 4}}  # what is transparent of the first, as GDAL writes it
    small[0].save(given["unlabeled"] / "overview.tif", save_all=True, append_images=small[1:])
    data = prepare_folder(**given, in_place=in_place)
    (said,) = [note for note in notes(data) if "pages" in note]
    path = given["unlabeled"] / "stack.tif"
    assert said.startswith(f"1 photo of several pages, of which the first alone is taken: {path} has 3; ")
    assert "overview" not in said


def test_a_png_with_a_long_text_is_read(given: dict[str, Any]) -> None:
    """Photoshop keeps the history of a picture in it: Pillow takes 1 MiB."""
    text = PngInfo()
    text.add_text("Raw profile type xmp", "edited " * 300_000, zip=True)
    Image.new("RGB", SIZE[::-1]).save(given["unlabeled"] / "p0.png", pnginfo=text)
    assert "p0" in [record.id for record in prepare_folder(**given).train]
