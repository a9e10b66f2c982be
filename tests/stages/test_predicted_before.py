"""A `semiseg predict` that was cut off goes on: what is done stays, and what comes out is what one whole call gives."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fresh import begun, kill_at
from PIL import Image

from semiseg_cli.core.errors import Interrupted
from semiseg_cli.core.inference.options import Inference
from semiseg_cli.core.models import build_segmenter
from semiseg_cli.core.training.checkpoint import save_network
from semiseg_cli.stages.predict import predict_images
from semiseg_cli.stages.predicted_before import FOLDER
from semiseg_cli.stages.predicted_files import Output

PHOTOS, DONE = 7, 3


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "net.safetensors"
    data = {"name": "park", "classes": ["sky", "tree"], "palette": [[9, 9, 9], [0, 200, 0]], "ignore": 255, "window": 0}
    model = {"backbone": "tiny", "decoder": "deeplabv3plus", "output_stride": 16, "classes": 2}
    config = {"eval.window": "auto", "eval.stride": 0.5, "eval.batch": 2, "train.amp": "off"}
    normalise = {"mean": [0.4] * 3, "std": [0.2] * 3}
    meta = {"model": model, "data": data, "partition": {"name": "all"}, "normalise": normalise, "config": config}
    save_network(path, build_segmenter("tiny", "deeplabv3plus", 2), meta | {"method": "supervised", "step": 1})
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(PHOTOS):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the photos whose files are written from now on."""
    names, write = list[str](), Output.write

    def noted(self: Output, id: str, *rest: Any) -> None:
        names.append(id)
        write(self, id, *rest)

    monkeypatch.setattr(Output, "write", noted)
    return names


def predict(ckpt: Path, photos: Path, out: Path, **how: Any) -> dict[str, Any]:
    return predict_images(ckpt, [photos], out=out, device="cpu", **{"confidence": True} | how)


def dies(*paths: Path) -> None:
    kill_at(Output, "write", DONE)
    predict(*paths)


def killed(*paths: Path) -> None:
    """A process that predicts and is killed, with no time to say so, as it writes the photo after DONE."""
    process = begun(dies, *paths)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_killed_one_goes_on_and_ends_as_if_nothing_had_been(
    ckpt: Path, photos: Path, tmp_path: Path, written: list[str]
) -> None:
    whole = predict(ckpt, photos, tmp_path / "whole")
    killed(ckpt, photos, tmp_path / "cut")
    assert (tmp_path / "cut" / FOLDER).is_dir()
    written.clear()
    notes = list[str]()
    rest = predict(ckpt, photos, tmp_path / "cut", note=notes.append)
    assert written == [str(number) for number in range(DONE, PHOTOS)]
    assert notes == [f"{DONE} of {PHOTOS} images done before"]
    assert rest["images"] == whole["images"] == PHOTOS
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    written.clear()
    predict(ckpt, photos, tmp_path / "cut")  # all was done: the same command is a new one
    assert len(written) == PHOTOS


def cut_off(ckpt: Path, photos: Path, out: Path) -> None:
    """What a call leaves that is interrupted after DONE photos, where an earlier one had labeled all of them."""
    predict(ckpt, photos, out)
    with pytest.MonkeyPatch.context() as patch:
        write = Output.write

        def some(self: Output, id: str, *rest: Any) -> None:
            if int(id) >= DONE:
                raise KeyboardInterrupt
            write(self, id, *rest)

        patch.setattr(Output, "write", some)
        with pytest.raises(Interrupted, match="predicting"):
            predict(ckpt, photos, out)


def changed_photo(ckpt: Path, photos: Path, out: Path) -> dict[str, Any]:
    Image.fromarray(np.zeros((32, 40, 3), np.uint8)).save(photos / "1.png")
    return {}


def gone_labels(ckpt: Path, photos: Path, out: Path) -> dict[str, Any]:
    (out / "labels" / "1.png").unlink()
    return {}


def torn_line(ckpt: Path, photos: Path, out: Path) -> dict[str, Any]:
    (note,) = (out / FOLDER).iterdir()
    lines = note.read_bytes().splitlines(keepends=True)
    note.write_bytes(b"".join(lines[:2]) + lines[2][:-4])
    return {}


def another_network(ckpt: Path, photos: Path, out: Path) -> dict[str, Any]:
    return {"ckpt": ckpt.with_name("other.safetensors")}


def seen_otherwise(ckpt: Path, photos: Path, out: Path) -> dict[str, Any]:
    return {"how": Inference(flip=True)}


@pytest.mark.parametrize(
    ("change", "anew"),
    [
        (changed_photo, {1}),
        (gone_labels, {1}),
        (torn_line, {1, 2}),
        (another_network, {0, 1, 2}),
        (seen_otherwise, {0, 1, 2}),
    ],
)
def test_what_is_not_as_it_was_is_predicted_anew(
    change: Callable[[Path, Path, Path], dict[str, Any]],
    anew: set[int], ckpt: Path, photos: Path, tmp_path: Path, written: list[str],
) -> None:  # fmt: skip
    out, other = tmp_path / "out", ckpt.with_name("other.safetensors")
    cut_off(ckpt, photos, out)
    other.write_bytes(ckpt.read_bytes()[:-4] + b"\0\0\0\0")
    call = {"ckpt": ckpt, "photos": photos, "out": out} | change(ckpt, photos, out)
    written.clear()
    predict(**call)
    assert {int(name) for name in written} == anew | set(range(DONE, PHOTOS))
