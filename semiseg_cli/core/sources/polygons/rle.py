"""Run lengths of masks: COCO's (plain, and packed into a string), CVAT's, and the bits of Label Studio's brush.

pycocotools decodes COCO's as well, and trusts them: counts that are too large write beyond its array.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST = 1 << 28  # pixels of a mask


def runs(counts: Sequence[int] | NDArray[np.int64], height: int, width: int, *, columns: bool) -> NDArray[np.bool_]:
    """A mask HxW from lengths of runs outside, inside, outside, ... the shape, down its columns or along its rows.

    Raises ValueError where they are not as many as the pixels.
    """
    lengths = np.asarray(counts, np.int64)
    if not 0 < height * width <= MOST or lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != height * width:
        raise ValueError(f"its runs cover {int(lengths.sum()):,} pixels, not {height}x{width}")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return np.ascontiguousarray(flat.reshape(width, height).T) if columns else flat.reshape(height, width)


def unpacked(text: str) -> list[int]:
    """The run lengths of COCO's string: five bits a letter, the sixth says that more follow; from the fourth run on
    each is the difference from the one before the last."""
    counts = list[int]()
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"its runs hold the letter {letter!r}")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


def brushed(data: Sequence[int] | NDArray[np.uint8], height: int, width: int) -> NDArray[np.bool_]:
    """A mask HxW from Label Studio's brush: runs, packed by bits, of the bytes of an RGBA image; where alpha is not 0.

    The head holds the number of words (32 bits), the bits of a word less one (5), and four times the bits of a length
    less one (4). A run is a bit that says whether one word repeats, two bits that choose the width of its length, the
    length less one, and the word or words. Raises ValueError where that is not as long as the image.
    """
    bits = np.unpackbits(np.asarray(data, np.uint8))
    place = 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        if place > len(bits):
            raise ValueError("its runs break off")
        return int("".join(map(str, bits[place - count : place].tolist())), 2)

    total, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    if total != height * width * 4 or not 0 < height * width <= MOST or word != 8:
        raise ValueError(f"its runs cover {total // 4:,} pixels, not {height}x{width}")
    values, done = np.zeros(total, np.uint8), 0
    while done < total:
        repeats = take(1)
        end = done + 1 + take(sizes[take(2)])
        if end > total:
            raise ValueError("its runs are longer than the image")
        if repeats:
            values[done:end] = take(word)
        else:
            place += (end - done) * word
            if place > len(bits):
                raise ValueError("its runs break off")
            values[done:end] = np.packbits(bits[place - (end - done) * word : place])
        done = end
    return values.reshape(height, width, 4)[..., 3] > 0
