"""What an error about masks says to try is pasted, and must give the masks that were meant."""

import json
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from semiseg_cli.cli import console, prepare
from semiseg_cli.core.data.again import anew
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.errors import SemisegError

TRUTH = [np.random.default_rng(i).integers(0, 3, (8, 8), np.uint8) for i in range(5)]
PALETTE = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0]], np.uint8)


@pytest.fixture
def given(tmp_path, monkeypatch):
    """The command for five photos; masks and classes are written by `drawn`."""
    monkeypatch.setattr(console, "state", console.State())
    for i in range(5):
        (tmp_path / "photos").mkdir(exist_ok=True)
        photo = np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(photo).save(tmp_path / f"photos/{i}.png")
    return [
        *("folder", "--labeled", tmp_path / "photos", "--masks", tmp_path / "masks"),
        *("--classes", tmp_path / "classes.json", "--root", tmp_path / "data"),
    ]


def drawn(tmp_path, image_of, classes=3, **table):
    names = ["ground", "snow", "lava"][:classes]
    (tmp_path / "classes.json").write_text(json.dumps({"names": names, **table}))
    (tmp_path / "masks").mkdir()
    for i, truth in enumerate(TRUTH):
        image = image_of(truth.clip(max=classes - 1))
        image.save(tmp_path / f"masks/{i}.{'tif' if image.mode == 'F' else 'png'}")


def run(words):
    prepare.app(args=[str(word) for word in words], standalone_mode=False)


def remedies(text):
    """The options that a remedy names, in the order in which it does."""
    found = re.findall(r"--[\w-]+ (?:'[^']*'|\S+)(?: --[\w-]+ (?:'[^']*'|\S+))*", text)
    return [shlex.split(words.rstrip(",;")) for words in found]


WHITE = Image.fromarray
CASES = {
    # what the masks hold, what is pasted of what is said, and what class 0, 1, 2 must become
    "black and white": (lambda m: WHITE(m * np.uint8(255)), 2, {}, 0, [0, 1]),
    "black and white, ignored": (lambda m: WHITE(np.array([0, 200], np.uint8)[m]), 2, {}, 0, [0, 1]),
    "counted from one": (lambda m: WHITE(m + np.uint8(1)), 3, {}, 0, [0, 1, 2]),
    "counted from one, 0 is none": (lambda m: WHITE(np.array([0, 1, 3], np.uint8)[m]), 3, {}, 0, [255, 0, 2]),
    "stretched to be seen": (lambda m: WHITE(np.array([0, 127, 255], np.uint8)[m]), 3, {}, 0, [0, 1, 2]),
    "ids": (lambda m: WHITE(np.array([4, 7, 26], np.uint8)[m]), 3, {}, 0, [0, 1, 2]),
    "no data": (lambda m: WHITE(np.array([0, 1, -9999], np.float32)[m]), 3, {}, 0, [0, 1, 255]),
    "not a number": (lambda m: WHITE(np.array([0, 1, np.nan], np.float32)[m]), 3, {}, 0, [0, 1, 255]),
    "ignored though a class": (lambda m: WHITE(m), 3, {"ignore_index": 0}, 1, [255, 1, 2]),
    "colour of no class": (
        lambda m: WHITE(PALETTE[m]),
        3,
        {"palette": [[0, 0, 0], [255, 255, 255], [250, 0, 0]]},
        0,
        [0, 1, 2],
    ),
    "colour of no class, ignored": (
        lambda m: WHITE(PALETTE[m]),
        3,
        {"palette": [[0, 0, 0], [255, 255, 255], [250, 0, 0]]},
        1,
        [0, 1, 255],
    ),
    "instance ids": (
        lambda m: WHITE(np.array([7, 24001, 26003], np.uint16)[m]),
        3,
        {"names": {"7": "ground", "24": "snow", "26": "lava"}},
        0,
        [0, 1, 2],
    ),
    "transparent": (
        lambda m: WHITE(np.dstack([PALETTE[m], (m > 0) * np.uint8(255)])),
        3,
        {"palette": PALETTE.tolist()},
        0,
        [0, 1, 2],
    ),
    "cut out of black": (lambda m: WHITE(np.dstack([m * 0, m * np.uint8(255)])), 2, {}, 0, [0, 1]),
    "transparent, ignored": (
        lambda m: WHITE(np.dstack([PALETTE[m], (m > 0) * np.uint8(255)])),
        3,
        {"palette": PALETTE.tolist()},
        1,
        [255, 1, 2],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_said_is_pasted(given, tmp_path, case):
    image_of, classes, table, which, expected = CASES[case]
    drawn(tmp_path, image_of, classes, **table)
    with pytest.raises(SemisegError) as caught:
        run(given)
    run([*given, *remedies(caught.value.fix)[which]])
    data = load_dataset(tmp_path / "data", "folder")
    records = {record.id: record for record in (*data.labeled, *data.val)}
    for i, truth in enumerate(TRUTH):
        mask = np.array(Image.open(records[str(i)].mask))
        assert np.array_equal(mask, np.array(expected)[truth.clip(max=classes - 1)]), case


def test_the_same_command_is_ready_and_another_reading_is_another_dataset(given, tmp_path, capsys):
    drawn(tmp_path, lambda m: WHITE(m + np.uint8(1)))
    run([*given, "--first", "1"])
    run([*given, "--first", "1"])
    assert "is ready in" in capsys.readouterr().out
    with pytest.raises(SemisegError) as caught:
        run([*given, "--map", "1-2=0", "--map", "3=1"])
    assert "first: 1 there, None here" in caught.value.why
    assert " --first 1 --classes " in anew(tmp_path / "data/folder"), "and so it is prepared again"
