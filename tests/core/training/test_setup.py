"""What a run is built from: weights that fit, batch norms that may be frozen, and evaluations as `semiseg eval`'s."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_small import IS_TINY
from torch import nn

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.errors import CheckpointError, UsageError
from semiseg_cli.core.models import build_segmenter
from semiseg_cli.core.partitions.splits import resolve_partition
from semiseg_cli.core.settings import BadSetting, Config
from semiseg_cli.core.training.checkpoint import save_network, save_state
from semiseg_cli.core.training.distributed import World
from semiseg_cli.core.training.first_weights import thawed
from semiseg_cli.core.training.session import Session
from semiseg_cli.core.training.setup import narrow_view, open_session

Configured = Callable[..., Resolved]


@pytest.fixture
def configured(configured: Configured) -> Configured:
    """With a network of the product, whose names errors give."""
    return lambda method="unimatch", changes=None: configured(method, IS_TINY | (changes or {}))


@pytest.fixture
def opened(shapes_root: Path) -> Callable[..., Session]:
    def make(config: Config, init: Path | None = None) -> Session:
        dataset = load_dataset(shapes_root, "shapes")
        return open_session(config, dataset, resolve_partition(dataset, ""), World(), lambda line: None, init)

    return make


@pytest.mark.parametrize("amp", ["bf16", "auto"])
def test_a_cpu_evaluates_in_float32_while_training(
    configured: Configured, opened: Callable[..., Session], amp: str
) -> None:
    """Whatever the CPU can do, and the training does: `semiseg eval` repeats the number anywhere."""
    session = opened(configured("supervised", {"train.amp": amp}).config)
    session.train.amp = True  # as on a CPU with bfloat16
    seen = list[bool]()
    session.method.deployed().register_forward_pre_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    assert session.evaluate()
    assert set(seen) == {False}


def checkpoint(folder: Path, backbone: str = "tiny", decoder: str = "deeplabv3plus", classes: int = 6) -> Path:
    model = {"backbone": backbone, "decoder": decoder, "output_stride": 16, "classes": classes}
    save_network(folder / "a b.safetensors", build_segmenter(backbone, decoder, classes), {"model": model})
    return folder / "a b.safetensors"


@pytest.mark.parametrize(
    ("theirs", "why", "fix"),
    [
        ({"backbone": "mobilenet_v2"}, "backbone: mobilenet_v2 there, tiny here",
         "-b mobilenet_v2, or its encoder alone: -b mobilenet_v2 --weights 'FILE', and no --init"),
        ({"decoder": "mitrans_local"}, "decoder: mitrans_local there, deeplabv3plus here",
         "-s model.decoder=mitrans_local, or its encoder alone: --weights 'FILE', and no --init"),
        ({"classes": 3}, "classes: 3 there, 6 here", "its encoder alone: --weights 'FILE', and no --init"),
        ({"backbone": "mobilenet_v2", "classes": 3},
         "backbone: mobilenet_v2 there, tiny here; classes: 3 there, 6 here",
         "its encoder alone: -b mobilenet_v2 --weights 'FILE', and no --init"),
    ],
)  # fmt: skip
def test_a_run_cannot_start_from_another_network(
    configured: Configured, opened: Callable[..., Session], tmp_path: Path, theirs: dict[str, Any], why: str, fix: str
) -> None:
    file = checkpoint(tmp_path, **theirs)
    with pytest.raises(CheckpointError, match="does not fit") as caught:
        opened(configured("supervised").config, file)
    assert caught.value.why == why
    assert caught.value.fix == fix.replace("FILE", str(file))


def test_the_decoder_is_the_encoders_if_it_is_not_said(
    configured: Configured, opened: Callable[..., Session], patches: type[nn.Module]
) -> None:
    for backbone, decoder in (("tiny", "deeplabv3plus"), ("patches", "dpt")):
        config = configured("supervised", {"model.backbone": backbone, "train.crop": 42}).config
        assert config.model.decoder == "auto"
        session = opened(config)
        assert session.config.model.decoder == decoder
        assert type(session.method.net.decoder).__module__.endswith(f".{decoder}")
    config = configured("supervised", {"model.decoder": "mitrans"}).config
    assert opened(config).config.model.decoder == "mitrans"


@pytest.mark.parametrize(
    ("changes", "what", "fix"),
    [
        ({"model.output_stride": 32}, "model.output_stride = 32 .* all maps of patches have the stride 14",
         "--set model.output_stride=16"),
        ({"model.decoder": "mitrans", "model.output_stride": 32}, "decoder mitrans needs a pyramid",
         "--set model.decoder=dpt --set model.output_stride=16"),
        ({"model.decoder": "upernet"}, "decoder upernet needs a pyramid", "--set model.decoder=dpt"),
    ],
)  # fmt: skip
def test_an_output_stride_that_an_encoder_of_patches_would_ignore_is_refused(
    configured: Configured, opened: Callable[..., Session], patches: type[nn.Module], changes: dict[str, Any],
    what: str, fix: str,
) -> None:  # fmt: skip
    config = configured("supervised", {"model.backbone": "patches", "train.crop": 42, **changes}).config
    with pytest.raises(UsageError, match=what) as caught:
        opened(config)
    assert caught.value.fix == fix


def test_a_run_cannot_start_from_a_state(
    configured: Configured, opened: Callable[..., Session], tmp_path: Path
) -> None:
    session = opened(configured("supervised").config)
    state = tmp_path / "run" / "resume" / "state.safetensors"
    save_state(state, session.train, session.optimizer, {"step": 1})
    with pytest.raises(CheckpointError, match="is not a network") as caught:
        opened(configured("supervised").config, state)
    assert str(tmp_path / "run" / "last.safetensors") in caught.value.fix


def frozen(session: Session) -> bool:
    norms = [m for m in session.method.deployed().train().encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    (mode,) = {norm.training for norm in norms}
    return not mode


@pytest.mark.parametrize("weights", ["none", "auto"])
def test_batch_norms_that_saw_nothing_are_not_frozen(
    configured: Configured, opened: Callable[..., Session], weights: str
) -> None:
    """`tiny` has no weights, so that auto are random ones too."""
    notes = list[str]()
    config = configured("supervised", {"model.freeze_bn": True, "model.weights": weights}).config
    session = opened(thawed(config, None, notes.append))
    assert not frozen(session)
    assert not session.config.model.freeze_bn
    (note,) = notes
    assert "model.freeze_bn" in note


def test_an_encoder_is_frozen_with_weights_alone(
    configured: Configured, opened: Callable[..., Session], tmp_path: Path
) -> None:
    config, file = configured("supervised", {"model.freeze_encoder": True}).config, checkpoint(tmp_path)
    with pytest.raises(BadSetting, match=r"model\.freeze_encoder = True .* starts from random weights"):
        thawed(config, None, lambda line: None)
    session = opened(thawed(config, file, lambda line: None), file)
    net = session.method.deployed()
    assert not any(p.requires_grad for p in net.encoder.parameters())
    assert all(p.requires_grad for p in net.decoder.parameters())
    assert sum(len(group["params"]) for group in session.optimizer.param_groups) == len([*net.decoder.parameters()])


def test_batch_norms_with_statistics_stay_frozen(
    configured: Configured, opened: Callable[..., Session], tmp_path: Path
) -> None:
    notes, file = list[str](), checkpoint(tmp_path)
    weights = {"model.freeze_bn": True, "model.weights": str(file)}
    for config, init in (
        (configured("supervised", {"model.freeze_bn": True}).config, file),
        (configured("supervised", weights).config, None),
    ):
        session = opened(thawed(config, init, notes.append), init)
        assert frozen(session)
        assert session.config.model.freeze_bn
    assert notes == []
    for other in ({"model.weights": "imagenet"}, {"model.backbone": "mobilenet_v2", "model.weights": "auto"}):
        config = configured("supervised", {"model.freeze_bn": True, **other}).config
        assert thawed(config, None, notes.append) == config
    config = configured("supervised").config
    assert thawed(config, None, notes.append) == config
    assert notes == []


def test_crops_that_show_little_of_the_images_are_told(shapes_root: Path) -> None:
    dataset, told = load_dataset(shapes_root, "shapes"), list[str]()
    side = dataset.train[0].width
    narrow_view(dataset, side // 4, told.append)
    assert not told
    narrow_view(dataset, side // 4 - 1, told.append)
    assert f"crops of {side // 4 - 1} pixels of images of {side}" in told[0]
    assert f"train.crop={side // 2}" in told[0]
    narrow_view(dataset.shown(side // 2), side // 8, told.append)
    assert len(told) == 1


@pytest.mark.parametrize(
    ("method", "changes", "mean", "better"),
    [
        ("unimatchv2", {"train.steps": 300}, "about 250 of the run's 300", "method.alpha=0.95"),
        ("unimatchv2", {"train.steps": 100}, "about 100 of the run's 100", "method.alpha=0.9"),
        ("unimatch", {"train.steps": 999, "method.ema_teacher": True}, "about 250 of the run's 999", "0.98"),
        ("fixmatch", {"train.steps": 300, "method.ema_teacher": True, "method.alpha": 0.99}, "about 100", "0.95"),
        ("unimatchv2", {"train.steps": 300, "method.alpha": 0.9}, "", ""),
        ("unimatchv2", {"train.steps": 3000}, "", ""),
        ("unimatch", {"train.steps": 300}, "", ""),
        ("meanteacher", {"train.steps": 300, "method.alpha": 0.999}, "", ""),  # its average shortens by itself
        ("ipixmatch", {"train.steps": 300, "method.ema_teacher": True}, "", ""),
    ],
)
def test_a_teacher_that_is_the_mean_of_most_students_is_told(
    configured: Configured, shapes_root: Path, method: str, changes: dict[str, Any], mean: str, better: str
) -> None:
    dataset, told = load_dataset(shapes_root, "shapes"), list[str]()
    open_session(configured(method, changes).config, dataset, resolve_partition(dataset, "1/2"), World(), told.append)
    lines = [line for line in told if "the teacher is the mean" in line]
    assert len(lines) == bool(mean)
    for line in lines:
        assert mean in line
        assert line.endswith(better)


def test_a_run_on_reduced_images_is_evaluated_on_them(
    configured: Configured, opened: Callable[..., Session], shapes_root: Path
) -> None:
    session = opened(configured("unimatch", {"data.long_side": 40}).config)
    assert session.dataset.long_side == 40
    seen = list[tuple[int, ...]]()
    session.method.deployed().register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    session.evaluate()
    assert set(seen) == {(40, 40)}
    assert load_dataset(shapes_root, "shapes").shown(40).shown(0).long_side == 40
