"""What `semiseg predict` writes beside labels: confidence, probabilities, and labels that lie where a GeoTIFF lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from semiseg_cli.core.data.georeference import Tags, georeference, tiff_tags
from semiseg_cli.core.errors import DataError
from semiseg_cli.core.inference import enlarging
from semiseg_cli.stages.predicted_files import Output, Prediction

PALETTE = [(0, 0, 0), (0, 200, 0), (90, 90, 250)]
SIZE = (30, 41)
PLACE = {33550: (12, (0.5, 0.5, 0.0)), 33922: (12, (0.0, 0.0, 0.0, 440720.25, 3751320.5, 0.0)),
         34735: (3, (1, 1, 0, 1, 1024, 0, 1, 1)), 34737: (2, "WGS 84 / UTM zone 11N|")}  # fmt: skip


@pytest.fixture
def found() -> Prediction:
    noise = torch.randn(1, 3, 7, 9, generator=torch.Generator().manual_seed(0))
    probs = (2 * noise).softmax(1)
    label, conf = enlarging.decided(probs, SIZE)
    return Prediction(label[0].numpy(), conf[0].numpy(), probs)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


def geotiff(path: Path, image: np.ndarray, **more: int) -> Path:
    tags = Tags()
    for tag, (kind, value) in PLACE.items():
        tags.tagtype[tag] = kind
        tags[tag] = value
    if more:
        tags[274] = more["orientation"]
    Image.fromarray(image).save(path, tiffinfo=tags)
    return path


def test_confidence_and_probabilities(
    found: Prediction, image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enlarging, "BAND", 500)  # in several bands
    output = Output(tmp_path, PALETTE, overlay=False, confidence=True, probabilities=True)
    output.write("a/b", tmp_path / "b.jpg", image, found)
    wanted = F.interpolate(found.probs_1Khw.double(), SIZE, mode="bilinear", align_corners=False)[0]
    read = np.load(tmp_path / "probabilities" / "a" / "b.npz")["probabilities"]
    assert (read.shape, read.dtype) == ((*SIZE, 3), np.float16)
    np.testing.assert_allclose(read, wanted.permute(1, 2, 0).numpy(), atol=2**-11)
    with Image.open(tmp_path / "confidence" / "a" / "b.png") as picture:
        assert picture.mode.startswith("I;16")
        levels = np.array(picture)
    np.testing.assert_allclose(levels / 65535, wanted.amax(0).numpy(), atol=1e-4)
    assert np.array_equal(np.array(Image.open(tmp_path / "labels" / "a" / "b.png")), wanted.argmax(0).numpy())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["confidence", "labels", "probabilities"]
    assert output.places() == {
        "out": str(tmp_path), "labels": str(tmp_path / "labels"), "overlays": None, "geotiff": None,
        "confidence": str(tmp_path / "confidence"), "probabilities": str(tmp_path / "probabilities"),
    }  # fmt: skip


def test_labels_of_a_geotiff_lie_where_it_lies(found: Prediction, image: np.ndarray, tmp_path: Path) -> None:
    output = Output(tmp_path / "out", PALETTE, overlay=False)
    output.write("field", geotiff(tmp_path / "field.tif", image), image, found)
    written = tmp_path / "out" / "geotiff" / "field.tif"
    with Image.open(written) as picture:
        assert picture.mode == "P"
        assert np.array_equal(np.array(picture), found.label_HW)
        assert np.array_equal(np.array(picture.convert("RGB")), np.array(PALETTE, np.uint8)[found.label_HW])
    tags = tiff_tags(written)
    assert tags is not None
    assert {tag: tags[tag] for tag in PLACE} == {tag: value for tag, (_, value) in PLACE.items()}
    assert output.places()["geotiff"] == str(tmp_path / "out" / "geotiff")
    assert (tmp_path / "out" / "labels" / "field.png").is_file()


def test_what_is_no_geotiff_has_no_place(image: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(image).save(tmp_path / "plain.tif")
    Image.fromarray(image).save(tmp_path / "photo.jpg")
    (tmp_path / "damaged.tif").write_bytes(b"II*\0\xff\xff\xff\x7f")
    (tmp_path / "empty.tif").touch()
    turned = geotiff(tmp_path / "turned.tif", image, orientation=6)
    for path in (*tmp_path.glob("[!t]*"), turned, tmp_path / "absent.tif"):
        assert georeference(path) is None


def test_a_folder_that_cannot_be_written(found: Prediction, image: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "confidence").touch()
    with pytest.raises(DataError, match="cannot write"):
        Output(tmp_path, PALETTE, overlay=False, confidence=True).write("a", tmp_path / "a.jpg", image, found)
