"""The bench on tiny networks: with the photos it makes, and on a prepared dataset."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import cv2
import pytest

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.data.decode import decode_image, decode_mask
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.core.sources import shapes
from semiseg_cli.stages import bench as stage
from semiseg_cli.stages.bench import bench, host_cost, make_photos


@pytest.fixture(autouse=True, scope="module")
def _drawn_once() -> Iterator[None]:
    """The photos that are made are the same every time, and take a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "draw", cache(shapes.draw))
        yield


def test_without_data(
    configured: Callable[..., Resolved], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    told: list[str] = []
    resolved = configured("unimatch", {"data.name": "synthetic", "train.cache_mb": 0})
    found = bench(resolved, data_root=None, steps=1, device="cpu", note=told.append)
    assert (found["method"], found["backbone"], found["crop"], found["batch"]) == ("unimatch", "small", 33, 2)
    assert (found["data"], found["steps"], found["labeled"], found["unlabeled"]) == ("synthetic", 1, 4, 8)
    assert found["host"]["image"] == "500x375 jpg"
    assert found["parts"]["data"]["median"] > 4 * found["host"]["decode_ms"]["min"]  # four images, decoded every time
    assert found["images_per_second"] > 0
    assert found["device"].startswith("CPU")
    assert told
    assert "unimatch on synthetic" in told[0]
    assert list(tmp_path.iterdir()) == []  # nothing stays


def test_photos_have_pairs_for_a_method_that_takes_them(
    configured: Callable[..., Resolved], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    settings = {"data.name": "synthetic", "data.labeled": "3", "method.pairing": "precomputed"}
    found = bench(configured("guidedmix", settings), data_root=None, steps=1, device="cpu")
    assert (found["method"], found["labeled"], found["unlabeled"]) == ("guidedmix", 3, 9)
    assert found["images_per_second"] > 0
    assert list(tmp_path.iterdir()) == []


def test_on_a_prepared_dataset(configured: Callable[..., Resolved], shapes_root: Path) -> None:
    found = bench(configured("supervised"), data_root=shapes_root, steps=1, device="cpu")
    assert (found["data"], found["labeled"]) == ("shapes", 6)
    assert found["host"]["image"] == "48x48 png"


def test_photos_are_as_photos_are(tmp_path: Path) -> None:
    made = make_photos(tmp_path)
    assert [record.mask is not None for record in made.train] == [True] * 4 + [False] * 8
    assert load_dataset(tmp_path, "synthetic") == made
    sizes = [record.image.stat().st_size for record in made.train]
    assert 7e4 < sum(sizes) / len(sizes) < 1.3e5  # VOC's: 1e5
    assert decode_image(made.train[0].image).shape == (375, 500, 3)
    mask = decode_mask(made.train[0].mask)
    assert mask.shape == (375, 500)
    assert mask.max() < len(made.classes)


def test_host_cost_adds_up_on_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = make_photos(tmp_path).train
    threads = cv2.getNumThreads()
    inside: list[int] = []
    decode = stage.decode_record
    monkeypatch.setattr(stage, "decode_record", lambda record: inside.append(cv2.getNumThreads()) or decode(record))
    found = host_cost(records, 64, (0.5, 2.0))
    assert set(inside) == {1}
    assert cv2.getNumThreads() == threads
    assert len(inside) == 12 + 60
    assert found["sample_ms"]["min"] >= found["decode_ms"]["min"] + found["warp_ms"]["min"]
    assert found["decodes_per_second"] == pytest.approx(1000 / found["decode_ms"]["median"])


def test_what_cannot_be(configured: Callable[..., Resolved], shapes_root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        bench(configured(), data_root=shapes_root, steps=0)
    with pytest.raises(DataError, match="no prepared dataset"):
        bench(configured(), data_root=tmp_path, steps=1)
