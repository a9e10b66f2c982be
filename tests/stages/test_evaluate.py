"""`evaluate_checkpoint` on a small prepared dataset and an untrained network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix

from semiseg_cli.core.data.index import load_dataset, write_dataset
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.errors import CheckpointError, DataError, UsageError
from semiseg_cli.core.models import build_segmenter
from semiseg_cli.core.training.checkpoint import load_network, save_network
from semiseg_cli.stages.evaluate import evaluate_checkpoint, find_checkpoint

CLASSES = ("sky", "tree", "road")
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the dataset `park`: 2 training images, one with a mask, and 3 val images of two sizes."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    (root / "park").mkdir()

    def record(name: str, height: int, width: int, masked: bool = True) -> Record:
        image, mask = root / "park" / f"{name}.jpg", root / "park" / f"{name}.png"
        blocks = rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
        cv2.imwrite(str(image), blocks.repeat(8, 0).repeat(8, 1))
        cv2.imwrite(str(mask), rng.choice([0, 1, 2, 255], (height, width)).astype(np.uint8))
        return Record(name, image, mask if masked else None, height, width)

    write_dataset(
        Dataset(
            "park",
            "folder",
            root / "park",
            CLASSES,
            ((0, 0, 0), (9, 99, 9), (50, 50, 50)),
            train=(record("t0", 40, 48), record("t1", 40, 48, masked=False)),
            val=(record("v0", 40, 48), record("v1", 48, 40), record("v2", 40, 48)),
            window=64,  # not what the checkpoint was trained under
        ),
        {},
    )
    return root


@pytest.fixture(scope="module")
def run(root: Path) -> Path:
    """A run directory whose `best` and `last` differ."""
    meta = {
        "model": {"backbone": "tiny", "decoder": "deeplabv3plus", "output_stride": 16, "classes": 3},
        "data": {"name": "park", "kind": "folder", "classes": list(CLASSES), "window": 36},
        "partition": {"name": "own partition, seed 0, 1 of 2", "fingerprint": "f00d", "protocol": "classic"},
        "normalise": {"mean": MEAN, "std": STD},
        "config": {"eval.window": "auto", "eval.stride": 2 / 3, "eval.batch": 2, "train.amp": "auto"},
        "method": "unimatch",
        "step": 30,
    }
    for seed, name in enumerate(("best", "last")):
        net = build_segmenter("tiny", "deeplabv3plus", 3, seed=seed)
        with torch.no_grad():  # running statistics, so that it does not give one class everywhere
            for step in range(30):
                noise = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(step))
                net(noise.repeat_interleave(8, 2).repeat_interleave(8, 3))
        save_network(root / "run" / f"{name}.safetensors", net, meta)
    return root / "run"


def by_hand(run: Path, records: list[Record]) -> torch.Tensor:
    """Confusion matrix of whole-image predictions, one image at a time."""
    net, _ = load_network(run / "best.safetensors")
    total = torch.zeros(3, 3, dtype=torch.int64)
    for record in records:
        rgb = cv2.imread(str(record.image))[..., ::-1] / 255.0
        x = torch.tensor(((rgb - MEAN) / STD).transpose(2, 0, 1)[None], dtype=torch.float32)
        with torch.no_grad():
            pred = net(x).argmax(1)[0]
        mask = torch.tensor(cv2.imread(str(record.mask), cv2.IMREAD_UNCHANGED)).long()
        total += multiclass_confusion_matrix(pred, mask, 3, ignore_index=255)
    return total


def test_numbers_are_those_computed_by_hand(root: Path, run: Path) -> None:
    found = evaluate_checkpoint(run, root=root, window="none", device="cpu")
    matrix = by_hand(run, list(load_dataset(root, "park").val)).double()
    assert (matrix.sum(0) > 0).sum() >= 2  # the network tells classes apart
    ious = matrix.diagonal() / (matrix.sum(0) + matrix.sum(1) - matrix.diagonal())
    assert list(found["iou"]) == list(CLASSES)
    assert list(found["iou"].values()) == pytest.approx((100 * ious).tolist())
    assert found["miou"] == pytest.approx(100 * ious.mean().item())
    assert found["pixel_accuracy"] == pytest.approx(100 * (matrix.diagonal().sum() / matrix.sum()).item())
    assert list(found["frequency"]) == list(CLASSES)
    assert list(found["frequency"].values()) == pytest.approx((100 * matrix.sum(1) / matrix.sum()).tolist())
    ranked = sorted(CLASSES, key=lambda name: found["frequency"][name], reverse=True)
    assert found["by_frequency"]["head"]["classes"] == ranked[:2]
    assert found["by_frequency"]["tail"] == {"classes": ranked[2:], "miou": found["iou"][ranked[2]]}
    assert found["images"] == 3
    assert found["boundary_f"] is None


def test_result_says_what_was_measured(root: Path, run: Path) -> None:
    found = evaluate_checkpoint(run, root=root, device="cpu", boundary=True, flip=True, scales=(1.0, 0.75))
    assert found["checkpoint"] == str(run / "best.safetensors")
    assert found["partition"] == "own partition, seed 0, 1 of 2"
    assert (found["fingerprint"], found["protocol"]) == ("f00d", "classic")
    assert (found["method"], found["step"], found["data"], found["split"]) == ("unimatch", 30, "park", "val")
    assert (found["window"], found["flip"], found["scales"]) == (36, True, [1.0, 0.75])
    assert 0 <= found["boundary_f"] <= 100


def test_window_auto_is_the_protocol_and_changes_the_result(root: Path, run: Path) -> None:
    auto, same, whole = (evaluate_checkpoint(run, root=root, window=w, device="cpu") for w in ("auto", "36", "none"))
    assert auto == same
    assert (auto["window"], whole["window"], whole["stride"]) == (36, 0, None)
    assert auto["miou"] != whole["miou"]


def test_a_cpu_evaluates_in_float32(root: Path, run: Path, tmp_path: Path) -> None:
    """Also a run whose training was asked to be in bfloat16."""
    net, meta = load_network(run / "best.safetensors")
    found = []
    for amp in ("off", "bf16"):
        config = {**meta["config"], "train.amp": amp}
        save_network(tmp_path / "x.safetensors", net, {**meta, "config": config})
        found.append(evaluate_checkpoint(tmp_path / "x.safetensors", root=root, device="cpu"))
    assert found[0] == found[1]


def test_train_split_means_the_masked_images(root: Path, run: Path) -> None:
    assert evaluate_checkpoint(run, root=root, split="train", device="cpu")["images"] == 1


def test_best_is_preferred_and_last_is_enough(run: Path, tmp_path: Path) -> None:
    assert find_checkpoint(run).name == "best.safetensors"
    assert find_checkpoint(run / "last.safetensors") == run / "last.safetensors"
    (tmp_path / "last.safetensors").touch()
    assert find_checkpoint(tmp_path).name == "last.safetensors"
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        find_checkpoint(run.parent)


@pytest.mark.parametrize(
    ("classes", "why"),
    [
        (("sky", "tree"), "it lacks road"),
        (("sky", "tree", "road", "car"), "it has car besides"),
        (("sky", "tree", "car"), "it lacks road; it has car besides"),
        (("tree", "sky", "road"), "the order differs: tree, sky, road against sky, tree, road"),
    ],
)
def test_other_classes_are_refused_with_the_difference(
    root: Path, run: Path, tmp_path: Path, classes: tuple[str, ...], why: str
) -> None:
    palette = tuple((k, k, k) for k in range(len(classes)))
    park = load_dataset(root, "park")
    write_dataset(replace(park, name="other", root=tmp_path / "other", classes=classes, palette=palette), {})
    with pytest.raises(DataError, match="other classes") as caught:
        evaluate_checkpoint(run, root=tmp_path, data="other", device="cpu")
    assert caught.value.why == why


def test_another_dataset_brings_its_own_window(root: Path, run: Path, tmp_path: Path) -> None:
    write_dataset(replace(load_dataset(root, "park"), name="other", root=tmp_path / "other", window=0), {})
    assert evaluate_checkpoint(run, root=tmp_path, data="other", device="cpu")["window"] == 0


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"split": "vall"}, "split 'vall'"),
        ({"stride": 0.0}, "stride"),
        ({"stride": 1.5}, "stride"),
        ({"batch": 0}, "batch"),
        ({"scales": ()}, "scales"),
        ({"scales": (1.0, -1.0)}, "scales"),
        ({"window": "wide"}, "window 'wide'"),
    ],
)
def test_options_that_cannot_be(root: Path, run: Path, how: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        evaluate_checkpoint(run, root=root, device="cpu", **how)


def test_a_dataset_that_is_not_there(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="park"):
        evaluate_checkpoint(run, root=tmp_path, device="cpu")
