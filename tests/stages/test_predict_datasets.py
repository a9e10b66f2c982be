"""`predict_images` of prepared datasets: every image by its id, whether it is a file or lies in a shard."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semiseg_cli.core.data.decode import read
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.errors import DataError, Interrupted
from semiseg_cli.stages.pick import pick
from semiseg_cli.stages.predict import predict_images
from semiseg_cli.stages.predicted_files import Output
from semiseg_cli.stages.predicted_photos import find_images, network_and_images
from semiseg_cli.stages.prepare import prepare_shapes
from semiseg_cli.stages.shard import Asked, shard

POOL = 9


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with `shapes` and `shapes-shards`. Read only."""
    root = tmp_path_factory.mktemp("datasets") / "data"
    prepare_shapes(root, labeled=2, unlabeled=POOL, val=1, size=32)
    shard(root, "shapes", asked=Asked(size=0.01))
    return root


def predict(run: Path, images: Path, out: Path, **how: Any) -> dict[str, Any]:
    return predict_images(run, [images], out=out, device="cpu", **{"overlay": False} | how)


def labels(out: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in (out / "labels").iterdir()}


def test_every_image_is_labeled_by_its_id_and_alike_in_shards(park_run: Path, root: Path, tmp_path: Path) -> None:
    """As the files alone are; masks are no photos."""
    for name in ("shapes", "shapes-shards"):
        notes = list[str]()
        found = predict(park_run, root / name, tmp_path / name, note=notes.append)
        assert (found["images"], found["failed"]) == (2 + POOL + 1, [])
        assert not any("not read" in line for line in notes)
    predict(park_run, root / "shapes" / "images", tmp_path / "files")
    assert labels(tmp_path / "files") == labels(tmp_path / "shapes") == labels(tmp_path / "shapes-shards")


def test_a_photo_in_a_shard_goes_along_with_annotations(park_run: Path, root: Path, tmp_path: Path) -> None:
    photos = {record.id: read(record.image) for record in load_dataset(root, "shapes-shards").pool}
    for format in ("labelme", "yolo"):
        predict(park_run, root / "shapes-shards", tmp_path / "out", format=format)
    held = {id: json.loads((tmp_path / "out" / "labelme" / f"{id}.json").read_text())["imageData"] for id in photos}
    assert {id: base64.b64decode(data) for id, data in held.items()} == photos
    assert {id: (tmp_path / "out" / "yolo" / "images" / f"{id}.png").read_bytes() for id in photos} == photos


def test_what_was_cut_off_goes_on_among_photos_in_shards(
    park_run: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = Output.write, list[str]()

    def some(self: Output, id: str, *rest: Any) -> None:
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(id)
        write(self, id, *rest)

    monkeypatch.setattr(Output, "write", some)
    with pytest.raises(Interrupted):
        predict(park_run, root / "shapes-shards", tmp_path)
    monkeypatch.setattr(Output, "write", write)
    notes = list[str]()
    predict(park_run, root / "shapes-shards", tmp_path, note=notes.append)
    assert notes[-1] == "5 of 12 images done before"
    assert len(labels(tmp_path)) == 12


def test_a_shard_that_is_another_is_named_and_the_rest_is_labeled(park_run: Path, root: Path, tmp_path: Path) -> None:
    prepare_shapes(tmp_path / "data", labeled=2, unlabeled=POOL, val=1, size=32)
    damaged = shard(tmp_path / "data", "shapes", asked=Asked(size=0.01))
    first = next(iter(damaged.pool)).image.parents[1]
    first.write_bytes(first.read_bytes()[:600])
    found = predict(park_run, damaged.root, tmp_path / "out")
    assert found["images"] + len(found["failed"]) == 12
    assert 0 < len(found["failed"]) < POOL
    assert all(str(first) in line for line in found["failed"])


def test_a_name_is_that_of_a_dataset_where_nothing_else_has_it(
    root: Path, park_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, more = Path("shapes-shards"), Path("photos")
    assert network_and_images([name], root) == (None, [root / name])
    assert network_and_images([name, more], root) == (None, [root / name, more])
    assert network_and_images([park_run, name, more], root) == (park_run, [root / name, more])
    name.mkdir()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(name / "own.png")
    assert network_and_images([name], root) == (None, [name])
    assert list(find_images([name], Path("out"))) == ["own"]


def test_a_datasets_folder_is_none_to_pick_from(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    with pytest.raises(DataError, match="no prepared dataset 'shapes' in data/data") as caught:
        pick("data/shapes", 2, root=Path("data"), encoder="tiny", device="cpu")
    assert (caught.value.why, caught.value.fix) == ("it is prepared in data", "shapes --root data")
