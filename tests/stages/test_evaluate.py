"""`evaluate_checkpoint` on a small prepared dataset and an untrained network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch
from park import CLASSES, MEAN, STD
from torchmetrics.functional.classification import multiclass_confusion_matrix

from semiseg_cli.core.data.index import load_dataset, write_dataset
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.core.inference.metrics import Asked
from semiseg_cli.core.inference.options import Inference
from semiseg_cli.core.training.checkpoint import load_network, save_network
from semiseg_cli.stages.evaluate import evaluate_checkpoint


def by_hand(park_run: Path, records: list[Record]) -> torch.Tensor:
    """Confusion matrix of whole-image predictions, one image at a time."""
    net, _ = load_network(park_run / "best.safetensors")
    total = torch.zeros(3, 3, dtype=torch.int64)
    for record in records:
        rgb = cv2.imread(str(record.image))[..., ::-1] / 255.0
        x = torch.tensor(((rgb - MEAN) / STD).transpose(2, 0, 1)[None], dtype=torch.float32)
        with torch.no_grad():
            pred = net(x).argmax(1)[0]
        mask = torch.tensor(cv2.imread(str(record.mask), cv2.IMREAD_UNCHANGED)).long()
        total += multiclass_confusion_matrix(pred, mask, 3, ignore_index=255)
    return total


def test_numbers_are_those_computed_by_hand(park: Path, park_run: Path) -> None:
    found = evaluate_checkpoint(park_run, Inference(window="none"), root=park, device="cpu")
    matrix = by_hand(park_run, list(load_dataset(park, "park").val)).double()
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


def test_result_says_what_was_measured(park: Path, park_run: Path) -> None:
    found = evaluate_checkpoint(
        park_run, Inference(flip=True, scales=(1.0, 0.75)), root=park, device="cpu", asked=Asked(boundary=True)
    )
    assert found["checkpoint"] == str(park_run / "best.safetensors")
    assert found["partition"] == "own partition, seed 0, 1 of 2"
    assert (found["fingerprint"], found["protocol"]) == ("f00d", "classic")
    assert (found["method"], found["step"], found["data"], found["split"]) == ("unimatch", 30, "park", "val")
    assert (found["window"], found["flip"], found["scales"]) == (36, True, [1.0, 0.75])
    assert 0 <= found["boundary_f"] <= 100


def test_window_auto_is_the_protocol_and_changes_the_result(park: Path, park_run: Path) -> None:
    asked = [Inference(window=window) for window in ("auto", "36", "none")]
    auto, same, whole = (evaluate_checkpoint(park_run, how, root=park, device="cpu") for how in asked)
    assert auto == same
    assert (auto["window"], whole["window"], whole["stride"]) == (36, 0, None)
    assert auto["miou"] != whole["miou"]


def test_a_cpu_evaluates_in_float32(park: Path, park_run: Path, tmp_path: Path) -> None:
    """Also a run whose training was asked to be in bfloat16."""
    net, meta = load_network(park_run / "best.safetensors")
    found = []
    for amp in ("off", "bf16"):
        config = {**meta["config"], "train.amp": amp}
        save_network(tmp_path / "x.safetensors", net, {**meta, "config": config})
        found.append(evaluate_checkpoint(tmp_path / "x.safetensors", root=park, device="cpu"))
    assert found[0] == found[1]


def test_train_split_means_the_masked_images(park: Path, park_run: Path) -> None:
    assert evaluate_checkpoint(park_run, root=park, split="train", device="cpu")["images"] == 1


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
    park: Path, park_run: Path, tmp_path: Path, classes: tuple[str, ...], why: str
) -> None:
    palette = tuple((k, k, k) for k in range(len(classes)))
    ours = load_dataset(park, "park")
    write_dataset(replace(ours, name="other", root=tmp_path / "other", classes=classes, palette=palette), {})
    with pytest.raises(DataError, match="other classes") as caught:
        evaluate_checkpoint(park_run, root=tmp_path, data="other", device="cpu")
    assert caught.value.why == why


def test_another_dataset_brings_its_own_window(park: Path, park_run: Path, tmp_path: Path) -> None:
    write_dataset(replace(load_dataset(park, "park"), name="other", root=tmp_path / "other", window=0), {})
    assert evaluate_checkpoint(park_run, root=tmp_path, data="other", device="cpu")["window"] == 0


def test_a_split_that_is_not_there(park: Path, park_run: Path) -> None:
    with pytest.raises(UsageError, match="split 'vall'"):
        evaluate_checkpoint(park_run, root=park, split="vall", device="cpu")


def test_a_dataset_that_is_not_there(park_run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="park"):
        evaluate_checkpoint(park_run, root=tmp_path, device="cpu")
