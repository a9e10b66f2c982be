"""What a folder of masks means: decided from all of them, the same for all, right in every pixel, or refused."""

import numpy as np
import pytest
from PIL import Image

from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.core.sources.classes import Classes
from semiseg_cli.core.sources.codes import NOT_A_NUMBER, TRANSPARENT, colour_code
from semiseg_cli.core.sources.meaning import decide
from semiseg_cli.core.sources.rasters import read_raster
from semiseg_cli.core.sources.survey import look, tally
from semiseg_cli.core.sources.told import Told

NAMES = ("ground", "snow", "lava")
PALETTE = ((0, 0, 0), (255, 255, 255), (255, 0, 0))
THREE, COLOURED, TWO = Classes(NAMES), Classes(NAMES, PALETTE), Classes(NAMES[:2])
ALL, FEW = np.array([[0, 1, 2], [2, 0, 1]]), np.array([[0, 1, 0], [1, 1, 0]])  # without lava


def rgb(mask, palette=PALETTE):
    return Image.fromarray(np.array(palette, np.uint8)[mask])


def grey(mask, kind=np.uint8):
    return Image.fromarray(np.asarray(mask).astype(kind))


def indexed(mask, palette):
    image = Image.fromarray(np.asarray(mask).astype(np.uint8), "P")
    image.putpalette([level for colour in palette for level in colour])
    return image


def rgba(mask, alpha):
    return Image.fromarray(np.dstack([np.array(rgb(mask)), np.array(alpha, np.uint8)]))


def read(folder, images, classes, told=Told()):  # noqa: B008 - it is frozen
    """All of them as `prepare` reads them, and what was decided in words."""
    folder.mkdir(exist_ok=True)
    paths = []
    for number, image in enumerate(images):
        paths.append(folder / f"{number}.{'png' if image.mode != 'F' else 'tif'}")
        image.save(paths[-1])
    meaning = decide([look(path) for path in paths], classes, told)
    rasters = [read_raster(path) for path in paths]
    return [meaning(raster, raster.pixels).tolist() for raster in rasters], meaning.said


def refused(folder, images, classes, told=Told(), error=DataError):  # noqa: B008
    with pytest.raises(error) as caught:
        read(folder, images, classes, told)
    return caught.value


def test_rgb_masks_are_colours_where_a_palette_is_given_also_those_of_greys_alone(tmp_path):
    images = [rgb(ALL), rgb(FEW), rgb(FEW * 0)]
    assert read(tmp_path, images, COLOURED) == (
        [ALL.tolist(), FEW.tolist(), (FEW * 0).tolist()],
        "masks: 3 RGB by colour",
    )
    dark = Classes(NAMES, ((0, 0, 0), (2, 2, 2), (255, 0, 0)))  # the colour of class 1 is the value of class 2
    assert read(tmp_path, [rgb(FEW, dark.palette)], dark)[0] == [FEW.tolist()]
    opaque = np.full(FEW.shape, 255)
    assert read(tmp_path, [rgba(FEW, opaque), rgba(ALL, opaque)], COLOURED)[0] == [FEW.tolist(), ALL.tolist()]


def test_rgb_of_greys_is_values_where_no_colour_is_known(tmp_path):
    images = [Image.merge("RGB", [grey(mask)] * 3) for mask in (ALL, FEW)]
    masks, said = read(tmp_path, images, THREE)
    assert masks == [ALL.tolist(), FEW.tolist()]
    assert said == "masks: 2 RGB of greys by their level (0 is 'ground', 2 is 'lava')"
    error = refused(tmp_path, [images[0], rgb(ALL)], THREE)
    assert "--classes FILE.csv" in error.fix


def test_a_palette_in_another_order_is_read_by_colour(tmp_path):
    order = [2, 0, 1]  # index k of the file is drawn in the colour of class order[k]
    shown = [PALETTE[k] for k in order]
    images = [indexed(np.argsort(order)[mask], shown) for mask in (ALL, FEW)]
    masks, said = read(tmp_path, images, COLOURED)
    assert masks == [ALL.tolist(), FEW.tolist()]
    assert said == "masks: 2 palette by colour, not by index"
    assert read(tmp_path, images, COLOURED, Told(reading="index"))[0] == [
        np.argsort(order)[m].tolist() for m in (ALL, FEW)
    ]


def test_each_file_may_have_a_palette_of_its_own(tmp_path):
    images = [rgb(mask).quantize(3) for mask in (ALL, FEW)]  # adaptive: the order differs
    assert read(tmp_path, images, COLOURED)[0] == [ALL.tolist(), FEW.tolist()]
    error = refused(tmp_path, [indexed(FEW, PALETTE), indexed(ALL, PALETTE[::-1])], THREE)
    assert "index 0 is #000000 in" in error.why
    assert read(tmp_path, images[1:], THREE, Told(reading="index"))[0] == [np.array(images[1]).tolist()]


def test_void_in_a_palette_is_void_whatever_its_colour(tmp_path):
    void = np.array([[0, 1, 255]])
    shown = [PALETTE[1], PALETTE[0], *[(7, 7, 7)] * 253, (224, 224, 192)]
    assert read(tmp_path, [indexed(void, shown)], COLOURED)[0] == [[[1, 0, 255]]]


def test_a_palette_that_is_for_display_is_not_read(tmp_path):
    voc = [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
    masks, said = read(tmp_path, [indexed(ALL, voc), indexed(FEW, voc)], COLOURED)
    assert masks == [ALL.tolist(), FEW.tolist()]
    assert said == "masks: 2 palette by index (0 is 'ground', 2 is 'lava')"


def test_an_index_that_is_one_class_and_its_colour_another_is_refused(tmp_path):
    shown = [PALETTE[0], PALETTE[2], (9, 9, 9)]  # 1 is red, which is lava, and 2 is no colour of a class
    error = refused(tmp_path, [indexed(ALL, shown)], COLOURED)
    assert "'snow' by their value 1, and 'lava' by their colour #ff0000" in error.why
    assert read(tmp_path, [indexed(ALL, shown)], COLOURED, Told(reading="index"))[0] == [ALL.tolist()]
    told = Told(reading="colour", map={colour_code((9, 9, 9)): 255})
    assert read(tmp_path, [indexed(ALL, shown)], COLOURED, told)[0] == [np.array([0, 2, 255])[ALL].tolist()]


def test_palettes_that_hold_greys_are_read_by_their_grey_where_they_differ(tmp_path):
    white, both = indexed(FEW * 0, [(255, 255, 255)]), indexed(FEW, [(0, 0, 0), (255, 255, 255)])
    masks, said = read(tmp_path, [white, both], TWO, Told(map={255: 1}))
    assert masks == [np.ones_like(FEW).tolist(), FEW.tolist()]
    assert said.startswith("masks: 2 palette by the grey of its colours")
    assert read(tmp_path, [both], TWO)[0] == [FEW.tolist()]


def test_masks_of_two_tools(tmp_path):
    """One saves colours as RGB, as a palette of its own, or as grey where it can; the other writes values."""
    black_and_white = grey(FEW * 255)
    images = [rgb(ALL), rgb(ALL).quantize(3), black_and_white]
    masks, said = read(tmp_path, images, COLOURED)
    assert masks == [ALL.tolist(), ALL.tolist(), FEW.tolist()]
    assert said == "masks: 1 RGB by colour, 1 grey by colour, not by value, 1 palette by colour, not by index"
    clear = indexed(ALL, PALETTE)
    clear.info["transparency"] = 0  # for display: the index says what it is
    assert read(tmp_path, [clear, rgb(FEW)], COLOURED)[0] == [ALL.tolist(), FEW.tolist()]
    masks, said = read(tmp_path, [rgb(ALL), grey(ALL), grey(FEW)], COLOURED)
    assert masks == [ALL.tolist(), ALL.tolist(), FEW.tolist()]
    assert said == "masks: 1 RGB by colour, 2 grey by value (0 is 'ground', 2 is 'lava')"


def test_grey_masks_that_are_two_things_are_refused(tmp_path):
    dark = Classes(NAMES, ((0, 0, 0), (2, 2, 2), (255, 0, 0)))
    error = refused(tmp_path, [grey(FEW * 2)], dark)
    assert "'lava' by their value 2, and 'snow' by their colour #020202" in error.why
    assert read(tmp_path, [grey(FEW * 2)], dark, Told(reading="colour"))[0] == [FEW.tolist()]
    assert read(tmp_path, [grey(FEW * 2)], dark, Told(reading="index"))[0] == [(FEW * 2).tolist()]


@pytest.mark.parametrize(
    "told", [Told(unknown="nearest"), Told(unknown="ignore"), Told(map={colour_code((127, 0, 0)): 0})]
)
def test_colours_of_no_class_are_counted_and_accepted_by_one_switch(tmp_path, told):
    image = rgb(ALL)
    image.putpixel((0, 0), (127, 0, 0))  # between black and red, nearer to black
    error = refused(tmp_path, [image, rgb(FEW)], COLOURED)
    assert error.what == "1 file: masks have colours of no class, 1 pixel (8.3 %)"
    assert error.why.startswith("#7f0000 (1 pixel, nearest: 'ground', 127 levels away)\n")
    assert "--unknown nearest" in error.fix
    expected = ALL.copy()
    expected[0, 0] = 255 if told.unknown == "ignore" else 0
    masks, said = read(tmp_path, [image, rgb(FEW)], COLOURED, told)
    assert masks == [expected.tolist(), FEW.tolist()]
    snapped = "1 pixel (8.3 %) of other colours is taken as the nearest class, at most 127" in said
    assert snapped == (told.unknown == "nearest")


def test_many_colours_that_are_far_are_of_other_classes(tmp_path):
    """As objects have in CVAT's SegmentationObject: the nearest class would be any."""
    greens = [np.where(ALL[..., None] > 0, (90, 200, shade), 0) for shade in range(4)]
    objects = [Image.fromarray(green.astype(np.uint8)) for green in greens]
    error = refused(tmp_path, objects, COLOURED)
    assert "nearest" not in error.fix
    assert error.fix.startswith("add what they are to the classes file, or --unknown ignore")
    assert "CVAT's SegmentationObject" in error.fix
    assert "SegmentationObject" not in refused(tmp_path, objects[:1], COLOURED).fix


def test_smooth_edges_in_a_palette(tmp_path):
    smooth = indexed(np.array([[0, 1, 2, 3]]), [(255, 0, 0), (200, 10, 10), (255, 255, 255), (0, 0, 0)])
    assert "#c80a0a (1 pixel, nearest: 'lava'" in refused(tmp_path, [smooth], COLOURED).why
    assert read(tmp_path, [smooth], COLOURED, Told(unknown="nearest"))[0] == [[[2, 2, 1, 0]]]


def test_transparent_pixels_are_not_the_colour_under_them(tmp_path):
    image = rgba(ALL, (ALL > 0) * 255)
    image.putpixel((0, 0), (255, 0, 0, 0))  # red, and not to be seen
    error = refused(tmp_path, [image], COLOURED)
    assert error.what == "1 file: masks have transparent pixels, 2 pixels (33 %)"
    assert "--map transparent=0 if these pixels are 'ground', --map transparent=255" in error.fix
    for target in (0, 255):
        expected = np.where(ALL > 0, ALL, target).tolist()
        assert read(tmp_path, [image], COLOURED, Told(map={TRANSPARENT: target}))[0] == [expected]
    values = Image.fromarray(np.dstack([np.maximum(ALL, 1), (ALL > 0) * 255]).astype(np.uint8), "LA")
    assert "transparent" in refused(tmp_path, [values], THREE).what
    assert read(tmp_path, [values], THREE, Told(map={TRANSPARENT: 0}))[0] == [ALL.tolist()]


def test_one_alpha_for_all_that_shows_is_as_good_as_opaque(tmp_path):
    image = rgba(ALL, np.where(ALL, 100, 0))
    assert read(tmp_path, [image], COLOURED, Told(map={TRANSPARENT: 0}))[0] == [ALL.tolist()]


def test_partly_transparent_pixels(tmp_path):
    image = rgba(np.array([[0, 1, 2, 2]]), [[255, 255, 200, 9]])
    assert "2 pixels partly transparent" in refused(tmp_path, [image], COLOURED).what
    told = Told(unknown="nearest", map={TRANSPARENT: 0})
    assert read(tmp_path, [image], COLOURED, told)[0] == [[[0, 1, 2, 0]]]
    assert read(tmp_path, [image], COLOURED, Told(unknown="ignore"))[0] == [[[0, 1, 255, 255]]]


@pytest.mark.parametrize(
    ("value", "code", "name"),
    [
        (-9999, -9999, "-9999"),
        (np.nan, NOT_A_NUMBER, "nan"),
        (0.5, 0.5, "0.5"),
        (-3.4028235e38, float(np.float32(-3.4028235e38)), "-3.4028235e+38"),
    ],
)
def test_values_that_are_no_class_number_are_never_cut(tmp_path, value, code, name):
    image = Image.fromarray(np.where(ALL == 2, value, ALL).astype(np.float32))
    error = refused(tmp_path, [image], THREE)
    assert f"{name} (2 pixels)" in error.why
    assert f"--map '{name}=255'" in error.fix
    expected = np.where(ALL == 2, 255, ALL).tolist()
    assert read(tmp_path, [image], THREE, Told(map={code: 255}))[0] == [expected]
    assert read(tmp_path, [image], THREE, Told(unknown="ignore"))[0] == [expected]


def test_whole_floats_and_deep_values_are_values(tmp_path):
    images = [grey(ALL, np.float32), grey(ALL, np.uint16), grey(ALL)]
    assert read(tmp_path, images, THREE)[0] == [ALL.tolist()] * 3
    wide = Classes(NAMES, values=(0, 1000, 40000))
    assert read(tmp_path, [grey(np.array([0, 1000, 40000])[ALL], np.uint16)], wide)[0] == [ALL.tolist()]


def test_counted_from_one(tmp_path):
    images = [grey(ALL + 1), grey([[0, 255, 3]])]
    error = refused(tmp_path, images, THREE)
    assert error.fix.startswith("--first 1 if the classes are counted from 1 (0 then counts nowhere")
    masks, said = read(tmp_path, images, THREE, Told(first=1))
    assert masks == [ALL.tolist(), [[255, 255, 2]]]
    assert said == "masks: 2 grey by value (1 is 'ground', 3 is 'lava'); 22 % of the pixels count nowhere: 0, 255"
    assert read(tmp_path, images, THREE, Told(first=1, map={0: 0}))[0][1] == [[0, 255, 2]]
    error = refused(tmp_path, [grey(FEW + 1)], THREE)
    assert error.fix == "--first 0 if 1 is 'snow', or --first 1 if 1 is 'ground'"
    assert read(tmp_path, [grey(FEW + 1)], THREE, Told(first=0))[0] == [(FEW + 1).tolist()]
    assert read(tmp_path, [grey(FEW + 1)], THREE, Told(first=1))[0] == [FEW.tolist()]


def test_values_of_the_classes_file(tmp_path):
    classes = Classes(NAMES, values=(4, 7, 26))
    masks, said = read(tmp_path, [grey(np.array([4, 7, 26])[ALL])], classes)
    assert masks == [ALL.tolist()]
    assert said == "masks: 1 grey by value (4 is 'ground', 26 is 'lava')"
    assert "0 (2 pixels)" in refused(tmp_path, [grey(np.array([0, 7, 26])[ALL])], classes).why
    white = Classes(NAMES[:2], values=(0, 255))
    assert read(tmp_path, [grey(FEW * 255)], white)[0] == [FEW.tolist()]
    with pytest.raises(UsageError, match="gives each class its value"):
        read(tmp_path, [], classes, Told(first=1))


def test_an_ignored_value_is_no_class(tmp_path):
    error = refused(tmp_path, [grey(ALL)], THREE, Told(ignore=0), UsageError)
    assert error.what == "--ignore 0 leaves no pixel to class 0, 'ground', whose value it is"
    assert error.fix.startswith("--first 1 instead")
    assert read(tmp_path, [grey(ALL)], THREE, Told(ignore=0, map={0: 255}))[0] == [np.where(ALL, ALL, 255).tolist()]
    assert read(tmp_path, [rgb(ALL)], COLOURED, Told(ignore=0))[0] == [ALL.tolist()]
    assert "ignore_index 1" in refused(tmp_path, [grey(ALL)], Classes(NAMES, ignore=1), error=UsageError).what


@pytest.mark.parametrize("images", [[grey(FEW * 255)], [grey(FEW * 255), grey(FEW)]])
def test_black_and_white_is_asked_for(tmp_path, images):
    error = refused(tmp_path, images, TWO)
    assert error.fix.startswith("--map 255=1 if 255 stands for 'snow', or --ignore 255")
    assert read(tmp_path, images, TWO, Told(map={255: 1}))[0] == [FEW.tolist()] * len(images)
    ignored = read(tmp_path, images, TWO, Told(ignore=255))[0]
    assert ignored[0] == (FEW * 255).tolist()


def test_255_beside_class_1_counts_nowhere(tmp_path):
    masks, said = read(tmp_path, [grey([[0, 1, 255]]), grey([[0, 0, 255]])], TWO)
    assert masks == [[[0, 1, 255]], [[0, 0, 255]]]
    assert said == "masks: 2 grey by value (0 is 'ground', 1 is 'snow'); 33 % of the pixels count nowhere: 255"


def test_what_is_no_mask(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    assert "a photo or a measurement" in refused(tmp_path, [Image.fromarray(noise)], COLOURED).what


def test_pixels_are_counted_run_by_run():
    for kind in (np.uint8, np.int32, np.float32):
        pixels = np.random.default_rng(0).integers(0, 5, (40, 60)).astype(kind)
        values, counts = tally(pixels)
        assert values.tolist() == [0, 1, 2, 3, 4]
        assert counts.tolist() == np.bincount(pixels.ravel().astype(int)).tolist()


def test_the_order_of_the_files_is_of_no_consequence(tmp_path):
    images = [grey(FEW * 255), rgb(ALL), indexed(ALL, PALETTE), rgb(FEW)]
    one, other = (read(tmp_path, order, COLOURED) for order in (images, images[::-1]))
    assert one[0] == other[0][::-1]
    assert one[1] == other[1]


def test_a_class_that_is_in_no_mask_beside_255_is_asked_for(tmp_path):
    """Black, grey and white of three classes: 255 counts nowhere, unless somebody says what it is."""
    white = [grey(np.array([0, 1, 255])[mask]) for mask in (ALL, ALL)]
    masks, said = read(tmp_path, white, THREE)
    assert masks[0] == np.array([0, 1, 255])[ALL].tolist()
    assert "of all classes 'lava' alone is in none: --map 255=2 if 255 stands for it" in said
    masks, said = read(tmp_path, white, THREE, Told(map={255: 2}))
    assert masks[0] == ALL.tolist()
    assert "alone is in none" not in said
    assert "alone is in none" not in read(tmp_path, white, THREE, Told(ignore=255))[1]
    assert "alone is in none" not in read(tmp_path, [grey(ALL), *white], THREE)[1]
