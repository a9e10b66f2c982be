"""What two processes make of `eval`, `predict`, `pair`, `pick` and `probe` is what one makes, to the bit."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_small import SmallEncoder, known
from safetensors.torch import load_file, save_file
from two import in_two_processes

from semiseg_cli.core.config.layers import resolve
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.errors import DataError, SemisegError
from semiseg_cli.core.inference import features
from semiseg_cli.core.inference.metrics import Asked
from semiseg_cli.core.training.alike import one_folder, same_dataset
from semiseg_cli.core.training.distributed import World, joined
from semiseg_cli.stages import pair as pairing
from semiseg_cli.stages import predict as predicting
from semiseg_cli.stages.evaluate import evaluate_checkpoint
from semiseg_cli.stages.pick import pick
from semiseg_cli.stages.predict import predict_images
from semiseg_cli.stages.probe import probe, settings_of
from semiseg_cli.stages.train import train

SMALL = {"data.name": "shapes", "data.labeled": "4", "model.backbone": "small", "model.weights": "none"}
PROBE = SMALL | {"train.steps": 3}
TRAIN = SMALL | {
    "method.name": "unimatch", "method.tau": 0.2, "model.decoder": "plain", "model.freeze_bn": True, "train.amp": "off",
    "train.steps": 4, "train.batch": 2, "train.crop": 33, "train.lr": 0.01, "train.log_every": 1, "train.workers": 0,
    "train.eval_every": 0, "eval.window": "none",
}  # fmt: skip


def everything(folder: Path, mine: Path) -> dict[str, Any]:
    """Every command, into `mine`; the network is that of one process."""
    data, network, photos = mine / "data", folder / "one" / "probe", folder / "photos"
    small: dict[str, Any] = {"encoder": "small", "weights": "none", "device": "cpu"}
    with pytest.MonkeyPatch.context() as patch:  # more groups, blocks and chunks than processes
        patch.setattr(features, "TOGETHER", 3)
        patch.setattr(predicting, "BLOCK", 2)
        patch.setattr(pairing, "chunk_rows", lambda known: 3)
        where: dict[str, Any] = {"data_root": data, "runs_root": mine, "device": "cpu"}
        probed = probe(settings_of(PROBE), out=mine / "probe", **where)
        found = {
            "eval": evaluate_checkpoint(
                network, root=data, asked=Asked(boundary=True), save=mine / "saved", device="cpu"
            ),
            "predict": predict_images(network, [photos], out=mine / "out", confidence=True, device="cpu"),
            "pair": pairing.pair(data, "shapes", "4", k=3, **small),
            "pick": pick(str(photos), 3, root=data, network=network, out=mine / "picked", **small),
            "probe": {key: probed[key] for key in ("last", "images", "labeled")},
        }
        found["probe"]["computed"] = probed["features"]["computed"]
        weights = {"model.weights": str(folder / "encoder.safetensors")}  # batch norms stay frozen where there are some
        train(resolve([("test", TRAIN), ("weights", weights)]), out=mine / "run", **where)
    return found


def apart(folder: Path, world: World) -> list[dict[str, str]]:
    """What is said where process 1 has no dataset, has another one, or writes into a folder of its own."""
    said, mine = list[dict[str, str]](), folder / str(world.rank)
    if world.main:
        shutil.copytree(folder / "one" / "data", mine)
    mine.mkdir(exist_ok=True)

    def refused(act: Any) -> None:
        with pytest.raises(DataError) as caught:
            act()
        error: SemisegError = caught.value
        said.append({"what": error.what, "why": error.why, "told": str(error.told), "agreed": str(error.agreed)})

    refused(lambda: same_dataset(lambda: load_dataset(mine, "shapes"), world))
    if not world.main:
        shutil.copytree(folder / "one" / "data", mine, dirs_exist_ok=True)
        index = mine / "shapes" / "index.tsv"
        index.write_text("".join(index.read_text().splitlines(keepends=True)[:-1]))
    refused(lambda: same_dataset(lambda: load_dataset(mine, "shapes"), world))
    refused(lambda: one_folder(mine, world))
    return said


def process(folder: Path) -> None:
    """What each of two processes does, which stand for a node."""
    with known(), joined("cpu") as world:
        (folder / f"two-{world.rank}.json").write_text(json.dumps(everything(folder, folder / "two")))
        (folder / f"apart-{world.rank}.json").write_text(json.dumps(apart(folder, world)))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def same(one: Any, two: Any) -> None:
    """Equal, but for where it lies."""
    assert json.dumps(one).replace("/one/", "/two/") == json.dumps(two).replace("/one/", "/two/")


@pytest.fixture(scope="module")
def folder(small_network: None, shapes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one` and `two`, what one process and two have made of the same."""
    folder = tmp_path_factory.mktemp("shared")
    for name in ("one", "two"):
        shutil.copytree(shapes_root, folder / name / "data")
    (folder / "photos").mkdir()
    for number, record in enumerate(load_dataset(shapes_root, "shapes").train[:7]):
        shutil.copy(record.image, folder / "photos" / f"p{number}{record.image.suffix}")
    (folder / "photos" / "p3.png").write_bytes(b"no photo")
    torch.manual_seed(0)
    save_file(SmallEncoder(16).state_dict(), folder / "encoder.safetensors")
    (folder / "one.json").write_text(json.dumps(everything(folder, folder / "one")))
    in_two_processes(process, folder, nodes=True)
    return folder


@pytest.fixture(scope="module")
def told(folder: Path) -> list[Any]:
    """The answers of one process, and of the first and the second of two."""
    return [json.loads((folder / name).read_text()) for name in ("one.json", "two-0.json", "two-1.json")]


@pytest.mark.parametrize("command", ["eval", "predict", "pair", "probe"])
def test_two_processes_answer_as_one(command: str, told: list[Any]) -> None:
    one, two, _ = (each[command] for each in told)
    same(one, two)


def test_all_processes_have_the_whole_measure_and_list_of_failures(told: list[Any]) -> None:
    for command in ("eval", "predict"):
        same(told[0][command], told[2][command])
    assert len(told[0]["predict"]["failed"]) == 1
    assert told[0]["eval"]["images"] == 3


def test_two_processes_pick_what_one_picks(told: list[Any]) -> None:
    one, two, other = (each["pick"] for each in told)
    seconds = [each["features"].pop("seconds") for each in (one, two)]
    assert min(seconds) >= 0
    same(one, two)
    assert one["features"]["computed"] == 6
    assert other == {}  # one answers


@pytest.mark.parametrize("place", ["saved", "out", "picked"])
def test_two_processes_write_the_files_of_one(place: str, folder: Path) -> None:
    one, two = files(folder / "one" / place), files(folder / "two" / place)
    assert one == two
    assert one
    assert not any(".predicting" in name for name in one)


def test_features_pairs_and_the_head_are_the_same_to_the_bit(folder: Path) -> None:
    one, two = (folder / name / "data" / "shapes" / "pairs" for name in ("one", "two"))
    assert [path.name for path in one.glob("*.f16")] == [path.name for path in two.glob("*.f16")]
    assert next(one.glob("*.f16")).read_bytes() == next(two.glob("*.f16")).read_bytes()
    for place in ("data/shapes/pairs/*.safetensors", "probe/last.safetensors"):
        first, second = (load_file(next((folder / name).glob(place))) for name in ("one", "two"))
        assert first.keys() == second.keys()
        assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_the_losses_of_two_nodes_are_those_of_one_process_with_the_same_batch(folder: Path) -> None:
    rows = [
        [json.loads(line) for line in (folder / name / "run" / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    names = ("loss", "loss_labeled", "loss_strong1", "kept")
    losses = [np.array([[row[name] for name in names] for row in each if "loss" in row]) for each in rows]
    assert losses[0].shape == (4, 4)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert (np.ptp(losses[0], 0)[:3] > 1e-3).all()
    written = [json.loads((folder / name / "run" / "environment.json").read_text()) for name in ("one", "two")]
    assert [each["processes"] for each in written] == [1, 2]


def test_what_differs_is_named_by_all_and_told_by_one(folder: Path) -> None:
    said = [json.loads((folder / f"apart-{rank}.json").read_text()) for rank in range(2)]
    host = os.uname().nodename
    for zero, one in zip(*said, strict=True):
        assert (zero["what"], zero["why"]) == (one["what"], one["why"])
        assert (zero["told"], one["told"], zero["agreed"], one["agreed"]) == ("False", "True", "True", "True")
        assert zero["what"].startswith(f"process 1 on {host} has ")
    absent, other, elsewhere = said[0]
    assert "no prepared dataset 'shapes'" in absent["what"]
    assert "validation images: 3 there, 2 here" in other["why"]
    assert "sha256 of index.tsv: " in other["why"]
    assert elsewhere["what"].startswith(f"process 1 on {host} has another folder")
