"""Pictures of real runs: seconds of training on tiny shapes, then what the sheets are made from."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from semiseg_cli.core.data.index import load_dataset, write_dataset
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.errors import CheckpointError, DataError, UsageError
from semiseg_cli.core.inference.evaluation import evaluate
from semiseg_cli.core.inference.predictor import Predictor
from semiseg_cli.core.training.checkpoint import load_network, save_network
from semiseg_cli.core.training.preview import View, augmented, pseudo_labels
from semiseg_cli.stages.demo import draw
from semiseg_cli.stages.evaluate import evaluate_checkpoint
from semiseg_cli.stages.train import train
from semiseg_cli.stages.visualize import _session, compare, visualize

METHODS = ("supervised", "fixmatch", "unimatch", "meanteacher")
LAST = {"train.steps": 6, "train.eval_every": 0}


@pytest.fixture(scope="module")
def runs(
    shapes_root: Path, tmp_path_factory: pytest.TempPathFactory, small_network: dict[str, Any]
) -> dict[str, Path]:
    """A finished run of every method; the warm-up of those that have one must not hide their pseudo-labels."""
    from semiseg_cli.core.config.layers import resolve

    root, made = tmp_path_factory.mktemp("runs"), {}
    for method in METHODS:
        warm = {} if method == "supervised" else {"method.warmup": 0.5, "method.tau": 0.3}
        layer = {
            "method.name": method, "data.name": "shapes", "model.backbone": "small", "model.decoder": "small",
            "model.weights": "none", "train.batch": 3, "train.crop": 33, "train.lr": 0.01, "train.log_every": 1,
            "train.workers": 0, "train.save_every": 6, "train.amp": "off", "eval.window": "none", **LAST, **warm,
        }  # fmt: skip
        train(resolve([("test", layer)]), data_root=shapes_root, runs_root=root, out=root / method, device="cpu")
        made[method] = root / method
    return made


def sheet(path: str) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("method", METHODS[1:])
def test_pseudo_labels_are_drawn_for_every_method_that_has_some(
    runs: dict[str, Path], shapes_root: Path, tmp_path: Path, method: str
) -> None:
    found = visualize(runs[method], root=shapes_root, count=7, out=tmp_path, device="cpu")
    assert (found["kind"], found["method"], found["step"]) == ("pseudo", method, 6)
    assert len({image["id"] for image in found["images"]}) == 7
    unlabeled = {record.id for record in load_dataset(shapes_root, "shapes").train if record.mask is None}
    assert {image["id"] for image in found["images"]} <= unlabeled
    assert all(0 <= image["kept"] <= 1 and 1 / 6 < image["confidence"] <= 1 for image in found["images"])
    assert [Path(file).name for file in found["sheets"]] == ["pseudo-1.png", "pseudo-2.png"]
    assert sheet(found["sheets"][0]).shape[0] > sheet(found["sheets"][1]).shape[0]
    assert "data:image/png" in Path(found["page"]).read_text()


def test_pixels_are_kept_or_weighed_as_the_method_does(
    runs: dict[str, Path], shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    galleries = []
    monkeypatch.setattr("semiseg_cli.stages.visualize.write", lambda gallery, *_: galleries.append(gallery) or {})
    weighing = tmp_path / "weighing"
    shutil.copytree(runs["meanteacher"], weighing)
    config = (weighing / "config.toml").read_text()
    (weighing / "config.toml").write_text(config.replace('weight = "threshold"', 'weight = "confidence"'))
    for run in (runs["meanteacher"], weighing):
        visualize(run, root=shapes_root, count=2, out=tmp_path, device="cpu")
    keeps, weighs = galleries
    assert keeps.columns[-1] == "kept pixels"
    assert all(row.caption.endswith("% kept") for row in keeps.rows)
    assert weighs.columns[-1] == "weight"
    assert all("mean weight 0." in row.caption for row in weighs.rows)
    assert ("not kept" in keeps.legend.unlabeled, "not kept" in weighs.legend.unlabeled) == (True, False)


def test_an_image_without_a_pseudo_label_is_drawn(
    runs: dict[str, Path], shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a mixture whose labeled image is ignored, or padding, where the unlabeled one is seen; or kept unknown."""

    def without(*given: Any) -> list[tuple[Record, View]]:
        (first, none), (second, untold) = pseudo_labels(*given)
        return [(first, replace(none, valid=np.zeros_like(none.valid))), (second, replace(untold, kept=None))]

    galleries = []
    monkeypatch.setattr("semiseg_cli.stages.visualize.write", lambda gallery, *_: galleries.append(gallery) or {})
    monkeypatch.setattr("semiseg_cli.stages.pictures_steps.pseudo_labels", without)
    visualize(runs["unimatch"], "pseudo", root=shapes_root, count=2, out=tmp_path, device="cpu")
    none, untold = (row.caption.partition(": ")[2] for row in galleries[0].rows)
    assert none == "no pixel has a pseudo-label"
    assert re.fullmatch(r"mean confidence 0\.\d\d", untold)


@pytest.mark.parametrize(
    ("method", "whose"),
    [("meanteacher", "its teacher, a moving average of the student"), ("unimatch", "the student itself")],
)
def test_headings_say_step_miou_threshold_and_whose_labels_they_are(
    runs: dict[str, Path], shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, whose: str
) -> None:
    galleries = []
    monkeypatch.setattr("semiseg_cli.stages.visualize.write", lambda gallery, *_: galleries.append(gallery) or {})
    for kind in ("pseudo", "augment", "masks", "errors"):
        visualize(runs[method], kind, root=shapes_root, count=1, out=tmp_path, device="cpu")
    last = json.loads((runs[method] / "result.json").read_text())["last"]
    for gallery in galleries:
        assert f"step 6, mIoU {last['miou']:.1f}" in gallery.subtitle
    pseudo, augment, *_ = galleries
    assert f"labels by {whose}; kept from confidence 0.3 on; 1 of 8 unlabeled images" in pseudo.subtitle
    assert f"pseudo-labels by {whose}" in augment.subtitle
    assert augment.legend.unlabeled == "padding"
    assert augment.subtitle.endswith("labels follow the crops, flips and CutMix")


def test_what_is_not_pasted_does_not_say_so(
    runs: dict[str, Path], shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    galleries = []
    monkeypatch.setattr("semiseg_cli.stages.visualize.write", lambda gallery, *_: galleries.append(gallery) or {})
    visualize(runs["supervised"], "augment", root=shapes_root, count=1, out=tmp_path, device="cpu")
    assert galleries[0].subtitle.endswith("labels follow the crops and flips")


def test_several_kinds_come_into_one_page(runs: dict[str, Path], shapes_root: Path, tmp_path: Path) -> None:
    kinds = ["errors", "masks", "pseudo"]
    found = visualize(runs["unimatch"], kinds, root=shapes_root, count=2, out=tmp_path, device="cpu")
    assert found["kinds"] == kinds
    assert [image["kind"] for image in found["images"]] == ["errors"] * 2 + ["masks"] * 2 + ["pseudo"] * 2
    assert [Path(file).name for file in found["sheets"]] == ["errors-1.png", "masks-1.png", "pseudo-1.png"]
    names = {Path(file).name for file in found["sheets"]}
    assert {path.name for path in tmp_path.iterdir()} == {"pictures.html", *names}
    text = Path(found["page"]).read_text()
    assert text.count("data:image/png") == 3
    for number, title in enumerate(["Worst images", "Predictions of unimatch", "Pseudo-labels of unimatch"]):
        assert f'<section id="part-{number}">\n<h2>{title}</h2>' in text
        assert f'<a href="#part-{number}">{title}</a>' in text
    alone = visualize(runs["unimatch"], "masks", root=shapes_root, count=2, out=tmp_path, device="cpu")
    assert [{"kind": "masks", **image} for image in alone["images"]] == found["images"][2:4]


def test_of_several_kinds_nothing_is_written_where_one_cannot_be(
    runs: dict[str, Path], shapes_root: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="makes no pseudo-labels"):
        visualize(runs["supervised"], ["masks", "pseudo"], root=shapes_root, count=1, out=tmp_path / "x", device="cpu")
    assert not (tmp_path / "x").exists()


def test_more_images_than_there_are_gives_each_once(runs: dict[str, Path], shapes_root: Path, tmp_path: Path) -> None:
    found = visualize(runs["unimatch"], root=shapes_root, count=100, out=tmp_path, device="cpu")
    assert len(found["images"]) == len({image["id"] for image in found["images"]}) == 8


def test_the_folder_is_samples_in_the_run_and_a_checkpoint_stands_for_its_run(
    runs: dict[str, Path], shapes_root: Path
) -> None:
    found = visualize(runs["unimatch"] / "last.safetensors", root=shapes_root, count=1, device="cpu")
    assert Path(found["page"]) == runs["unimatch"] / "samples" / "pseudo.html"


def test_the_seed_chooses_the_images_and_repeats(runs: dict[str, Path], shapes_root: Path, tmp_path: Path) -> None:
    def drawn(seed: int) -> Any:
        return visualize(runs["unimatch"], root=shapes_root, count=3, seed=seed, out=tmp_path, device="cpu")["images"]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_pseudo_labels_are_those_of_the_teacher_the_method_uses(runs: dict[str, Path], shapes_root: Path) -> None:
    """Mean teacher: the EMA network in eval mode on the very image that is shown, not the student."""
    session, _ = _session(runs["meanteacher"], shapes_root, "cpu")
    views = pseudo_labels(session, 3, seed=4)
    mean, std = session.train.mean[:, None, None], session.train.std[:, None, None]
    method: Any = session.method
    agreement: dict[str, float] = {"teacher": 0.0, "student": 0.0}
    for _, view in views:
        x = (torch.from_numpy(view.rgb).permute(2, 0, 1) / 255 - mean) / std
        with torch.no_grad():
            conf, label = method.teacher(x[None]).softmax(1)[0].max(0)
            other = method.net.eval()(x[None]).softmax(1)[0].max(0).values
        valid = view.valid
        assert (label.numpy() == view.label)[valid].all()
        assert (view.label[~valid] == 255).all()
        assert conf.numpy() == pytest.approx(view.conf, abs=1e-4)
        agreement["teacher"] += float(np.abs(conf.numpy() - view.conf).mean())
        agreement["student"] += float(np.abs(other.numpy() - view.conf).mean())
    assert agreement["student"] > 10 * agreement["teacher"]


@pytest.mark.parametrize("method", METHODS[1:])
def test_kept_pixels_are_those_that_reach_the_threshold(
    runs: dict[str, Path], shapes_root: Path, method: str
) -> None:
    session, _ = _session(runs[method], shapes_root, "cpu")
    for _, view in pseudo_labels(session, 6, seed=0):
        assert view.name == "weak"
        assert view.kept is not None
        assert ((view.conf >= 0.3) & view.valid == (view.kept > 0)).all()


def test_a_method_without_a_weak_view_shows_what_it_teaches(
    runs: dict[str, Path], shapes_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, _ = _session(runs["unimatch"], shapes_root, "cpu")
    step = session.method.step
    monkeypatch.setattr(session.method, "step", lambda *a, **k: replace(step(*a, **k), weak=None))
    ((_, view),) = pseudo_labels(session, 1, seed=0)
    assert view.name == "strong1"
    assert view.kept is not None


def test_pseudo_labels_are_shown_unmixed(runs: dict[str, Path], shapes_root: Path) -> None:
    """What is taught is then the image's own: the same labels on the weak view as on the strong ones."""
    session, _ = _session(runs["unimatch"], shapes_root, "cpu")
    taught = list[bool]()
    step = session.method.step

    def seen(*args: Any) -> Any:
        out = step(*args)
        taught.extend(torch.equal(term.pseudo.conf_BHW, out.weak.pseudo.conf_BHW) for term in out.terms)
        return out

    session.method.step = seen
    pseudo_labels(session, 6, seed=0)
    assert taught
    assert all(taught)
    taught.clear()
    augmented(session, 6, seed=0)
    assert not all(taught)


def test_augmented_views_are_weak_and_strong_with_their_labels(
    runs: dict[str, Path], shapes_root: Path, tmp_path: Path
) -> None:
    found = visualize(runs["unimatch"], "augment", root=shapes_root, count=3, out=tmp_path, device="cpu")
    assert [image["views"] for image in found["images"]] == [["weak", "strong1", "strong2"]] * 3
    session, _ = _session(runs["unimatch"], shapes_root, "cpu")
    changed, mixed = 0, False
    for _, (weak, *strong) in augmented(session, 8, seed=0):
        for view in strong:
            changed += bool((view.rgb != weak.rgb).any())  # one in ten has neither jitter, grey, blur nor box
            mixed |= bool((view.label != weak.label).any())
    assert changed >= 8
    assert mixed  # CutMix brought labels from elsewhere into at least one of sixteen views


def test_supervised_shows_labeled_crops_and_says_that_it_has_no_pseudo_labels(
    runs: dict[str, Path], shapes_root: Path, tmp_path: Path
) -> None:
    found = visualize(runs["supervised"], "augment", root=shapes_root, count=50, out=tmp_path, device="cpu")
    labeled = {record.id for record in load_dataset(shapes_root, "shapes").labeled}
    assert {image["id"] for image in found["images"]} == labeled
    with pytest.raises(UsageError, match="supervised makes no pseudo-labels") as caught:
        visualize(runs["supervised"], root=shapes_root, out=tmp_path, device="cpu")
    assert "--masks" in caught.value.fix


def test_masks_show_what_eval_measures(runs: dict[str, Path], shapes_root: Path, tmp_path: Path) -> None:
    found = visualize(runs["unimatch"], "masks", root=shapes_root, out=tmp_path, device="cpu")
    assert len(found["images"]) == 3
    dataset = load_dataset(shapes_root, "shapes")
    net, meta = load_network(Path(found["checkpoints"][0]))
    for image in found["images"]:
        record = next(record for record in dataset.val if record.id == image["id"])
        alone = evaluate(Predictor.of(net, meta, torch.device("cpu")), dataset, [record])
        assert image["miou"] == {"prediction": pytest.approx(alone.miou)}
    first = sheet(found["sheets"][0])
    for colour in dataset.palette:  # the legend shows them all
        assert (first == np.array(colour)).all(-1).any()


def test_errors_come_worst_first_and_are_the_worst(runs: dict[str, Path], shapes_root: Path, tmp_path: Path) -> None:
    every = visualize(runs["unimatch"], "errors", root=shapes_root, out=tmp_path, device="cpu")["images"]
    two = visualize(runs["unimatch"], "errors", root=shapes_root, count=2, out=tmp_path, device="cpu")["images"]
    assert [image["miou"] for image in every] == sorted(image["miou"] for image in every)
    assert two == every[:2]
    whole = evaluate_checkpoint(runs["unimatch"], root=shapes_root, device="cpu")
    assert np.mean([image["wrong"] for image in every]) == pytest.approx(1 - whole["pixel_accuracy"] / 100)


def test_a_comparison_has_a_column_for_every_network(
    runs: dict[str, Path], shapes_root: Path, tmp_path: Path
) -> None:
    networks = {name: runs[name] / "last.safetensors" for name in ("supervised", "unimatch")}
    found = compare(networks, tmp_path, root=shapes_root, count=2, device="cpu")
    assert [list(image["miou"]) for image in found["images"]] == [["supervised", "unimatch"]] * 2
    one = visualize(runs["unimatch"], "masks", root=shapes_root, count=2, out=tmp_path, device="cpu")
    assert sheet(found["sheets"][0]).shape[1] > sheet(one["sheets"][0]).shape[1]


def test_a_cpu_judges_in_float32(runs: dict[str, Path], shapes_root: Path, tmp_path: Path) -> None:
    """Also where the training was asked to be in bfloat16: as eval measures it."""
    net, meta = load_network(runs["unimatch"] / "last.safetensors")
    found = []
    for amp in ("off", "bf16"):
        config = {**meta["config"], "train.amp": amp}
        save_network(tmp_path / "x.safetensors", net, {**meta, "config": config})
        drawn = visualize(tmp_path / "x.safetensors", "errors", root=shapes_root, out=tmp_path, device="cpu")
        found.append(drawn["images"])
    assert found[0] == found[1]


def test_the_demo_draws_a_comparison_and_pseudo_labels(
    runs: dict[str, Path], shapes_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").symlink_to(shapes_root)
    drawn = draw({name: runs[name] for name in ("supervised", "unimatch")}, tmp_path, "cpu")
    assert [Path(file) for file in drawn] == [tmp_path / "pictures" / f"{n}-1.png" for n in ("comparison", "pseudo")]
    assert all(sheet(file).ndim == 3 for file in drawn)


def test_a_run_without_resume_state(runs: dict[str, Path], shapes_root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs["unimatch"], run, ignore=shutil.ignore_patterns("resume"))
    for kind in ("pseudo", "augment"):
        with pytest.raises(CheckpointError, match="holds no resume state") as caught:
            visualize(run, kind, root=shapes_root, device="cpu")
        assert "--masks" in caught.value.fix
    assert visualize(run, "masks", root=shapes_root, count=1, device="cpu")["sheets"]


def test_a_method_whose_code_is_absent(runs: dict[str, Path], shapes_root: Path, tmp_path: Path) -> None:
    """Its network can be looked at; its step cannot be taken."""
    run = tmp_path / "run"
    shutil.copytree(runs["unimatch"], run)
    net, meta = load_network(run / "last.safetensors")
    save_network(run / "best.safetensors", net, meta | {"method": "gone"})
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config.replace('name = "unimatch"', 'name = "gone"'))
    assert visualize(run, "masks", root=shapes_root, count=1, device="cpu")["sheets"]
    with pytest.raises(UsageError, match="there is no method 'gone'"):
        visualize(run, "pseudo", root=shapes_root, device="cpu")


def test_a_step_that_mixes_labeled_images_in(
    runs: dict[str, Path], shapes_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Terms of another batch than the unlabeled one are left out rather than shown under a wrong name."""
    session, _ = _session(runs["unimatch"], shapes_root, "cpu")
    step = session.method.step

    def wider(*args: Any, **kwargs: Any) -> Any:
        out = step(*args, **kwargs)
        double = torch.cat([out.terms[0].image_B3HW] * 2)
        return replace(out, terms=(replace(out.terms[0], name="wide", image_B3HW=double), *out.terms[1:]))

    monkeypatch.setattr(session.method, "step", wider)
    assert [view.name for view in augmented(session, 1, seed=0)[0][1]] == ["weak", "strong2"]


@pytest.mark.parametrize("kind", ["pseudo", "masks", "errors", "augment"])
def test_a_palette_shorter_than_the_classes(
    runs: dict[str, Path], shapes_root: Path, tmp_path: Path, kind: str
) -> None:
    short = replace(load_dataset(shapes_root, "shapes"), root=tmp_path / "shapes", palette=((1, 2, 3),))
    write_dataset(short, {})
    with pytest.raises(DataError, match=r"dataset\.toml cannot be read") as caught:
        visualize(runs["unimatch"], kind, root=tmp_path, out=tmp_path / "out", device="cpu")
    assert "1 colour for 6 classes" in caught.value.why


@pytest.mark.parametrize("kind", ["masks", "errors"])
def test_no_validation_images(runs: dict[str, Path], shapes_root: Path, tmp_path: Path, kind: str) -> None:
    write_dataset(replace(load_dataset(shapes_root, "shapes"), root=tmp_path / "shapes", val=()), {})
    with pytest.raises(DataError, match="no validation images"):
        visualize(runs["unimatch"], kind, root=tmp_path, out=tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_nothing_labeled_in_the_validation_images(runs: dict[str, Path], shapes_root: Path, tmp_path: Path) -> None:
    dataset = load_dataset(shapes_root, "shapes")
    blank = tmp_path / "blank.png"
    Image.new("L", (48, 48), 255).save(blank)
    val = tuple(replace(record, mask=blank, pixels=(0,) * 6) for record in dataset.val)
    write_dataset(replace(dataset, root=tmp_path / "shapes", val=val), {})
    for kind in ("masks", "errors"):
        with pytest.raises(DataError, match="no labeled pixel"):
            visualize(runs["unimatch"], kind, root=tmp_path, out=tmp_path / "out", device="cpu")


@pytest.mark.parametrize("count", [0, -3])
def test_zero_images(runs: dict[str, Path], shapes_root: Path, count: int) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        visualize(runs["unimatch"], root=shapes_root, count=count, device="cpu")


def test_an_unknown_kind(runs: dict[str, Path], shapes_root: Path) -> None:
    with pytest.raises(UsageError, match="no pictures called 'mask'") as caught:
        visualize(runs["unimatch"], "mask", root=shapes_root)
    assert "did you mean 'masks'" in caught.value.fix


def test_an_output_folder_that_takes_no_files(
    runs: dict[str, Path], shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write pictures") as caught:
        visualize(runs["unimatch"], "masks", root=shapes_root, out=tmp_path / "file" / "x", device="cpu")
    assert "not a folder" in caught.value.why
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(DataError, match="cannot write pictures") as caught:
        visualize(runs["unimatch"], "masks", root=shapes_root, out=tmp_path / "new", device="cpu")
    assert "read-only" in caught.value.why
    assert "-o DIR" in caught.value.fix


def test_a_disk_that_fills_up(
    runs: dict[str, Path], shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match="cannot write pictures") as caught:
        visualize(runs["unimatch"], "masks", root=shapes_root, count=1, out=tmp_path, device="cpu")
    assert "No space" in caught.value.why
