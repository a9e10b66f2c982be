"""`semiseg prepare` as typed. What becomes of every kind of file is tested in tests/core/sources/test_folder.py."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from semiseg_cli.cli import console, prepare
from semiseg_cli.core.data.index import load_dataset, manifest
from semiseg_cli.core.errors import DataError, UsageError


@pytest.fixture
def run(monkeypatch, capsys):
    """Run `semiseg prepare ...`; returns (stdout, stderr). Errors are raised."""
    monkeypatch.setattr(console, "state", console.State())

    def typed(*words):
        console.state = console.State()
        prepare.app(args=[str(word) for word in words], standalone_mode=False)
        return capsys.readouterr()

    return typed


def test_shapes(run, tmp_path):
    words = ("shapes", "--root", tmp_path, "--labeled", "6", "--unlabeled", "5", "--val", "4", "--size", "32")
    out, err = run(*words)
    assert f"next: semiseg train -d shapes --root {tmp_path}" in err
    assert out == f"shapes prepared in {tmp_path}/shapes: 6 labeled, 5 unlabeled, 4 val, 6 classes\n"
    data = load_dataset(tmp_path, "shapes")
    assert data.kind == "shapes"
    assert [record.mask is not None for record in data.train] == [True] * 6 + [False] * 5
    assert len(os.listdir(data.root / "images")) == 15
    assert len(os.listdir(data.root / "masks")) == 10  # of the pool there is none on disk
    for record in (*data.labeled, *data.val):
        mask = np.array(Image.open(record.mask))
        assert mask.shape == (record.height, record.width) == (32, 32)
        assert tuple(np.bincount(mask.ravel(), minlength=6)) == record.pixels
    assert all(manifest(data.root)["pixels"].values())
    assert run(*words)[0].startswith("shapes is ready in")
    with pytest.raises(DataError, match="prepared differently") as caught:
        run(*words, "--seed", "1")
    assert caught.value.why == "seed: 0 there, 1 here"
    result = json.loads(run(*words, "--json")[0])["result"]
    assert result["ready"] is True
    assert (result["labeled"], result["unlabeled"], result["val"]) == (6, 5, 4)


def test_more_images_change_none(run, tmp_path):
    for name, unlabeled in (("few", 2), ("many", 4)):
        run("shapes", "--root", tmp_path, "--name", name, "--labeled", "2", "--unlabeled", unlabeled, "--size", "32")
    few, many = (load_dataset(tmp_path, name) for name in ("few", "many"))
    for one, other in zip(few.train + few.val, many.train[:4] + many.val, strict=True):
        assert one.image.read_bytes() == other.image.read_bytes()


def test_a_lost_file_is_named(run, tmp_path):
    words = ("shapes", "--root", tmp_path, "--labeled", "1", "--unlabeled", "1", "--val", "1", "--size", "32")
    run(*words)
    (tmp_path / "shapes/images/val_0000.png").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of its files.*val_0000"):
        run(*words)


@pytest.fixture
def photos(tmp_path):
    for i in range(5):
        for kind, size in (("images", (8, 8, 3)), ("masks", (8, 8))):
            (tmp_path / kind).mkdir(exist_ok=True)
            pixels = np.random.default_rng(i).integers(0, 2, size, np.uint8)
            Image.fromarray(pixels * np.uint8(255)).save(tmp_path / kind / f"{i}.png")
    (tmp_path / "names.txt").write_text("ground\nroof\n")
    return [
        *("folder", "--labeled", tmp_path / "images", "--masks", tmp_path / "masks"),
        *("--classes", tmp_path / "names.txt", "--root", tmp_path / "data"),
    ]


def test_folder(run, photos, tmp_path):
    out, err = run(*photos, "--map", "255=1", "--name", "roofs")
    assert out == f"roofs prepared in {tmp_path}/data/roofs: 4 labeled, 0 unlabeled, 1 val, 2 classes\n"
    assert "1 of 5 labeled images held out for validation" in err
    out, err = run(*photos, "--map", "255=1", "--name", "roofs", "--json")
    result = json.loads(out)["result"]
    assert result["classes"] == ["ground", "roof"]
    assert result["notes"][0] in err.replace("\n", " ")


@pytest.mark.parametrize("word", ["255", "a=1", "1=b", "=", "#12=1", "#12345g=1"])
def test_a_map_that_is_not_understood(run, photos, word):
    with pytest.raises(UsageError, match="not understood"):
        run(*photos, "--map", word)


def test_a_value_that_is_mapped_twice(run, photos):
    with pytest.raises(UsageError, match="--map gives 255 two classes, 1 and 0"):
        run(*photos, "--map", "255=1", "--map", "255=0")


@pytest.mark.parametrize("name", [".", "..", "a/b", ".hidden", "-x"])
def test_a_name_that_is_no_folder_name(run, photos, name):
    with pytest.raises(UsageError, match="cannot name a folder"):
        run(*photos, f"--name={name}")


def test_a_dataset_grows_as_typed(run, tmp_path, monkeypatch):
    """`--update`, and `--unlabeled` alone; without a dataset the needed options are named."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)

    def save(path, classes=0):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shape = (12, 16) if classes else (12, 16, 3)
        pixels = rng.integers(0, classes or 256, shape, np.uint8)
        Image.fromarray(pixels).save(tmp_path / path)

    for i in range(5):
        save(f"photos/{i}.png")
        save(f"masks/{i}.png", 2)
    (tmp_path / "classes.txt").write_text("a\nb\n")
    whole = ("folder", "--labeled", "photos", "--masks", "masks", "--classes", "classes.txt", "--name", "mine")
    run(*whole)
    save("more/u.png")
    out, err = run("folder", "--name", "mine", "--unlabeled", "more")
    assert "1 new image without: u" in err
    assert "the validation set is the same: 1 image" in err
    assert "mine prepared in data/mine: 4 labeled, 1 unlabeled, 1 val" in out
    save("more/w.png")
    out, err = run(*whole, "--update")
    assert "1 new image without: w" in err
    assert "4 labeled, 2 unlabeled, 1 val" in out
    with pytest.raises(UsageError, match="--labeled and --masks and --classes are missing") as caught:
        run("folder", "--name", "other", "--unlabeled", "more")
    assert "--update" in caught.value.fix
    with pytest.raises(DataError, match="no prepared dataset 'other'"):
        run("folder", "--name", "other", "--update")
