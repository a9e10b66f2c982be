"""Importing lists in the field's layout, and fetching them from a server that does what servers do."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fake_protocols import ALL, FINE, LISTS, forget

from semiseg_cli.core.data.index import write_dataset
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.core.partitions.splits import resolve_partition
from semiseg_cli.stages.published_lists import fetch_lists, import_lists
from semiseg_cli.stages.split import list_splits, make_recipes, make_split


def write(folder: Path, labeled: list[str], unlabeled: list[str] | None = None, end: str = "\n") -> Path:
    folder.mkdir(parents=True)
    unlabeled = [id for id in ALL if id not in labeled] if unlabeled is None else unlabeled
    for name, ids in (("labeled", labeled), ("unlabeled", unlabeled)):
        lines = [f"JPEGImages/{id}.jpg SegmentationClass/{id}.png" for id in ids]
        (folder / f"{name}.txt").write_text(end.join([*lines, ""]), newline="")
    return folder


@pytest.fixture
def root(small_voc: Dataset) -> Path:
    return small_voc.root.parent


def at_hand(root: Path) -> dict[str, str]:
    return {each.words: each.partition.name for each in list_splits(root) if each.partition}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_tree_of_lists_is_imported_and_recognised(root: Path, tmp_path: Path, end: str) -> None:
    for name, (words, labeled) in zip("abc", LISTS.items(), strict=True):
        write(tmp_path / "theirs" / "pascal" / name, labeled, end=end)
        assert words not in at_hand(root)
    write(tmp_path / "theirs" / "own" / "few", ALL[30:33], end=end)
    found = import_lists(root, tmp_path / "theirs")
    assert {each.words for each in found.imported} == {*LISTS, "imported/few"}
    assert found.left == ()
    names = at_hand(root)
    assert names["fine/2"] == "fine 2, the set of 2 A, B and C"
    assert names["fine/2-other"] == "fine 2, the set of 2-OTHER A, B and C"
    assert names["imported/few"].endswith("3 of 40")
    lines = (root / "voc" / "splits" / "fine" / "2" / "labeled.txt").read_text()
    assert lines == "".join(f"{id}\n" for id in LISTS["fine/2"])


def test_one_folder_and_again(root: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "183", LISTS["fine/2"])
    for _ in range(2):
        (found,) = import_lists(root, folder, "voc").imported
        assert (found.data, found.words, len(found.partition.unlabeled)) == ("voc", "fine/2", 38)


def test_lists_that_do_not_fit_are_left_aside_or_refused(root: Path, tmp_path: Path) -> None:
    good = write(tmp_path / "theirs" / "good", LISTS["fine/2"])
    write(tmp_path / "theirs" / "leaks", FINE[4:6], ["2008_000001"])
    write(tmp_path / "theirs" / "val", [*FINE[4:6], "2008_000001"])
    write(tmp_path / "theirs" / "other", ["ulm_000009_000019_leftImg8bit"])
    found = import_lists(root, tmp_path / "theirs")
    assert [each.source for each in found.imported] == [good]
    leaks, other, val = found.left
    assert "in the validation set: JPEGImages/2008_000001.jpg" in leaks
    assert "other is for no prepared dataset (not one of its labeled images is known; prepared: voc)" in other
    assert "1 of 3 lines" in val
    assert set(at_hand(root)) == {"fine/2"}
    with pytest.raises(DataError, match=r"names? no training image"):
        import_lists(root, tmp_path / "theirs" / "leaks")
    with pytest.raises(DataError, match=r"no labeled\.txt in"):
        import_lists(root, tmp_path / "nowhere")


def test_unlabeled_images_that_come_later_count_then(root: Path, small_voc: Dataset, tmp_path: Path) -> None:
    write_dataset(replace(small_voc, train=small_voc.train[:16]), {})
    with pytest.warns(UserWarning, match="24 of 38 unlabeled images"):
        (found,) = import_lists(root, write(tmp_path / "x", LISTS["fine/2"])).imported
    assert len(found.partition.unlabeled) == 14
    write_dataset(small_voc, {})
    assert len(resolve_partition(small_voc, "fine/2").unlabeled) == 38


def test_without_a_list_of_unlabeled_images_every_other_one_is(
    root: Path, small_voc: Dataset, tmp_path: Path
) -> None:
    folder = write(tmp_path / "x", LISTS["fine/2"], ALL[30:])
    assert len(import_lists(root, folder).imported[0].partition.unlabeled) == 10
    (folder / "unlabeled.txt").unlink()
    assert len(import_lists(root, folder).imported[0].partition.unlabeled) == 38
    assert len(resolve_partition(small_voc, "fine/2").unlabeled) == 38


def test_when_no_list_fits_the_first_reasons_are_told(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "theirs" / "a", ["ulm_0"])
    write(tmp_path / "theirs" / "b", [*FINE[:1], "ulm_1"])
    with pytest.raises(DataError, match="none of 2 lists fits a prepared dataset") as caught:
        import_lists(root, tmp_path / "theirs")
    assert "not one of its labeled images is known" in caught.value.why
    assert "not in the dataset: JPEGImages/ulm_1.jpg" in caught.value.why


def test_a_recognised_list_goes_to_the_dataset_of_its_kind(root: Path, tmp_path: Path) -> None:
    folder = root / "photos"
    records = tuple(Record(id, folder / id, folder / f"{id}.png", 9, 9, (1, 1)) for id in ALL)
    write_dataset(Dataset("photos", "shapes", folder, ("a", "b"), ((0, 0, 0),) * 2, records, ()), {})
    assert import_lists(root, write(tmp_path / "x", LISTS["fine/2"])).imported[0].data == "voc"
    with pytest.raises(DataError, match="for no prepared dataset") as caught:
        import_lists(root, tmp_path / "x", "photos")
    assert caught.value.fix == f"semiseg prepare voc --root {root}"


def test_recipes_draw_every_size_with_their_own_seed(root: Path) -> None:
    made = make_recipes(root, "voc", "fine")
    assert [each.partition.name for each in made] == [
        "own partition, seed 4, 2 of 16 (random), fine", "own partition, seed 4, 4 of 16 (random), fine"
    ]  # fmt: skip
    assert made[0].folder.name == "fine-2-random-s4"
    single = make_split(root, "voc", "1/8", protocol="mixed")
    assert single.partition.name == "own partition, seed 0, 5 of 40 (classes), mixed"
    with pytest.raises(UsageError, match="no protocol 'classic'"):
        make_split(root, "voc", "2", protocol="classic")


def test_a_drawn_partition_is_not_the_published_one_at_hand(root: Path, tmp_path: Path) -> None:
    import_lists(root, write(tmp_path / "x", LISTS["fine/2"]))
    assert make_split(root, "voc", "2", seed=1).partition.name.startswith("own partition, seed 1, 2 of 16")


def test_the_list_shows_what_is_missing_and_how_to_get_it(root: Path, tmp_path: Path) -> None:
    import_lists(root, write(tmp_path / "x", LISTS["mixed/5"]))
    (write(root / "voc" / "splits" / "broken", ["absent"]) / "unlabeled.txt").unlink()
    found = {each.words: each for each in list_splits(root)}
    assert found["broken"].how.startswith("unusable: not in the dataset: JPEGImages/absent.jpg")
    assert (found["fine/2"].partition, found["fine/2"].how) == (None, "--fetch someone")
    assert found["fine/2-other"].how == "--import DIR"
    assert found["mixed/5"].partition
    nothing = list_splits(tmp_path / "empty")
    assert {each.how for each in nothing} == {f"semiseg prepare voc --root {tmp_path / 'empty'}"}
    assert len(nothing) == len(LISTS)


class Server(ThreadingHTTPServer):
    """Files of a folder; `asked` are the paths, in order."""

    def __init__(self, folder: Path) -> None:
        self.asked = list[str]()
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.asked.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(root: Path, fake_splits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """It serves fine/2 as folder `a`; the recipes pin these very files."""
    monkeypatch.setenv("SEMISEG_CACHE", str(tmp_path / "cache"))
    folder = write(tmp_path / "served" / "a", LISTS["fine/2"])
    text = (fake_splits / "someone.toml").read_text()
    for part in ("unlabeled", "labeled"):
        sha256 = hashlib.sha256((folder / f"{part}.txt").read_bytes()).hexdigest()
        text = text.replace(f'\n{part} = ""', f'\n{part} = "{sha256}"')
    (fake_splits / "someone.toml").write_text(text)
    forget()
    with Server(tmp_path / "served") as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def test_fetched_lists_are_imported_and_not_fetched_again(server: Server, root: Path) -> None:
    for _ in range(2):
        (found,) = fetch_lists(root, "someone", url=server.url).imported
        assert found.words == "fine/2"
    assert server.asked == ["/a/unlabeled.txt", "/a/labeled.txt"]
    assert resolve_partition(read(root), "2").hint == ""


def test_an_interrupted_fetch_goes_on(server: Server, root: Path, tmp_path: Path) -> None:
    file = tmp_path / "served" / "a" / "labeled.txt"
    text = file.read_text()
    file.unlink()
    with pytest.raises(DataError, match=r"/a/labeled\.txt cannot be fetched") as caught:
        fetch_lists(root, "someone", url=server.url)
    assert "404" in caught.value.why
    assert at_hand(root) == {}
    file.write_text(text)
    fetch_lists(root, "someone", url=server.url)
    assert server.asked.count("/a/unlabeled.txt") == 1


def test_another_file_than_the_published_one_is_refused(server: Server, root: Path, tmp_path: Path) -> None:
    (tmp_path / "served" / "a" / "labeled.txt").write_text("2007_000003\n")
    with pytest.raises(DataError, match="is not the file that was published") as caught:
        fetch_lists(root, "someone", url=server.url)
    assert "sha256" in caught.value.why
    assert [path.name for path in (tmp_path / "cache").rglob("*.txt")] == ["unlabeled.txt"]


def test_without_a_network_the_way_by_hand_is_told(server: Server, root: Path) -> None:
    server.server_close()
    with pytest.raises(DataError, match=r"/a/unlabeled\.txt cannot be fetched") as caught:
        fetch_lists(root, "someone", url=server.url)
    line = f"semiseg split --import S/splits --root {root}"
    assert caught.value.fix == f"where there is a network: git clone https://g/S && {line}"


def test_nothing_is_fetched_for_nobody(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has lists for voc, and there is none") as caught:
        fetch_lists(tmp_path / "empty", "someone")
    assert caught.value.fix == f"semiseg prepare voc --root {tmp_path / 'empty'}"
    with pytest.raises(UsageError, match="no 'sombody' to fetch"):
        fetch_lists(root, "sombody")


def read(root: Path) -> Dataset:
    from semiseg_cli.core.data.index import load_dataset

    return load_dataset(root, "voc")
