"""Crops and sizes that nobody typed, chosen from the images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.config.presets import gather
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.data.spec import Dataset
from semiseg_cli.stages.sizing import sized


def typed(tmp_path: Path, *pairs: str, kind: str = "folder", preset: str = "", **flags: Any) -> Resolved:
    named = {"method.name": "supervised", "data.name": "mine"} | {f"model.{key}": value for key, value in flags.items()}
    return gather(named, pairs, dataset=lambda name: (name, kind), preset=preset, directory=tmp_path)


@pytest.fixture
def images(shapes_root: Path) -> Any:
    """A dataset whose images have this long side."""
    dataset = load_dataset(shapes_root, "shapes")

    def of(side: int) -> Dataset:
        return replace(dataset, train=tuple(replace(record, width=side, height=side // 2) for record in dataset.train))

    return of


def test_large_images_are_reduced_on_a_cpu_and_cropped_larger_on_cuda(images: Any, tmp_path: Path) -> None:
    plain, told = typed(tmp_path), list[str]()
    found = sized(plain, images(1024), False, told.append)
    assert (found.config.train.crop, found.config.data.long_side) == (113, 241)
    assert found.origins["data.long_side"] == "chosen: images of 1024 pixels"
    assert found.origins["train.crop"] == "preset small"
    assert told == [
        "images of 1024 pixels are shown at 241, in training and in use, so that crops of 113 show half of them at a "
        "CPU's pace; larger: -s data.long_side=0 -s train.crop=513"
    ]
    found = sized(plain, images(1024), True)
    assert (found.config.train.crop, found.config.data.long_side) == (513, 0)
    assert found.origins["train.crop"] == "chosen: images of 1024 pixels"
    told.clear()
    assert sized(plain, images(4000), True, told.append).config.train.crop == 513
    assert told == ["images of 4000 pixels: crops of 513, which show 13% of their long side"]
    assert sized(plain, images(453), False).config.data.long_side == 241
    assert sized(plain, images(452), False) == plain
    assert sized(plain, images(64), True) == plain


@pytest.mark.parametrize(
    "pairs", [("train.crop=113",), ("train.crop=113", "data.long_side=0"), ("data.long_side=241",)]
)
def test_what_was_typed_stays(images: Any, tmp_path: Path, pairs: tuple[str, ...]) -> None:
    plain = typed(tmp_path, *pairs)
    assert sized(plain, images(1024), False) == plain


def test_typed_size_of_images_leaves_the_crop_to_choose(images: Any, tmp_path: Path) -> None:
    found = sized(typed(tmp_path, "data.long_side=0"), images(1024), False)
    assert (found.config.train.crop, found.config.data.long_side) == (513, 0)
    found = sized(typed(tmp_path, "data.long_side=640"), images(1024), False)
    assert (found.config.train.crop, found.config.data.long_side) == (321, 640)


@pytest.mark.parametrize("preset", ["voc-r50", "cityscapes-r101"])
def test_a_recipe_that_was_published_stays(images: Any, tmp_path: Path, preset: str) -> None:
    plain = typed(tmp_path, preset=preset)
    assert sized(plain, images(4096), False) == plain


def test_patches_have_a_recipe_of_their_own_and_crops_that_fit(images: Any, tmp_path: Path) -> None:
    plain = typed(tmp_path, backbone="dinov2_s")
    train, origins = plain.config.train, plain.origins
    assert (train.optimizer, train.lr, train.head_lr_multiplier, train.weight_decay) == ("adamw", 5e-6, 40.0, 0.01)
    assert {origins[f"train.{name}"] for name in ("lr", "head_lr_multiplier", "crop")} == {"recipe for dinov2"}
    assert (origins["train.steps"], origins["model.backbone"]) == ("preset small", "command line")
    assert typed(tmp_path, "train.lr=1e-4", backbone="dinov2_s").config.train.lr == 1e-4
    assert typed(tmp_path, backbone="dinov2_s", preset="small").config.train.lr == 5e-4  # a preset that is typed
    assert typed(tmp_path, backbone="resnet18") == typed(tmp_path, preset="small", backbone="resnet18")
    voc = typed(tmp_path, kind="voc", backbone="dinov2_l")
    assert not any(origin.startswith("recipe") for origin in voc.origins.values())  # a preset of its kind says it all

    assert sized(plain, images(640), False).config.train.crop == 224
    assert sized(plain, images(2000), False).config.data.long_side == 463
    found = sized(typed(tmp_path, backbone="dinov2_s", preset="small"), images(240), False)
    assert found.config.train.crop == 112
    assert found.origins["train.crop"] == "chosen: a multiple of the encoder's 14 pixels"
    assert sized(plain, images(1024), True).config.train.crop % 14 == 0


@pytest.mark.parametrize(
    ("long", "own"),
    [
        ("timm:vit_small_patch14_dinov2.lvd142m", "dinov2_s"),
        ("timm:vit_base_patch14_reg4_dinov2", "dinov2_b_reg"),
        ("timm:vit_large_patch16_dinov3.lvd1689m", "dinov3_l"),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "voc"])
def test_timms_name_of_a_network_is_as_good_as_ours(long: str, own: str, kind: str, tmp_path: Path) -> None:
    found, expected = (typed(tmp_path, kind=kind, backbone=name) for name in (long, own))
    assert found.config.train == expected.config.train
    assert found.origins == expected.origins
    assert found.config.model.backbone == long


def test_sizes_that_have_no_short_name_take_the_recipe_of_their_kind(tmp_path: Path) -> None:
    assert typed(tmp_path, backbone="timm:vit_giant_patch14_dinov2").origins["train.lr"] == "recipe for dinov2"
    other = typed(tmp_path, backbone="timm:convnext_tiny.dinov3_lvd1689m")  # no plain transformer
    assert other.origins["train.lr"] == "preset small"
