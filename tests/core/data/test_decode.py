"""Decoding of prepared files, and the cache that loader processes share."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from semiseg_cli.core.data.decode import Pixels, decode_image, decode_mask
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.errors import BadFile, DataError

SIZES = [(6, 8), (5, 4), (7, 7)]
BYTES = [h * w * 4 + 1 for h, w in SIZES]  # image, mask, and a byte that says "filled"


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    rng, made = np.random.default_rng(0), []
    for i, (height, width) in enumerate(SIZES):
        image, mask = tmp_path / f"{i}.png", tmp_path / f"{i}_mask.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(image)
        Image.fromarray(rng.integers(0, 5, (height, width), dtype=np.uint8)).save(mask)
        made.append(Record(str(i), image, mask, height, width))
    return made


def check(pixels: Pixels, records: Sequence[Record]) -> None:
    for i, record in enumerate(records):
        image, mask = pixels[i]
        assert np.array_equal(image, np.asarray(Image.open(record.image)))
        assert (mask is None) == (record.mask is None)
        if record.mask is not None:
            assert np.array_equal(mask, np.asarray(Image.open(record.mask)))


@pytest.mark.parametrize("limit", [0, 10, sum(BYTES[:1]), sum(BYTES[:2]), sum(BYTES), 10**6])
def test_pixels_are_right_whatever_fits(records: list[Record], limit: int) -> None:
    pixels = Pixels(records, limit)
    assert len(pixels) == 3
    check(pixels, records)
    check(pixels, records)
    assert len(pixels.block or b"") <= limit


def test_an_image_is_decoded_once(records: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = Pixels([replace(records[0], mask=None), *records[1:]], 10**6)
    check(pixels, pixels.records)
    monkeypatch.setattr(Pixels, "_decode", staticmethod(lambda record: pytest.fail("decoded again")))
    check(pixels, pixels.records)


def test_what_does_not_fit_is_decoded_every_time(records: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    decoded, real = list[str](), Pixels._decode
    monkeypatch.setattr(Pixels, "_decode", lambda self, record: (decoded.append(record.id), real(self, record))[1])
    pixels = Pixels(records, sum(BYTES[:2]) + 1)
    check(pixels, records)
    check(pixels, records)
    assert sorted(decoded) == ["0", "1", "2", "2"]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="only forked processes share memory")
def test_a_forked_process_fills_the_cache_of_all(records: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = Pixels(records, 10**6)
    child = multiprocessing.get_context("fork").Process(target=lambda: [pixels[i] for i in range(3)])
    child.start()
    child.join(30)
    assert child.exitcode == 0
    monkeypatch.setattr(Pixels, "_decode", staticmethod(lambda record: pytest.fail("decoded again")))
    check(pixels, records)


def test_a_spawned_process_starts_its_own(records: list[Record]) -> None:
    check(pickle.loads(pickle.dumps(Pixels(records, 10**6))), records)


def test_another_size_than_prepared(records: list[Record]) -> None:
    changed = [replace(records[0], height=9), *records[1:]]
    with pytest.raises(DataError, match=r"0\.png is 8x6 pixels, the dataset's index says 8x9"):
        Pixels(changed, 10**6)[0]
    with pytest.raises(DataError, match=r"1_mask\.png is 4x5 pixels, the dataset's index says 8x6"):
        Pixels([replace(records[0], mask=records[1].mask)], 0)[0]


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_damaged_and_missing_files_are_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"photo.{kind}"
    with pytest.raises(DataError, match="photo") as missing:
        decode_image(path)
    assert missing.value.why == "the file does not exist"
    assert missing.value.code == 3
    path.write_bytes(b"this is not an image")
    for decode in (decode_image, decode_mask):
        with pytest.raises(DataError, match="photo") as damaged:
            decode(path)
        assert "damaged" in damaged.value.why


@pytest.mark.parametrize("cut", [0.5, 0.99])
def test_a_picture_that_ends_early_is_named(tmp_path: Path, cut: float, capfd: pytest.CaptureFixture[str]) -> None:
    """OpenCV alone gives the rest in grey, and libjpeg says so on stderr without a name."""
    noise, path = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8), tmp_path / "photo"
    for kind in (".jpg", ".png"):
        file = path.with_suffix(kind)
        cv2.imwrite(str(file), noise)
        assert decode_image(file).shape == noise.shape
        data = file.read_bytes()
        file.write_bytes(data[: int(len(data) * cut)])
        with pytest.raises(BadFile, match=f"photo\\{kind}"):
            decode_image(file)
    assert "Premature" not in capfd.readouterr().err
    path.write_bytes(b"")
    with pytest.raises(DataError, match="photo"):
        decode_image(path)


def test_what_is_written_behind_a_picture_does_no_harm(tmp_path: Path) -> None:
    """`prepare` takes such files; a thumbnail's end marker before the picture is not the picture's."""
    photo, whole = Image.new("RGB", (16, 8), (250, 10, 10)), tmp_path / "whole.jpg"
    photo.save(whole, comment=b"\xff\xd9")
    more = tmp_path / "more.jpg"
    more.write_bytes(whole.read_bytes() + b"made by a camera")
    assert np.array_equal(decode_image(more), decode_image(whole))
    more.write_bytes(whole.read_bytes()[:-40])
    with pytest.raises(DataError, match="ends before its picture does"):
        decode_image(more)


def test_a_mask_is_one_byte_a_pixel(tmp_path: Path) -> None:
    for name, array in (("rgb", np.zeros((4, 4, 3), np.uint8)), ("deep", np.zeros((4, 4), np.uint16))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), array)
        with pytest.raises(DataError, match=f"{name}.png is not an 8-bit index mask"):
            decode_mask(tmp_path / f"{name}.png")


def test_images_are_rgb_without_rotation(tmp_path: Path) -> None:
    """`prepare` has applied the orientation; a tag that survived must not turn the image away from its mask."""
    photo = Image.new("RGB", (16, 8), (250, 10, 10))
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(tmp_path / "photo.jpg", exif=exif)
    image = decode_image(tmp_path / "photo.jpg")
    assert image.shape == (8, 16, 3)
    assert image[0, 0, 0] > 200
    assert image[0, 0, 2] < 60


@pytest.mark.parametrize("limit", [0, 10**6])
def test_images_are_reduced_to_a_long_side(tmp_path: Path, limit: int) -> None:
    blocks = np.random.default_rng(1).integers(0, 5, (4, 6), dtype=np.uint8)
    mask, image = blocks.repeat(3, 0).repeat(3, 1), (50 * blocks).repeat(3, 0).repeat(3, 1)[:, :, None].repeat(3, 2)
    Image.fromarray(image).save(tmp_path / "i.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    record = Record("0", tmp_path / "i.png", tmp_path / "m.png", 12, 18)
    for side, expected, label in ((6, image[::3, ::3], blocks), (18, image, mask), (0, image, mask)):
        pixels = Pixels([record], limit, side)
        for _ in range(2):
            small, small_mask = pixels[0]
            assert np.array_equal(small, expected)
            assert np.array_equal(small_mask, label)
        again = pickle.loads(pickle.dumps(pixels))[0]
        assert np.array_equal(again[0], expected)


def claiming(path: Path, width: int, height: int) -> Path:
    """A small JPEG, whole to its end, that says it is larger."""
    Image.new("RGB", (64, 48)).save(path)
    data = bytearray(path.read_bytes())
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", height, width)
    path.write_bytes(data)
    return path


def test_a_picture_that_claims_more_than_it_can_hold_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither against the index nor without one: decoders would fill up gigabytes of grey."""
    path = claiming(tmp_path / "a.jpg", 13_000, 13_000)
    monkeypatch.setattr(cv2, "imdecode", lambda *args: pytest.fail("it was decoded"))
    with pytest.raises(BadFile, match=r"a\.jpg is 13000x13000 pixels, the dataset's index says 64x48"):
        decode_image(path, (48, 64))
    with pytest.raises(DataError, match="is damaged") as caught:
        decode_image(path)
    assert "13000x13000 pixels, which its" in caught.value.why


def test_a_flat_picture_is_believed(tmp_path: Path) -> None:
    """One colour in very few bytes, as the empty masks of large maps are."""
    for name, mode in (("a.jpg", "RGB"), ("b.png", "1"), ("c.png", "L")):
        Image.new(mode, (3000, 4000)).save(tmp_path / name)
        assert decode_image(tmp_path / name).shape[:2] == (4000, 3000)


@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "folder"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    with pytest.raises(BadFile, match=r"cannot read .*a\.png"):
        decode_mask(path)


def test_what_opencv_raises_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*args: object) -> None:
        raise cv2.error("(-215:Assertion failed) size")

    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    monkeypatch.setattr(cv2, "imdecode", raises)
    with pytest.raises(BadFile, match=r"cannot read .*a\.png"):
        decode_mask(tmp_path / "a.png")
