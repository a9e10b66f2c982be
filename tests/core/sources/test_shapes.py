import hashlib

import numpy as np
import pytest

from semiseg_cli.core.sources import shapes


def digest(*arguments):
    return hashlib.sha256(b"".join(array.tobytes() for array in shapes.draw(*arguments))).hexdigest()


@pytest.mark.parametrize("size", [32, 128])
def test_an_image_and_its_mask(size):
    image, mask = shapes.draw(0, "train", 0, size)
    assert image.shape == (size, size, 3)
    assert mask.shape == (size, size)
    assert image.dtype == mask.dtype == np.uint8
    assert 0 < (mask > 0).mean() < 0.9
    assert mask.max() < len(shapes.CLASSES) == len(shapes.PALETTE)


def test_an_image_is_a_function_of_seed_part_and_index():
    assert digest(3, "val", 7, 64) == digest(3, "val", 7, 64)
    others = ((3, "val", 7, 64), (4, "val", 7, 64), (3, "train", 7, 64), (3, "val", 8, 64))
    assert len({digest(*arguments) for arguments in others}) == 4


@pytest.mark.parametrize("seed", range(4))
def test_the_first_images_show_every_class(seed):
    for index in range(5):
        _, mask = shapes.draw(seed, "train", index, 64)
        assert (mask == index + 1).sum() > 10


def test_the_cross_is_rare():
    masks = [shapes.draw(0, "val", index, 64)[1] for index in range(300)]
    images = np.array([sum((mask == k).any() for mask in masks) for k in range(1, 6)])
    assert images[-1] > 20
    assert (images[:-1] > 1.8 * images[-1]).all()


def test_tint_mostly_tells_the_class_but_not_always():
    def hue(kind, index):
        surface = shapes._surface(np.random.default_rng([kind, index]), 16, kind).mean((0, 1))
        return surface.argmax()

    reds = [hue(0, index) for index in range(200)]
    assert 0.88 < np.mean(np.array(reds) == 0) < 0.99
