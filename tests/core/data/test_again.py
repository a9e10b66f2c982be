"""How a dataset is prepared again: the command of its kind, with its name, its sources and its data root."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from trees import cityscapes_tree, sbd_tree, voc_tree

from semiseg_cli.cli.prepared import following
from semiseg_cli.core.data.again import adding, anew, at_hand, bringing_back, completing, naming_bad_files
from semiseg_cli.core.data.index import load_dataset, write_dataset
from semiseg_cli.core.data.kinds import KINDS, Kind, Part, lacks
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.errors import BadFile, DataError
from semiseg_cli.stages.prepare import notes, prepare_shapes
from semiseg_cli.stages.prepare_cityscapes import prepare_cityscapes
from semiseg_cli.stages.prepare_voc import prepare_voc


def of_kind(kind: str, root: Path = Path("d")) -> Dataset:
    return Dataset("mine", kind, root / "mine", ("a", "b"), ((0, 0, 0),) * 2, (), ())


def test_the_command_of_every_kind(tmp_path: Path) -> None:
    root = tmp_path / "d"
    shapes = prepare_shapes(root, seed=3, labeled=1, unlabeled=1, val=1, size=32).root
    given = "--seed 3 --labeled 1 --unlabeled 1 --val 1 --size 32"
    assert anew(shapes).endswith(f"&& semiseg prepare shapes {given} --root {root}")
    tree = voc_tree(tmp_path)
    voc = prepare_voc(root, name="v", source=tree, sbd=Path("none")).root
    assert anew(voc).endswith(f"semiseg prepare voc --source {tree}/VOC2012 --sbd none --name v --root {root}")
    voc = prepare_voc(root, source=tree, sbd=sbd_tree(tmp_path)).root
    assert anew(voc).endswith(f"--source {tree}/VOC2012 --sbd {tmp_path}/benchmark_RELEASE --root {root}")
    streets = prepare_cityscapes(root, source=cityscapes_tree(tmp_path / "c")).root
    assert anew(streets).endswith(f"semiseg prepare cityscapes --source {tmp_path}/c --root {root}")


def test_a_kind_that_is_unknown_gets_no_other_kinds_command(tmp_path: Path) -> None:
    folder = prepare_shapes(tmp_path, name="mine", labeled=1, unlabeled=1, val=1, size=32).root
    file = folder / "dataset.toml"
    text = file.read_text().replace('kind = "shapes"', 'kind = "unheard"')
    for content in (text, f"{text}cut ["):  # whole, and damaged
        file.write_text(content)
        for advice in (anew(folder), bringing_back(folder, "unheard", [tmp_path / "moved.jpg"])):
            assert "no 'semiseg prepare unheard'" in advice
            assert "&&" not in advice
    file.write_text("cut [")
    assert anew(folder) == f"mv {folder} {tmp_path}/.mine-old, then prepare it again as it was: semiseg prepare --help"
    assert not lacks("unheard", {"sbd": ""})


def test_a_benchmark_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = Part("coarse", ("--coarse",), "it lacks its coarse labels: {line}")
    places = {"--source": "images", "--coarse": "coarse"}
    monkeypatch.setitem(KINDS, "camvid", Kind("CamVid", places, benchmark=True, lacking=part))
    folder = prepare_shapes(tmp_path, name="mine", labeled=1, unlabeled=1, val=1, size=32).root
    file = folder / "dataset.toml"
    text = file.read_text().replace('kind = "shapes"', 'kind = "camvid"')
    file.write_text(f'{text}images = "there"\ncoarse = "none"\n')
    line = f"semiseg prepare camvid --source {tmp_path}/there --coarse none --name mine --root {tmp_path}"
    assert anew(folder).endswith(f"&& {line}")
    back = f"semiseg prepare camvid --name mine --root {tmp_path} --source DIR; splits and masks stay"
    assert bringing_back(folder, "camvid", [tmp_path / "moved.jpg"]) == back
    assert notes(load_dataset(tmp_path, "mine")) == [
        f"it lacks its coarse labels: semiseg prepare camvid --coarse --name mine --root {tmp_path}"
    ]
    assert following(load_dataset(tmp_path, "mine"))[1].startswith("published partitions: semiseg split mine --list")


def test_what_was_set_aside_before_stays(tmp_path: Path) -> None:
    (tmp_path / "voc").mkdir()
    (tmp_path / ".voc-old").mkdir()
    line = f"mv {tmp_path}/voc {tmp_path}/.voc-old1 && semiseg prepare voc --root {tmp_path}"
    assert anew(tmp_path / "voc") == line


@pytest.mark.parametrize("kind", ["voc", "cityscapes", "shapes", "folder"])
def test_only_somebodys_own_dataset_is_told_prepare_folder(kind: str) -> None:
    said = adding(of_kind(kind), "--unlabeled", "DIR")
    assert ("semiseg prepare folder --unlabeled DIR --name mine --root d" in said) == (kind == "folder")
    assert bool(completing("mine", kind, Path("d"))) == (kind in ("voc", "cityscapes"))


def test_what_brings_a_dataset_more_repeats_how_it_was_made(tmp_path: Path) -> None:
    """Typed as it is, but for DIR."""
    source = {
        "labeled": "/p", "masks": "/my m", "unlabeled": "/u", "more": ["/v"], "val": "", "val_masks": "",
        "map": {"4": 0}, "ignore": 9, "long_side": 0, "levels": [0, 4095],
    }  # fmt: skip
    write_dataset(of_kind("folder", tmp_path), {"source": source, "classes_file": "classes.csv"})
    made = of_kind("folder", tmp_path)
    asked = "--map 4=0 --ignore 9 --long-side 0 --levels 0,4095"
    end = f"--classes {tmp_path}/mine/classes.csv --name mine-2 --root {tmp_path}"
    more = f" && semiseg prepare folder --unlabeled /v --name mine-2 --root {tmp_path}; "
    val = f"--labeled /p --masks '/my m' --unlabeled /u --val DIR --val-masks DIR {asked} {end}"
    line = f"prepare it with some, as mine-2: semiseg prepare folder {val}{more}"
    assert adding(made, "--val", "DIR", "--val-masks", "DIR") == line
    others = f"--labeled DIR --masks DIR --unlabeled /u {asked} {end}"
    assert f"semiseg prepare folder {others}{more}" in adding(made, "--labeled", "DIR", "--masks", "DIR")
    assert "--levels 0,4095" in anew(made.root)


def test_nobody_is_sent_to_train_on_a_part_of_his_few_labels(tmp_path: Path) -> None:
    some = tuple(Record(f"i{n}", tmp_path / f"{n}.png", tmp_path / f"{n}_mask.png", 4, 4) for n in range(8))
    whole = replace(of_kind("folder", tmp_path), train=some)
    assert following(whole) == [f"next: semiseg train -d mine -m supervised --root {tmp_path}"]
    more = replace(whole, train=(*some, Record("u", tmp_path / "u.png", None, 4, 4)))
    assert following(more) == [f"next: semiseg train -d mine --root {tmp_path}"]


def test_images_that_are_not_where_they_were(tmp_path: Path) -> None:
    tree = voc_tree(tmp_path)
    prepare_voc(tmp_path / "d", source=tree)
    data = load_dataset(tmp_path / "d", "voc")
    assert at_hand(data) is data
    tree.rename(tmp_path / "moved")
    with pytest.raises(DataError, match="not where they were") as caught:
        at_hand(data)
    assert f"semiseg prepare voc --root {tmp_path}/d --source DIR" in caught.value.fix


def test_a_bad_file_is_told_with_what_names_them_all() -> None:
    with pytest.raises(BadFile) as caught, naming_bad_files(of_kind("voc")):
        raise BadFile("cannot read x")
    assert caught.value.fix == "replace the file; semiseg check mine --root d names every such file"
