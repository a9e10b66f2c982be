"""A photo in another encoding or size is found; frames of a film, and pictures of nothing, are not taken for one."""

import cv2
import numpy as np
import pytest

from semiseg_cli.core.data.imaging import write_image
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.sources.checks import look, similar_pictures

HEIGHT, WIDTH = 96, 128


def scene(seed, shift=0, thing=0):
    """A landscape of smooth blobs with fine texture; the camera moves by `shift`, and something small by `thing`."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (8, 12, 3)).astype(np.float32)
    wide = cv2.resize(coarse, (WIDTH + 32, HEIGHT), interpolation=cv2.INTER_CUBIC)[:, shift : shift + WIDTH]
    image = (wide + rng.normal(0, 12, wide.shape)).clip(0, 255).astype(np.uint8)
    if thing:
        image[40:56, 10 + thing : 26 + thing] = (250, 240, 20)
    return image


def jpeg(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def found(tmp_path, train, val):
    dataset = Dataset("d", "folder", tmp_path, ("a", "b"), ((0, 0, 0), (9, 9, 9)), (), ())

    def looks(part, images):
        files = [write_image(tmp_path / f"{part}{i}.png", image) for i, image in enumerate(images)]
        shapes = [image.shape[:2] for image in images]
        return [look(Record(file.stem, file, None, *size), dataset) for file, size in zip(files, shapes, strict=True)]

    return [(a.id, b.id) for a, b in similar_pictures(looks("t", train), looks("v", val))]


@pytest.mark.parametrize("quality", [95, 75, 30])
def test_another_encoding_is_found_among_others(tmp_path, quality):
    train = [scene(seed) for seed in range(8)]
    assert found(tmp_path, train, [jpeg(scene(3), quality), scene(20)]) == [("t3", "v0")]


def test_another_size_is_found(tmp_path):
    small = cv2.resize(scene(1), (70, 53), interpolation=cv2.INTER_AREA)
    assert found(tmp_path, [scene(0), scene(1)], [jpeg(small, 80)]) == [("t1", "v0")]
    assert found(tmp_path, [scene(1)], [cv2.resize(scene(1), (96, 96))]) == []  # another shape is another picture


@pytest.mark.parametrize("frames", [({"shift": 0}, {"shift": 4}), ({"thing": 10}, {"thing": 22})])
def test_neighbours_in_a_film_are_two_pictures(tmp_path, frames):
    """The camera pans by a thirtieth of the width, or stands while a thing of two per cent of the image moves."""
    a, b = (scene(5, **frame) for frame in frames)
    assert found(tmp_path, [a], [jpeg(b, 90)]) == []


def test_equal_and_empty_pictures_are_left_to_others(tmp_path):
    empty = np.full((HEIGHT, WIDTH, 3), 17, np.uint8)
    assert found(tmp_path, [scene(0), empty], [scene(0), jpeg(empty + 1, 50)]) == []
    assert found(tmp_path, [], [scene(0)]) == []
