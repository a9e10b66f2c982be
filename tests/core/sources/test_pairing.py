"""Which mask belongs to which image: by the usual endings, or by any one affix that pairs all masks."""

import re
from pathlib import Path
from unicodedata import normalize

import pytest

from semiseg_cli.core.errors import DataError
from semiseg_cli.core.sources.folder import Folders, gather
from semiseg_cli.core.sources.pairing import differing_in_case, pair, parted, several_kinds


def named(words):
    return {str(Path(word).with_suffix("")): Path(word) for word in words.split()}


@pytest.mark.parametrize(
    ("images", "masks", "said"),
    [
        ("a.jpg b.jpg", "a.png b.png", ""),
        ("a.jpg b.jpg", "a_mask.png b_label.png", ""),
        ("f1.png f2.png", "f1_L.png f2_L.png", "NAME_L for NAME"),
        ("I1.jpg I2.jpg I3.jpg", "I1_segmentation.png I3_segmentation.png", "NAME_segmentation for NAME"),
        ("a.jpg b.jpg", "a-mask.png b-mask.png", "NAME-mask for NAME"),
        ("a.jpg b.jpg", "mask_a.png mask_b.png", "mask_NAME for NAME"),
        ("c1_0000.png c2_0000.png", "c1.png c2.png", "NAME for NAME_0000"),
        ("image_1.jpg image_2.jpg image_10.jpg", "mask_1.png mask_10.png", "maskNAME for imageNAME"),
        ("21_training.tif 22_training.tif", "21_manual1.gif 22_manual1.gif", "NAMEmanual1 for NAMEtraining"),
        ("scan_1.jpg scan_2.jpg", "scan_mask_1.png scan_mask_2.png", "scan_maskNAME for scanNAME"),
        ("1.jpg 2.jpg 11.jpg 12.jpg", "1_gt.png 2_gt.png 12_gt.png", "NAME_gt for NAME"),
        ("a.jpg b.jpg", "a.jpg.png b.jpg.png", "NAME.SUFFIX for NAME.SUFFIX"),
        ("a.jpg b.jpeg", "a.jpg.png b.jpeg.png", "NAME.SUFFIX for NAME.SUFFIX"),
        ("a.jpg b.JPG", "a.jpg_gt.png b.JPG_gt.png", "NAME.SUFFIX_gt for NAME.SUFFIX"),
        ("x/1.jpg y/1.jpg", "x/1_gt.png y/1_gt.png", "NAME_gt for NAME"),
        ("a.jpg b.jpg a_gt.jpg", "a_gt.png b_gt.png", "NAME_gt for NAME"),
        ("a.jpg", "a_L.png", "NAME_L for NAME"),
    ],
)
def test_one_affix_that_pairs_all_masks(images, masks, said):
    found = pair(named(images), named(masks))
    assert found.said == (f"masks are named {said}" if said else "")
    assert sorted(found.masks.values()) == sorted(named(masks))
    for image, mask in found.masks.items():
        number, other = (re.sub("_0000|manual1|[^0-9]", "", word) for word in (image, mask))
        assert number == other
        assert Path(image).parent == Path(mask).parent
        assert number or image[0] in mask


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("a.jpg b.jpg", "c_gt.png d_gt.png"),
        ("a.jpg b.jpg", "a_gt.png b_seg.png"),
        ("1.jpg 2.jpg", "11.png 12.png"),  # a number is not an affix and a number
        ("cat.jpg dog.jpg", "tac.png god.png"),
        ("x/a.jpg", "y/a_gt.png"),
        ("cat.jpg dog.jpg", "mask.png"),
    ],
)
def test_names_that_no_affix_pairs(images, masks):
    assert pair(named(images), named(masks)).masks == {}


@pytest.mark.parametrize(
    ("images", "masks", "said"),
    [
        ("s0/a.jpg s1/b.jpg", "a.png b.png", "without their folders"),
        ("a.jpg b.jpg c.jpg", "s0/a_gt.png s1/b_gt.png", "without their folders and named NAME_gt for NAME"),
        ("s0/images/1.jpg s1/images/1.jpg", "s0/labels/1.png s1/labels/1.png", "without the words images and masks"),
        ("8.jpg 9.jpg 10.jpg", "008.png 009.png 010.png", "without the words images and masks of folders, case and"),
        ("IMG_A.jpg IMG_B.jpg", "img_a.png img_b.png", "without the words images and masks of folders, case and"),
        ("x/8.jpg y/9.jpg", "08_gt.png 09_gt.png", "without their folders, case and leading zeros and named NAME_gt"),
    ],
)
def test_names_that_pair_all_masks_without_what_says_nothing(images, masks, said):
    found = pair(named(images), named(masks))
    assert found.said.startswith(f"masks are matched {said}")
    for (image, mask), asked in zip(sorted(found.masks.items()), sorted(named(images)), strict=False):
        assert image in named(images)
        assert re.sub("_gt|.*/|^img_|^IMG_|^0+", "", mask) == re.sub(".*/|^IMG_", "", image).lower(), asked
        assert not mask.startswith("s0/labels") or image.startswith("s0/")
    assert sorted(found.masks.values()) == sorted(named(masks))


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("train/1.jpg train/2.jpg", "val/1.png val/2.png"),  # of other photos, perhaps
        ("x/1.jpg y/1.jpg", "1.png"),
        ("8.jpg 008.jpg", "08.png"),
        ("1.jpg 10.jpg 100.jpg", "01.png 010.png 0200.png"),
    ],
)
def test_names_without_what_says_nothing_are_told_apart_or_not_used(images, masks):
    assert pair(named(images), named(masks)).masks == {}


def test_an_affix_that_leaves_a_mask_over_is_none():
    assert pair(named("a.jpg b.jpg"), named("a.png b_gt.png")).masks == {"a": "a"}


def test_two_affixes_that_pair_all_in_other_ways():
    with pytest.raises(DataError, match="fit in two ways") as caught:
        pair(named("a.jpg a_x.jpg b.jpg b_x.jpg"), named("a_x_y.png b_x_y.png"))
    assert caught.value.why == "NAME_x_y for NAME, or NAME_y for NAME"


@pytest.mark.parametrize(
    ("files", "masks"),
    [
        ("a.jpg a_mask.png b.jpg b_mask.png c.jpg", "a_mask b_mask"),
        ("a.jpg a.png b.jpg b.png c.jpg", "a b"),
        ("image_1.png mask_1.png image_2.png mask_2.png", "mask_1 mask_2"),
        ("1_jpg.rf.0f.jpg 1_jpg.rf.0f_mask.png 2_jpg.rf.1.jpg 2_jpg.rf.1_mask.png", "1_jpg.rf.0f_mask 2_jpg.rf.1_mask"),
        ("a.png a_L.png b.png b_L.png", "a_L b_L"),
        ("0/images/a.jpg 0/labels/a.png 1/images/a.jpg 1/labels/a.png", "0/labels/a 1/labels/a"),
    ],
)
def test_images_and_masks_in_one_folder(files, masks):
    folder = Path("in")
    images, found = parted([folder / file for file in files.split()], folder)
    assert sorted(found) == masks.split()
    assert sorted(pair(images, found).masks.values()) == masks.split()


@pytest.mark.parametrize("files", ["a.jpg b.jpg", "a.png a.tif", "a_mask.png b_mask.png", "a.jpg b_mask.png", ""])
def test_one_folder_that_cannot_be_parted(files):
    with pytest.raises(DataError, match="images and for masks"):
        parted([Path("in") / file for file in files.split()], Path("in"))


def test_names_are_compared_in_unicodes_composed_form(tmp_path):
    for folder, form, suffix in (("i", "NFD", "jpg"), ("m", "NFC", "png")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{normalize(form, 'prés')}.{suffix}").write_bytes(b"x")
    sources = gather(Folders(tmp_path / "i", tmp_path / "m"))
    assert [source.id for source in sources.labeled] == [normalize("NFC", "prés")]
    assert sources.labeled[0].image.is_file()


def test_several_masks_for_an_image_are_named():
    masks = named("a1_color.png a1_ids.png a10_color.png")
    assert several_kinds(["a", "a1"], masks) == ["a1_color", "a1_ids"]
    assert several_kinds(["a", "a10"], masks) == []


def test_a_difference_in_case_is_named():
    assert differing_in_case(["IMG_1", "b"], ["img_1"]) == "; img_1 and IMG_1 differ in case"
    assert differing_in_case(["a"], ["b"]) == ""
