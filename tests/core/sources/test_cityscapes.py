"""The label table of Cityscapes, pinned, and what each kind of label file becomes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from trees import cityscapes_ids

from semiseg_cli.core.sources.cityscapes import CLASSES, LABELS, TRANSLATIONS, is_wanted
from semiseg_cli.core.sources.rasters import read_codes

# id, trainId, colour and name as cityscapesscripts/helpers/labels.py has them
TABLE = """
0 255 000000 unlabeled
1 255 000000 ego vehicle
2 255 000000 rectification border
3 255 000000 out of roi
4 255 000000 static
5 255 6f4a00 dynamic
6 255 510051 ground
7 0 804080 road
8 1 f423e8 sidewalk
9 255 faaaa0 parking
10 255 e6968c rail track
11 2 464646 building
12 3 66669c wall
13 4 be9999 fence
14 255 b4a5b4 guard rail
15 255 966464 bridge
16 255 96785a tunnel
17 5 999999 pole
18 255 999999 polegroup
19 6 faaa1e traffic light
20 7 dcdc00 traffic sign
21 8 6b8e23 vegetation
22 9 98fb98 terrain
23 10 4682b4 sky
24 11 dc143c person
25 12 ff0000 rider
26 13 00008e car
27 14 000046 truck
28 15 003c64 bus
29 255 00005a caravan
30 255 00006e trailer
31 16 005064 train
32 17 0000e6 motorcycle
33 18 770b20 bicycle
-1 -1 00008e license plate
"""


def test_the_table_is_the_benchmarks() -> None:
    rows = [line.split(" ", 3) for line in TABLE.strip().splitlines()]
    assert len(rows) == 35
    found = [(str(label.id), str(label.train_id), bytes(label.colour).hex(), label.name) for label in LABELS]
    assert found == [tuple(row) for row in rows]
    assert [CLASSES.names.index(name) for _, train, _, name in rows if train not in ("255", "-1")] == list(range(19))


@pytest.mark.parametrize("kind", list(TRANSLATIONS))
def test_every_kind_of_label_gives_the_same_classes(tmp_path, kind) -> None:
    by_id = {label.id: label for label in LABELS}
    ids = cityscapes_ids("ulm")
    values = {
        "labelIds": lambda label: label.id,
        "labelTrainIds": lambda label: label.train_id,
        "color": lambda label: (*label.colour, 255),
    }[kind]
    Image.fromarray(np.array([[values(by_id[id]) for id in row] for row in ids.tolist()], np.uint8)).save(
        tmp_path / "x.png"
    )
    mask, strange = TRANSLATIONS[kind](read_codes(tmp_path / "x.png"))
    expected = np.vectorize(lambda id: by_id[id].train_id)(ids)
    if kind == "color":
        expected[ids == 18] = 5  # polegroup has the colour of pole
    assert not strange
    assert np.array_equal(mask, expected)


@pytest.mark.parametrize(("kind", "value"), [("labelIds", 34), ("labelTrainIds", 19), ("color", 1)])
def test_a_value_without_a_meaning_is_strange(kind, value) -> None:
    codes = np.full((2, 3), value, np.int32)
    codes[0, 0] = 255
    assert TRANSLATIONS[kind](codes)[1][value] == 5


def test_a_grey_colour_mask_is_read_as_colours(tmp_path) -> None:
    pixels = np.array([[[70, 70, 70, 255], [153, 153, 153, 255], [0, 0, 0, 255]]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert TRANSLATIONS["color"](read_codes(tmp_path / "x.png"))[0].tolist() == [[2, 5, 255]]


def test_what_is_taken_from_the_archives() -> None:
    name = "gtFine/train/ulm/ulm_000000_000019_gtFine_"
    assert is_wanted(f"{name}labelIds.png")
    assert is_wanted("leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png")
    assert not is_wanted(f"{name}instanceIds.png")
    assert not is_wanted(f"{name}polygons.json")
    assert not is_wanted(f"{name}labelIds.png".replace("train", "test", 1))
    assert not is_wanted(f"__MACOSX/{name}labelIds.png")
