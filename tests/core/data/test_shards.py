"""Photos in tar files: what is written is a tar, what is read is the photo that was indexed, or an error says so."""

from __future__ import annotations

import hashlib
import os
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semiseg_cli.core.data import shards, store
from semiseg_cli.core.data.decode import decode_image
from semiseg_cli.core.data.photos import read_image
from semiseg_cli.core.data.shards import Member, content, is_there, member, state_of, write
from semiseg_cli.core.errors import BadFile

LONG = f"{'very/' * 30}long-name-ä.jpg"  # more than the hundred bytes of a tar's header


def photo(seed: int, size: tuple[int, int] = (20, 30)) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


PHOTOS = [("a.png", photo(0)), (LONG, photo(1)), ("sub/é.png", photo(2)), ("z.png", b"x" * 512)]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    return folder / "00003.tar"


def paths(shard: Path, photos: list[tuple[str, bytes]] = PHOTOS) -> list[Path]:
    """Write a shard, and its `shards.json`; the paths of its photos."""
    begins, listed = write(shard, photos)
    (shard.parent / "shards.json").write_text(f'{{"{shard.name}": {str(listed).replace(chr(39), chr(34))}}}')
    return [shard / str(begin) / name for begin, (name, _) in zip(begins, photos, strict=True)]


def read(path: Path, length: int = 0) -> bytes:
    found = member(path)
    assert found
    return content(found, length)


def test_a_shard_is_a_tar_of_the_photos_in_their_order(shard: Path) -> None:
    paths(shard)
    with tarfile.open(shard) as tar:
        found = [(each.name, tar.extractfile(each).read()) for each in tar]  # type: ignore[union-attr]
    assert found == PHOTOS


def test_a_shard_is_the_same_every_time_and_listed_as_it_is(shard: Path) -> None:
    _, listed = write(shard, PHOTOS)
    data = shard.read_bytes()
    assert listed == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    os.utime(shard, (1, 1))
    assert write(shard, iter(PHOTOS))[1] == listed
    assert len(data) % tarfile.RECORDSIZE == 0
    assert [path.name for path in shard.parent.iterdir()] == [shard.name]


def test_a_photo_is_read_by_its_place_with_its_length_and_without(shard: Path) -> None:
    for path, (_, data) in zip(paths(shard), PHOTOS, strict=True):
        assert read(path) == read(path, len(data)) == data


def test_both_decoders_take_a_photo_in_a_shard_for_the_file_that_it_was(shard: Path, tmp_path: Path) -> None:
    first = paths(shard)[0]
    (tmp_path / "a.png").write_bytes(PHOTOS[0][1])
    assert np.array_equal(read_image(first), read_image(tmp_path / "a.png"))
    assert np.array_equal(decode_image(first, (20, 30), len(PHOTOS[0][1])), decode_image(tmp_path / "a.png"))


@pytest.mark.parametrize("name", ["shards/00001.tar", "00001.tar/512/a", "shards/1.tar/5/a", "shards/00001.tar/a/b"])
def test_other_paths_are_those_of_files(name: str, tmp_path: Path) -> None:
    assert member(tmp_path / name) is None
    assert member(tmp_path / "shards" / "00001.tar" / "512" / "a" / "b.jpg") == Member(
        tmp_path / "shards" / "00001.tar", 512, "a/b.jpg"
    )


def refused(path: Path, length: int = 0) -> str:
    """What is said where a photo cannot be read; the remedy is always there."""
    with pytest.raises(BadFile) as caught:
        read(path, length)
    assert "make the shards again" in caught.value.fix
    assert "00003.tar" in caught.value.what
    return f"{caught.value.what}; {caught.value.why}"


def test_a_shard_that_is_cut_short_is_named(shard: Path) -> None:
    each = paths(shard)
    with shard.open("rb+") as file:
        file.truncate(int(each[2].parent.parent.name) + 10)
    assert read(each[0]) == PHOTOS[0][1]
    assert "it ends too early" in refused(each[2], len(PHOTOS[2][1])) or "are none" in refused(each[2])
    found = refused(each[3], 512)
    assert "00003.tar ends before z.png in it does" in found
    assert "are none" in found
    assert "it has" in shards.wrong(shard)
    assert not is_there(each[0])


def test_another_shard_in_its_place_is_never_decoded(shard: Path) -> None:
    each = paths(shard)
    other = [("b.png", photo(7)), *PHOTOS[1:]]
    assert len(other[0][1]) == len(PHOTOS[0][1])
    write(shard, other)
    shards._opened.cache_clear()
    assert "not the shard that was indexed: a.png is not where it was; byte 512 is where 'b.png' begins" in refused(
        each[0], len(PHOTOS[0][1])
    )


def test_an_index_of_other_shards_is_told_from_this_one(shard: Path) -> None:
    each = paths(shard)
    assert "no photo begins at byte" in refused(shard / "1024" / "a.png", 100)
    assert "are none" in refused(shard / "0" / "a.png", 100)
    assert f"has {len(PHOTOS[0][1]):,} bytes there, and 99 in the index" in refused(each[0], 99)
    assert "where 'z.png' begins" in refused(each[3].with_name("y.png"), 512)
    assert "where 'very/" in refused(shard / str(each[1]).split("/00003.tar/")[1].split("/")[0] / "very/short.jpg")


def test_a_shard_that_is_gone_is_named(shard: Path) -> None:
    each = paths(shard)
    shard.unlink()
    assert refused(each[0]) == f"there is no shard {shard}; a.png is in it"
    assert "No such file" in shards.wrong(shard)
    (shard.parent / "shards.json").unlink()
    with pytest.raises(BadFile, match=r"shards\.json"):
        shards.wrong(shard)


def test_the_state_of_a_photo_changes_with_its_shard_and_that_of_a_file_with_its_time(shard: Path) -> None:
    each = paths(shard)
    before = [state_of(path) for path in each]
    assert len(set(before)) == len(each)
    paths(shard, [("a.png", photo(9)), *PHOTOS[1:]])
    assert before[0] != state_of(each[0])
    assert state_of(shard) == (shard.stat().st_size, shard.stat().st_mtime_ns)
    with pytest.raises(OSError, match="no shard"):
        state_of(shard.with_name("00004.tar") / "512" / "a")


def test_a_damaged_description_of_a_store_is_named(shard: Path) -> None:
    (shard.parent / "store.toml").write_text('url = "s3://x"\n')
    with pytest.raises(Exception, match=r"store\.toml cannot be read"):
        store.of(shard.parent)
