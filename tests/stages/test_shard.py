"""A dataset in shards: what a run sees of it is what it sees of the files that it was made of."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from semiseg_cli.cli import main
from semiseg_cli.core.config.layers import Resolved
from semiseg_cli.core.data.again import anew, as_now, at_hand, naming_bad_files, updating
from semiseg_cli.core.data.decode import Pixels, decode_record
from semiseg_cli.core.data.index import load_dataset, manifest
from semiseg_cli.core.data.loader import HostBatch, MicroBatches, Plan, blocks_of, images_of, picked, serve
from semiseg_cli.core.data.order import FILES, HEADS, Blocks
from semiseg_cli.core.data.shards import _opened, member
from semiseg_cli.core.data.spec import Dataset
from semiseg_cli.core.errors import BadFile, DataError, Interrupted, UsageError
from semiseg_cli.core.partitions.pairs import files_of
from semiseg_cli.core.partitions.splits import resolve_partition
from semiseg_cli.core.training.pooled import spread
from semiseg_cli.stages import shard as stage
from semiseg_cli.stages.check import check
from semiseg_cli.stages.prepare import prepare_folder, prepare_shapes
from semiseg_cli.stages.progress import Silent
from semiseg_cli.stages.shard import Asked, shard
from semiseg_cli.stages.split import make_split
from semiseg_cli.stages.train import resume, train
from semiseg_cli.stages.update import update_folder

SMALL = Asked(size=0.02)  # megabytes: three or four photos


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with `shapes`, one of its splits, and `shapes-shards`. Read only."""
    root = tmp_path_factory.mktemp("sharded")
    prepare_shapes(root, labeled=6, unlabeled=40, val=3, size=48)
    make_split(root, "shapes", "4")
    shard(root, "shapes", asked=SMALL)
    return root


@pytest.fixture
def own(root: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    _opened.cache_clear()
    shutil.copytree(root, tmp_path / "data")
    return tmp_path / "data"


def both(root: Path) -> tuple[Dataset, Dataset]:
    return load_dataset(root, "shapes"), load_dataset(root, "shapes-shards")


def test_every_image_is_the_same_and_the_masked_ones_keep_their_order(root: Path) -> None:
    files, shards = both(root)
    assert [record.id for record in shards.labeled] == [record.id for record in files.labeled]
    assert [record.id for record in shards.val] == [record.id for record in files.val]
    assert sorted(record.id for record in shards.pool) == sorted(record.id for record in files.pool)
    assert [record.id for record in shards.pool] != [record.id for record in files.pool]
    before = {record.id: record for record in (*files.train, *files.val)}
    for record in (*shards.train, *shards.val):
        was = before[record.id]
        assert np.array_equal(decode_record(record), decode_record(was))
        assert (record.height, record.width, record.pixels) == (was.height, was.width, was.pixels)
        assert bool(member(record.image)) == (record.mask is None)
        assert record.image.is_relative_to(shards.root)
    assert manifest(shards.root)["fingerprints"] == manifest(files.root)["fingerprints"]


def test_a_block_is_a_shard(root: Path) -> None:
    pool = both(root)[1].pool
    tars = [record.image.parts[-3] for record in pool]
    size = both(root)[1].block
    assert [tars.index(tar) for tar in dict.fromkeys(tars)] == list(range(0, 40, size))
    assert sorted(path.name for path in (root / "shapes-shards" / "shards").glob("*.tar")) == sorted(set(tars))


def test_partitions_and_splits_are_the_same(root: Path) -> None:
    files, shards = (resolve_partition(dataset, "3") for dataset in both(root))
    assert files.fingerprint == shards.fingerprint
    assert [record.id for record in files.labeled] == [record.id for record in shards.labeled]
    split = next((root / "shapes-shards" / "splits").iterdir()).name
    assert len(resolve_partition(both(root)[1], split).labeled) == 4


def test_images_with_a_mask_among_the_unlabeled_come_before_the_first_shard(root: Path) -> None:
    shards = both(root)[1]
    some = resolve_partition(shards, "3")
    assert blocks_of(shards, some.unlabeled) == Blocks(shards.block, 3 % shards.block)
    assert blocks_of(shards, shards.pool) == Blocks(shards.block, 0)
    assert blocks_of(shards, shards.pool[:20]) == Blocks(round(shards.block / 2), 0)
    assert blocks_of(both(root)[0], some.unlabeled) == FILES


def plan_for(dataset: Dataset, **changes: Any) -> Plan:
    """Of eight steps of four images, three of all being labeled."""
    plan = Plan(
        seed=3, start=0, steps=8, batch=4, micro=4, crop=33, scale=(0.5, 2.0), inputs=frozenset({"unlabeled", "mix"}),
        blocks=blocks_of(dataset, resolve_partition(dataset, "3").unlabeled),
    )  # fmt: skip
    return replace(plan, **changes)


def batches(dataset: Dataset, workers: int, **changes: Any) -> list[HostBatch]:
    partition, plan = resolve_partition(dataset, "3"), plan_for(dataset, **changes)
    source = MicroBatches(plan, Pixels(partition.labeled, 0), Pixels(partition.unlabeled, 0))
    return list(serve(source, workers=workers))


def same(a: HostBatch, b: HostBatch) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_run_sees_the_pixels_of_the_files_whatever_its_workers_and_wherever_it_resumes(root: Path) -> None:
    """The images are those of `images_of`, each as it is in its file, warped as the seed, step and slot say."""
    files, shards = both(root)
    seen = batches(shards, 0)
    unlabeled = resolve_partition(shards, "3").unlabeled
    plain = {record.id: place for place, record in enumerate(resolve_partition(files, "3").unlabeled)}

    class InFiles(MicroBatches):
        """Which images the shards give, taken from the files."""

        def _picked(self, stream: str, pixels: Pixels, step: int, slots: Any) -> list[int]:
            places = super()._picked(stream, pixels, step, slots)
            return [plain[unlabeled[place].id] for place in places] if stream == "unlabeled" else places

    partition, plan = resolve_partition(files, "3"), plan_for(shards)
    loose = list(serve(InFiles(plan, Pixels(partition.labeled, 0), Pixels(partition.unlabeled, 0))))
    for step, (one, other) in enumerate(zip(seen, loose, strict=True)):
        assert one["unlabeled_index"].tolist() == images_of(plan, 3, len(unlabeled), step)[1]
        assert torch.equal(one["unlabeled_image"], other["unlabeled_image"])
        assert torch.equal(one["labeled_image"], other["labeled_image"])
    assert all(map(same, seen, batches(shards, 2)))
    assert all(map(same, seen[5:], batches(shards, 0, start=5)))
    halves = [batches(shards, 0, micro=2, rank=rank, world=2) for rank in range(2)]
    for whole, *parts in zip(seen, *halves, strict=True):
        assert torch.equal(whole["unlabeled_image"], torch.cat([part["unlabeled_image"] for part in parts]))


class Stopped(Silent):
    """Ends a run after its second step."""

    def advance(self, step: int) -> None:
        if step == 2:
            signal.raise_signal(signal.SIGTERM)


def test_training_ends_where_one_that_was_resumed_ends(
    root: Path, tmp_path: Path, configured: Callable[..., Resolved]
) -> None:
    config = configured("fixmatch", {"data.name": "shapes-shards", "data.labeled": "3", "train.steps": 4})
    place: dict[str, Any] = {"data_root": root, "runs_root": tmp_path, "device": "cpu"}
    whole = train(config, out=tmp_path / "whole", **place)
    with pytest.raises(Interrupted, match="step 2"):
        train(config, out=tmp_path / "halves", screen=Stopped(), **place)
    assert whole["last"] == resume(tmp_path / "halves", data_root=root, device="cpu")["last"]


def test_the_same_command_changes_nothing_and_another_one_is_refused(root: Path) -> None:
    def state() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in root.rglob("*")}

    before = state()
    shard(root, "shapes", asked=SMALL)
    with pytest.raises(DataError, match="made differently") as caught:
        shard(root, "shapes", asked=Asked(size=0.03))
    assert "differs in size" in caught.value.why
    assert "--name shapes-shards-2" in caught.value.fix
    assert state() == before


def test_a_name_that_is_taken_is_refused(own: Path) -> None:
    (own / "taken").mkdir()
    with pytest.raises(DataError, match="holds no shards"):
        shard(own, "shapes", name="taken", asked=SMALL)
    prepare_shapes(own, name="other", labeled=2, unlabeled=9, val=1, size=32)
    with pytest.raises(DataError, match="made differently") as caught:
        shard(own, "other", name="shapes-shards", asked=SMALL)
    assert "differs in made_of, index" in caught.value.why
    shutil.rmtree(own / "shapes")
    prepare_shapes(own, labeled=6, unlabeled=41, val=3, size=48)
    with pytest.raises(DataError, match="made differently") as caught:
        shard(own, "shapes", asked=SMALL)
    assert caught.value.why == "shapes changed since"


def test_what_cannot_be_put_into_shards_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="shapes-shards is in shards"):
        shard(root, "shapes-shards")
    with pytest.raises(UsageError, match="made of itself"):
        shard(root, "shapes", name="shapes")
    with pytest.raises(UsageError, match="no size of a shard"):
        shard(root, "shapes", name="new", asked=Asked(size=0.0))
    prepare_shapes(tmp_path, labeled=3, unlabeled=0, val=1, size=32)
    with pytest.raises(DataError, match="has a mask") as caught:
        shard(tmp_path, "shapes")
    assert "train on shapes as it is" in caught.value.fix
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


def test_a_shard_is_what_another_program_makes_of_the_photos(root: Path) -> None:
    files, shards = both(root)
    found = {record.id: record for record in files.pool}
    with tarfile.open(root / "shapes-shards" / "shards" / "00000.tar") as tar:
        for each in tar:
            assert tar.extractfile(each).read() == found[Path(each.name).stem].image.read_bytes()  # type: ignore[union-attr]
    assert shards.pool[0].bytes == found[shards.pool[0].id].image.stat().st_size


def test_an_interrupted_one_goes_on_with_the_shards_that_are_there(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = list[str]()
    real = stage.write

    def write(shard: Path, photos: Any) -> Any:
        if len(written) == 4:
            (shard.parent / f".{shard.name}.deadbeef").write_bytes(b"half")  # as one leaves it who is killed
            raise KeyboardInterrupt
        written.append(shard.name)
        return real(shard, photos)

    monkeypatch.setattr(stage, "write", write)
    with pytest.raises(Interrupted) as caught:
        shard(own, "shapes", name="again", asked=SMALL)
    assert "the same command goes on" in caught.value.fix
    assert not (own / "again").exists()
    monkeypatch.setattr(stage, "write", lambda shard, photos: written.append(shard.name) or real(shard, photos))
    made = shard(own, "shapes", name="again", asked=SMALL)
    assert len(written) == len(set(written))
    assert [record.image.relative_to(made.root) for record in made.train] == [
        record.image.relative_to(own / "shapes-shards") for record in both(own)[1].train
    ]
    assert {path.name for path in own.iterdir()} == {"shapes", "shapes-shards", "again"}
    assert {path.name for path in made.root.iterdir()} == {path.name for path in both(own)[1].root.iterdir()}
    assert not list((made.root / "shards").glob(".*"))


def test_one_that_was_killed_goes_on(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = stage.write_text
    if (child := os.fork()) == 0:

        def write_text(path: Path, text: str, **how: bool) -> None:
            if path.name == "00003.tsv":
                os.kill(os.getpid(), signal.SIGKILL)
            real(path, text, **how)

        monkeypatch.setattr(stage, "write_text", write_text)
        shard(own, "shapes", name="again", asked=SMALL)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert len(list((own / ".again.sharding").glob("lines/*.tsv"))) == 3
    before = (own / ".again.sharding" / "shards" / "00001.tar").stat().st_mtime_ns
    made = shard(own, "shapes", name="again", asked=SMALL)
    assert (made.root / "shards" / "00001.tar").stat().st_mtime_ns == before
    assert check(own, "again")["problems"] == []
    assert not (own / ".again.sharding").exists()


def test_photos_that_went_or_changed_meanwhile_stop_it(own: Path) -> None:
    files = both(own)[0]
    files.pool[7].image.unlink()
    with pytest.raises(BadFile) as caught:
        shard(own, "shapes", name="other", asked=SMALL)
    assert files.pool[7].image.name in caught.value.what
    assert "semiseg check shapes" in caught.value.fix
    assert not (own / "other").exists()


def test_a_check_finds_shards_that_are_cut_swapped_and_gone(own: Path) -> None:
    folder = own / "shapes-shards" / "shards"
    assert check(own, "shapes-shards")["problems"] == []
    assert check(own, "shapes-shards", fast=True)["problems"] == []
    first, second, third = (folder / f"{i:05d}.tar" for i in range(3))
    with first.open("rb+") as file:
        file.truncate(3000)
    second.write_bytes(third.read_bytes())
    third.unlink()
    _opened.cache_clear()
    for fast in (False, True):
        found = check(own, "shapes-shards", fast=fast)
        said = " ".join(f"{each['what']} {each['detail']}" for each in found["problems"])
        assert "00000.tar" in said
        assert "00002.tar" in said
        assert "semiseg shard shapes --shard-mb 0.02" in found["fix"]
    everything = " ".join(each["detail"] for each in check(own, "shapes-shards")["problems"])
    assert "00001.tar is not the shard that was indexed" in everything
    with pytest.raises(BadFile) as caught, naming_bad_files(both(own)[1]):
        decode_record(both(own)[1].pool[0])
    assert f"semiseg shard shapes --shard-mb 0.02 --root {own}" in caught.value.fix


def test_one_whose_content_changed_under_a_whole_header_is_found_by_a_check(own: Path) -> None:
    shards = both(own)[1]
    photo = member(shards.pool[0].image)
    assert photo
    with photo.shard.open("rb+") as file:
        file.seek(photo.offset + shards.pool[0].bytes + 1)  # what fills up the block: no decoder sees it
        file.write(b"x")
    assert "00000.tar" in str(check(own, "shapes-shards")["problems"])


def test_the_remedy_makes_the_shards_again(own: Path) -> None:
    (own / "shapes-shards" / "splits" / "mine").mkdir()
    (own / "shapes-shards" / "splits" / "mine" / "labeled.txt").write_text("train_0001\n")
    before = [record.image for record in both(own)[1].train]
    line = anew(own / "shapes-shards")
    assert f"&& semiseg shard shapes --shard-mb 0.02 --root {own} &&" in line
    assert line in as_now(own / "shapes-shards")
    assert updating(own / "shapes-shards").startswith("semiseg prepare folder --name shapes --update")
    (own / "shapes-shards" / "shards" / "00000.tar").unlink()
    for words in map(shlex.split, line.split(" && ")):
        assert (main(words[1:]) if words[0] == "semiseg" else subprocess.call(words)) == 0
    assert [record.image for record in both(own)[1].train] == before
    assert check(own, "shapes-shards")["problems"] == []
    assert {path.name for path in (own / "shapes-shards" / "splits").iterdir()} == {
        "mine", *(path.name for path in (own / "shapes" / "splits").iterdir())
    }  # fmt: skip


def test_a_pool_that_is_gone_is_seen_before_the_first_step(own: Path) -> None:
    assert at_hand(both(own)[1])
    shutil.rmtree(own / "shapes-shards" / "shards")
    with pytest.raises(DataError, match="shards"):
        at_hand(both(own)[1])


def test_pairs_are_of_these_shards(own: Path) -> None:
    pool = both(own)[1].pool
    before = files_of(pool)
    os.utime(pool[0].image.parents[1], (1, 1))
    assert files_of(pool) == before  # copied to another machine
    shutil.rmtree(own / "shapes-shards")
    shard(own, "shapes", asked=Asked(size=0.03))
    assert files_of(both(own)[1].pool) != before


def test_statistics_of_whole_images_take_one_shard_or_two(root: Path) -> None:
    files, shards = both(root)
    few = spread([shards.pool], 4)
    assert len({record.id for record in few}) == 4
    assert len({record.image.parents[1] for record in few}) <= 2
    assert [record.id for record in spread([files.pool], 4)] == [files.pool[i].id for i in (0, 10, 20, 30)]
    assert [record.id for record in spread([shards.labeled], 3)] == [shards.labeled[i].id for i in (0, 2, 4)]


def test_an_update_says_how_shards_are_made_again(own: Path) -> None:
    table = (own / "shapes-shards" / "dataset.toml").read_text().replace('kind = "shapes"', 'kind = "folder"')
    (own / "shapes-shards" / "dataset.toml").write_text(table)
    with pytest.raises(UsageError, match="is in shards") as caught:
        update_folder(own, name="shapes-shards")
    assert "semiseg shard shapes" in caught.value.fix


def test_shards_in_a_store_are_fetched_before_they_are_needed(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two loader processes on a cache of a few shards, the batches are those of shards that are here."""
    bound = 2 * HEADS * 20_000
    far = shard(own, "shapes", name="far", asked=Asked(0.02, f"file://{tmp_path}/far", bound))
    near, expected = both(own)[1], list[Path]()
    with monkeypatch.context() as patch:
        patch.setattr("semiseg_cli.core.data.loader.expect", expected.append)
        seen = batches(far, 0, steps=2)
    unlabeled = resolve_partition(far, "3").unlabeled
    positions = [*range(4), *range(far.block, far.block + 4), *range(4, 8), *range(far.block + 4, far.block + 8)]
    places = [picked(plan_for(far), "unlabeled", len(unlabeled), position) for position in positions]
    assert expected == [unlabeled[place].image for place in places]
    assert all(map(same, seen, batches(near, 0, steps=2)))
    assert all(map(same, seen, batches(far, 2, steps=2)))
    here = [path.stat().st_size for path in (far.root / "shards").glob("*.tar")]
    assert 0 < sum(here) <= bound


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Any]:
    """Five labeled photos, four others, of which one is a TIFF, as `prepare_folder` takes them."""
    rng = np.random.default_rng(0)

    def save(name: str, size: tuple[int, ...]) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 3, size, np.uint8)).save(tmp_path / name)

    for i in range(5):
        save(f"photos/l{i}.png", (20, 30, 3))
        save(f"masks/l{i}.png", (20, 30))
    for i in range(4):
        save(f"more/u{i}.{'tif' if i == 3 else 'jpg'}", (20 + i, 30, 3))
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    named = {key: tmp_path / name for key, name in (("labeled", "photos"), ("masks", "masks"), ("unlabeled", "more"))}
    return {"root": tmp_path / "data", "name": "mine", "classes": tmp_path / "classes.txt", **named}


def test_folders_go_into_shards_at_once_and_no_photo_is_written_twice(folders: dict[str, Any]) -> None:
    root = folders["root"]
    prepare_folder(**{**folders, "name": "files"})
    made, files = prepare_folder(**folders, shards=True), load_dataset(root, "files")
    assert sorted(path.name for path in root.iterdir() if path.name != ".owner") == ["files", "mine"]
    assert (len(made.labeled), len(made.pool), len(made.val)) == (4, 4, 1)
    before = {record.id: record for record in (*files.train, *files.val)}
    for record in (*made.train, *made.val):
        assert np.array_equal(decode_record(record), decode_record(before[record.id]))
        assert record.image.is_relative_to(made.root)
    assert {record.image.suffix for record in made.pool} == {".jpg"}
    state = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert prepare_folder(**folders, shards=True).block == 4
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == state
    assert "--shards" in anew(made.root)
    assert "--classes" in anew(made.root)
    with pytest.raises(UsageError, match="is in shards") as caught:
        update_folder(root, name="mine", unlabeled=folders["unlabeled"])
    assert caught.value.fix == anew(made.root)
    with pytest.raises(UsageError, match="leaves nothing for --in-place"):
        prepare_folder(**folders, shards=True, in_place=True)


def test_shards_of_folders_go_on_after_an_interrupt(folders: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def write(shard: Path, photos: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "write", write)
        with pytest.raises(Interrupted):
            prepare_folder(**folders, shards=True)
    root = folders["root"]
    assert not (root / "mine").exists()
    with monkeypatch.context() as patch:
        patch.setattr("semiseg_cli.stages.prepare.build_folder", None)  # it was done
        assert len(prepare_folder(**folders, shards=True).pool) == 4
    assert [path.name for path in root.iterdir()] == ["mine"]


def test_folders_without_a_pool_are_not_put_into_shards(folders: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="every photo has a mask") as caught:
        prepare_folder(**{**folders, "unlabeled": None}, shards=True)
    assert caught.value.fix == "leave out --shards"
    assert list(folders["root"].iterdir()) == []
