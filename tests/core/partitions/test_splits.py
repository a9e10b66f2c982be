import hashlib
import random
import re
import unicodedata
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semiseg_cli.core.data.imaging import write_image
from semiseg_cli.core.data.names import fingerprint, path_of, stem_of
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.core.partitions.splits import choose, resolve_partition

K = 4


def record(id, classes=(0,), mask=True):
    pixels = tuple(100 * (k in classes) for k in range(K)) if mask else ()
    return Record(id, Path(f"{id}.jpg"), Path(f"{id}.png") if mask else None, 10, 10, pixels)


def dataset(labeled=367, unlabeled=5, root=Path("data/d")):
    train = [record(f"street/{i:04d}", {0, i % 2, 3 * (i % 50 == 0)}) for i in range(labeled)]
    train += [record(f"pool/{i}", mask=False) for i in range(unlabeled)]
    return Dataset("d", "folder", root, tuple("abcd"), ((0, 0, 0),) * K, tuple(train), ())


@pytest.mark.parametrize(
    ("words", "count"), [("", 367), ("23", 23), ("1/8", 46), ("1/16", 23), ("1/2", 184), ("1/999", 1), ("3/3", 367)]
)
@pytest.mark.parametrize("balance", ["classes", "random"])
def test_counts_and_fractions(words, count, balance):
    data = dataset()
    partition = resolve_partition(data, words, balance=balance, seed=5)
    assert len(partition.labeled) == count
    assert len(partition.labeled) + len(partition.unlabeled) == len(data.train)
    assert all(record.mask and record.pixels for record in partition.labeled)
    assert all(record.mask is None and not record.pixels for record in partition.unlabeled)
    assert {r.id for r in partition.labeled + partition.unlabeled} == {r.id for r in data.train}
    name = "all 367 labeled images" if count == 367 else f"own partition, seed 5, {count} of 367 ({balance})"
    assert partition.name == name


def test_half_a_sixteenth_rounds_up_as_the_published_92_do():
    assert len(resolve_partition(dataset(1464), "1/16", balance="random").labeled) == 92


def test_too_many():
    with pytest.raises(DataError, match="has 367"):
        resolve_partition(dataset(), "368")
    with pytest.raises(DataError, match="no labeled image"):
        resolve_partition(dataset(labeled=0), "")


@pytest.mark.parametrize("words", ["0", "0/8", "9/8", "1/0", "-3", "many", "nowhere.txt"])
def test_words_without_a_meaning(words):
    with pytest.raises(UsageError):
        resolve_partition(dataset(), words)


@pytest.mark.parametrize("balance", ["classes", "random"])
def test_a_partition_does_not_depend_on_order_and_grows_with_its_count(balance):
    records = list(dataset().labeled)
    drawn = choose(records, K, 60, balance=balance, seed=1)
    random.Random(0).shuffle(records)
    assert choose(records, K, 60, balance=balance, seed=1) == drawn
    assert choose(records, K, 20, balance=balance, seed=1) == drawn[:20]
    assert choose(records, K, 20, balance=balance, seed=2) != drawn[:20]
    assert len(set(drawn)) == 60


def test_the_draw_never_changes():
    """Results are compared by fingerprint: a new version must draw the same images."""
    partition = resolve_partition(dataset(), "23", seed=0)
    assert partition.fingerprint == "0cd10ea5711b9a4de0b3d045d486298580c1fa0289772929d222b1662f9b3cb9"


@given(st.lists(st.sets(st.integers(0, K - 1)), min_size=1, max_size=30), st.integers(0, 9), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_every_class_is_covered_when_the_count_allows(contents, seed, count):
    records = [record(str(i), classes) for i, classes in enumerate(contents)]
    count = min(count, len(records))
    chosen = choose(records, K, count, balance="classes", seed=seed)
    assert len(set(chosen)) == count
    there = set().union(*contents)
    covered = set().union(*(contents[int(id)] for id in chosen))
    assert len(covered) >= min(count, len(there))


def test_balance_favours_the_rare_class():
    def images_with_it(balance):
        drawn = [resolve_partition(dataset(), "8", balance=balance, seed=seed).labeled for seed in range(5)]
        return sum(record.pixels[3] > 0 for labeled in drawn for record in labeled)

    assert images_with_it("classes") >= 5 > images_with_it("random")


def test_masks_are_counted_where_prepare_has_not(tmp_path):
    paths = [write_image(tmp_path / f"{k}.png", np.full((4, 4), k, np.uint8)) for k in (0, 2)]
    records = [Record(f"{i}", paths[0], paths[i == 5], 4, 4) for i in range(8)]
    for seed in range(4):
        assert "5" in choose(records, K, 2, balance="classes", seed=seed)


@pytest.mark.parametrize(
    ("line", "stem"),
    [
        ("2007_000032", "2007_000032"),
        ("JPEGImages/2007_000032.jpg SegmentationClass/2007_000032.png", "2007_000032"),
        ("leftImg8bit/train/ulm/ulm_0_1_leftImg8bit.png gtFine/train/ulm/ulm_0_1_gtFine_labelTrainIds.png", "ulm_0_1"),
        ("dir\\photo.v2.JPG", "photo.v2"),
        ("photo.v2", "photo.v2"),
        ("my photo.png\r", "my photo"),
        ("/my data/photos/a b.jpg /my data/masks/a b_gt.png", "a b"),
        ("photos/a.jpg,masks/a_mask.png", "a"),
        ("D:\\photos\\a.jpg\tD:\\masks\\b.png", "a"),
    ],
)
def test_stem_of(line, stem):
    assert stem_of(line) == stem


@given(st.text("aé /.\\_\n", max_size=6) | st.sampled_from(["a_leftImg8bit", "b/a_gtFine_x", "\x1fa", "/", ""]))
def test_the_short_way_to_a_stem_is_the_long_one(line):
    assert stem_of(line) == re.sub(r"_(leftImg8bit|gtFine_\w+)$", "", PurePosixPath(path_of(line)).name)


def test_fingerprint_of_a_published_list():
    """As the field's lists are recognised: sorted unique stems, joined by newline, whatever the layout."""
    expected = hashlib.sha256(b"2007_000032\n2007_000039").hexdigest()
    assert fingerprint(["2007_000039", "2007_000032", "2007_000032"]) == expected
    assert fingerprint(["JPEGImages/2007_000032.jpg a.png", "JPEGImages/2007_000039.jpg b.png"]) == expected


def test_fingerprint_tells_equal_names_in_two_folders_apart():
    assert fingerprint(["a/1", "b/1"]) != fingerprint(["a/1"])


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("form", ["{}", "images/{}.jpg masks/{}.png"])
def test_list_files(tmp_path, end, form):
    ids = ["street/0007", "street/0001"]
    (tmp_path / "labeled.txt").write_text(end.join([*(form.format(id, id) for id in ids), "", ""]), newline="")
    for words in (tmp_path, tmp_path / "labeled.txt"):
        partition = resolve_partition(dataset(), str(words))
        assert [record.id for record in partition.labeled] == sorted(ids)
        assert partition.fingerprint == fingerprint(ids)
        assert "2 of 367" in partition.name


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig"])
def test_lists_in_other_encodings(tmp_path, encoding):
    (tmp_path / "labeled.txt").write_bytes("street/0007\r\nstreet/0001\r\n".encode(encoding))
    partition = resolve_partition(dataset(), str(tmp_path / "labeled.txt"))
    assert [record.id for record in partition.labeled] == ["street/0001", "street/0007"]


def test_a_line_means_the_image_whose_folders_are_the_end_of_its_path(tmp_path):
    data = replace(dataset(2, 0), train=tuple(map(record, ["a/x/1", "b/x/1", "x/1", "pré/2", "b/2"])))
    file = tmp_path / "list.txt"
    file.write_text(f"/home/me/b/x/1.jpg masks/1.png\nphotos/{unicodedata.normalize('NFD', 'pré')}/2.jpg\n")
    assert [r.id for r in resolve_partition(data, str(file)).labeled] == ["b/x/1", "pré/2"]
    file.write_text("y/1.jpg\n")
    with pytest.raises(DataError) as caught:
        resolve_partition(data, str(file))
    assert caught.value.why == "several images: y/1.jpg"


def test_a_written_split_goes_by_its_name(tmp_path):
    folder = tmp_path / "splits" / "mine"
    folder.mkdir(parents=True)
    (folder / "labeled.txt").write_text("street/0003\n")
    assert resolve_partition(dataset(root=tmp_path), "mine").labeled[0].id == "street/0003"


def test_headers_and_comments_of_a_list_name_no_image(tmp_path):
    file = tmp_path / "list.csv"
    file.write_text("Image,Mask\n# those of may\nstreet/0001.jpg,street/0001.png\n")
    assert [record.id for record in resolve_partition(dataset(), str(file)).labeled] == ["street/0001"]
    file.write_text("# none\n")
    with pytest.raises(DataError, match="names no image: it is empty"):
        resolve_partition(dataset(), str(file))


@pytest.mark.parametrize(
    "lines", ['"street/0001.jpg"', "street/0001.jpg,", '"image"\t"mask"\n"photos\\street\\0001.jpg"\t"0001.png"']
)
def test_cells_of_a_table_name_their_image(tmp_path, lines):
    (tmp_path / "list.csv").write_text(lines)
    found = resolve_partition(dataset(), str(tmp_path / "list.csv")).labeled
    assert [record.id for record in found] == ["street/0001"]


def test_lists_with_absent_repeated_or_unclear_lines(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("street/0001\nstreet/9999\npool/1\n")
    with pytest.raises(DataError, match=r"2 of 3 lines.*list\.txt") as caught:
        resolve_partition(dataset(), str(file))
    assert caught.value.why == "not in the dataset: street/9999; without a mask: pool/1"
    file.write_text("street/0001\nstreet/0001\n")
    with pytest.warns(UserWarning, match="1 image more than once"):
        assert len(resolve_partition(dataset(), str(file)).labeled) == 1
    file.write_text("\n")
    with pytest.raises(DataError, match="names no image: it is empty"):
        resolve_partition(dataset(), str(file))


def listed(folder, labeled, unlabeled, end="\n"):
    for name, ids in (("labeled", labeled), ("unlabeled", unlabeled)):
        (folder / f"{name}.txt").write_text(end.join(ids), newline="")
    return str(folder)


def test_a_folder_with_unlabeled_images_is_taken_at_its_word(tmp_path):
    words = listed(tmp_path, ["street/0001"], ["pool/1", "street/0002", "pool/1"], "\r\n")
    with pytest.warns(UserWarning, match=r"unlabeled\.txt names 1 image more than once"):
        partition = resolve_partition(dataset(), words)
    assert [record.id for record in partition.unlabeled] == ["street/0002", "pool/1"]
    assert all(record.mask is None for record in partition.unlabeled)


def test_unlabeled_images_that_are_absent_are_left_out_aloud(tmp_path):
    words = listed(tmp_path, ["street/0001"], ["pool/1", "pool/77"])
    with pytest.warns(UserWarning, match="1 of 2 unlabeled images .* are not in the dataset and are left out: pool/77"):
        assert len(resolve_partition(dataset(), words).unlabeled) == 1


def test_lists_that_contradict_themselves_or_leak(tmp_path):
    data = dataset()
    val = [record("frankfurt/0001"), record("frankfurt/0002")]
    data = replace(data, val=tuple(val))
    with pytest.raises(DataError, match=r"1 image of .* labeled and unlabeled") as caught:
        resolve_partition(data, listed(tmp_path, ["street/0001"], ["pool/1", "street/0001"]))
    assert caught.value.why == "street/0001"
    with pytest.raises(DataError, match="1 of 2 lines") as caught:
        resolve_partition(data, listed(tmp_path, ["street/0001", "frankfurt/0001"], ["pool/1"]))
    assert caught.value.why == "in the validation set: frankfurt/0001"
    with pytest.raises(DataError, match=r"1 of 2 lines .* names no training image") as caught:
        resolve_partition(data, listed(tmp_path, ["street/0001"], ["pool/1", "frankfurt/0002"]))
    assert caught.value.why == "in the validation set: frankfurt/0002"
    with pytest.raises(DataError, match="1 of 1 line") as caught:
        resolve_partition(data, listed(tmp_path, ["0001"], ["pool/1"]))
    assert caught.value.why == "several images: 0001"
    with pytest.raises(DataError, match="2 of 2 lines") as caught:
        resolve_partition(data, listed(tmp_path, ["street/0001"], ["x", "y"]))
    assert caught.value.why == "not in the dataset: x, y"
