"""Presets as shipped, and the order in which a command line's layers win."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from semiseg_cli.core.config.presets import choose, for_method, gather, load_preset, over_preset, presets
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.methods import METHODS
from semiseg_cli.core.settings import Unread


def shapes(name: str) -> tuple[str, str]:
    return name or "found", "shapes"


def photos(name: str) -> tuple[str, str]:
    return name or "found", "folder"


def test_presets_are_described() -> None:
    found = presets()
    assert {"small", "shapes"} <= set(found)
    assert all(len(text) > 20 for text in found.values())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", presets())
def test_every_preset_resolves_for_every_method(name: str, method: str) -> None:
    layer = load_preset(name, method)
    assert "method.name" not in layer, "a preset suits methods, it does not choose one"
    assert "data.name" not in layer
    found = over_preset(name, layer, [("command line", {"method.name": method})])
    assert found.config.method_name == method


def test_what_a_preset_says_and_a_method_does_not_read_is_left_out(tmp_path: Path) -> None:
    assert load_preset("small", "supervised")["train.cutmix"] == 1
    found = gather({"method.name": "supervised"}, dataset=photos, directory=tmp_path)
    assert (found.config.train.cutmix, found.origins["train.cutmix"]) == (0.5, "default")
    strong = gather({"method.name": "supervised"}, ["method.strong=true"], dataset=photos, directory=tmp_path)
    assert (strong.config.train.cutmix, strong.origins["train.cutmix"]) == (1, "preset small")
    for method in ("supervised", "guidedmix"):
        with pytest.raises(Unread, match=r"train\.cutmix = 0\.7") as caught:  # what somebody typed is not
            gather({"method.name": method}, ["train.cutmix=0.7"], dataset=photos, directory=tmp_path)
        assert caught.value.why == "it was set by: --set"


def test_an_unknown_preset_gets_a_hint() -> None:
    with pytest.raises(UsageError, match="no preset 'smal'") as caught:
        load_preset("smal", "unimatch")
    assert "did you mean 'small'" in caught.value.fix


def test_a_dataset_kind_has_its_preset_or_small() -> None:
    assert choose("shapes") == "shapes"
    assert choose("folder") == "small"
    assert choose("") == "small"
    assert choose("voc") == "voc-r101"
    assert choose("voc", "resnet50s") == "voc-r50"
    assert choose("voc", "mobilenet_v2") == "voc-r101"
    assert choose("cityscapes", "resnet50") == "cityscapes-r50"
    assert choose("voc", "dinov2_s") == "voc-dinov2-s"
    assert choose("voc", "dinov2_b") == "voc-dinov2-b"
    assert choose("cityscapes", "dinov2_l") == "cityscapes-dinov2-b"
    assert choose("voc", "dinov2_s_reg") == "voc-dinov2-b"
    assert choose("folder", "dinov2_s") == "small"


def test_the_backbone_as_typed_chooses_among_a_kinds_presets(tmp_path: Path) -> None:
    def streets(name: str) -> tuple[str, str]:
        return name, "cityscapes"

    def made(pairs: list[str]) -> dict[str, str]:
        return gather({"data.name": "city"}, pairs, dataset=streets, directory=tmp_path).origins

    assert made([])["model.backbone"] == "preset cityscapes-r101"
    assert made(["model.backbone=resnet50"])["train.lr"] == "preset cityscapes-r50"


def test_a_table_for_one_method_goes_over_the_plain_one() -> None:
    tables: dict[str, Any] = {
        "train": {"lr": 1, "batch": 2},
        "methods": {"fixmatch": {"train": {"lr": 3}, "method": {"tau": 0.5}}},
    }
    assert for_method(tables, "fixmatch", "x") == {"train.lr": 3, "train.batch": 2, "method.tau": 0.5}
    assert for_method(tables, "unimatch", "x") == {"train.lr": 1, "train.batch": 2}
    with pytest.raises(UsageError, match=r"no method 'fixmach' \(from: x\)"):
        for_method({"methods": {"fixmach": {}}}, "unimatch", "x")


def test_the_order_of_layers(tmp_path: Path) -> None:
    (tmp_path / "semiseg.toml").write_text("[train]\nsteps = 2\ncrop = 64\nseed = 2\nlog_every = 2\n")
    config = tmp_path / "mine.toml"
    config.write_text("[train]\nsteps = 3\ncrop = 96\nseed = 3\n")
    flags = {"train.steps": 4, "train.seed": 4}
    found = gather(flags, ["train.steps=5"], dataset=shapes, config=config, directory=tmp_path)
    train = found.config.train
    assert (train.steps, train.seed, train.crop, train.log_every) == (5, 4, 96, 2)
    assert found.config.model.backbone == "tiny"
    expected = {
        "train.steps": "--set",
        "train.seed": "command line",
        "train.crop": str(config),
        "train.log_every": str(tmp_path / "semiseg.toml"),
        "model.backbone": "preset shapes",
        "train.momentum": "default",
    }
    assert {name: found.origins[name] for name in expected} == expected


def test_a_flag_rescales_the_presets_learning_rate(tmp_path: Path) -> None:
    preset = load_preset("small", "unimatch")
    found = gather({"train.batch": 2 * preset["train.batch"]}, dataset=photos, directory=tmp_path)
    assert found.config.train.lr == pytest.approx(2 * preset["train.lr"])


def test_the_dataset_is_the_named_one_or_the_one_that_was_found(tmp_path: Path) -> None:
    found = gather({}, dataset=photos, directory=tmp_path)
    assert found.config.data.name == "found"
    assert "preset small" in found.origins.values()
    (tmp_path / "semiseg.toml").write_text('[data]\nname = "mine"\n')
    assert gather({}, dataset=photos, directory=tmp_path).config.data.name == "mine"
    assert gather({"data.name": "flag"}, dataset=photos, directory=tmp_path).config.data.name == "flag"


def test_the_method_may_stand_in_a_file_and_brings_its_tables(tmp_path: Path) -> None:
    (tmp_path / "semiseg.toml").write_text('[method]\nname = "fixmatch"\n[methods.fixmatch.train]\nsteps = 7\n')
    found = gather({}, dataset=photos, directory=tmp_path)
    assert (found.config.method_name, found.config.train.steps) == ("fixmatch", 7)
    assert gather({"method.name": "supervised"}, dataset=photos, directory=tmp_path).config.train.steps != 7


def test_an_asked_preset_wins_over_the_kinds(tmp_path: Path) -> None:
    assert "preset small" in gather({}, dataset=shapes, preset="small", directory=tmp_path).origins.values()


def test_an_unknown_method_gets_a_hint(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no method 'unimach'") as caught:
        gather({"method.name": "unimach"}, dataset=photos, directory=tmp_path)
    assert "did you mean 'unimatch'" in caught.value.fix


def test_no_dataset_is_the_callers_error(tmp_path: Path) -> None:
    def nothing(name: str) -> tuple[str, str]:
        raise UsageError("nothing is prepared")

    with pytest.raises(UsageError, match="nothing is prepared"):
        gather({}, dataset=nothing, directory=tmp_path)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("methods = 3", "'methods' holds a table for each method"),
        ("[methods]\nfixmatch = 3", "'methods' holds a table for each method"),
        ('method = "fixmatch"', "no setting 'method'"),
        ("[method]\nname = [1]", r"method\.name = \[1\] is not possible: it must be text"),
        ("[method]\nadd = 3", r"method\.add = 3 is not possible: it must be text: any number"),
        ('[data]\nname = ["x"]', r"data\.name = \['x'\] is not possible"),
        ("[model]\nbackbone = 1.5", r"model\.backbone = 1\.5 is not possible"),
        ("[[train]]\nlr = 1", "no setting 'train'"),
        ("[train.scale]\nlow = 1", r"train\.scale = \{'low': 1\} is not possible"),
    ],
)
def test_a_file_of_another_shape_is_refused_by_its_name(text: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "semiseg.toml").write_text(text)
    with pytest.raises(UsageError, match=what) as caught:
        gather({}, dataset=photos, directory=tmp_path)
    assert str(tmp_path / "semiseg.toml") in f"{caught.value.what} {caught.value.why}"
    assert caught.value.fix
