"""Protocols and published lists for a dataset of forty images, in place of those in `splits/`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from semiseg_cli.core.data.index import write_dataset
from semiseg_cli.core.data.names import fingerprint
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.partitions import protocols

FINE, ALL = [f"2007_{i:06}" for i in range(16)], [f"2007_{i:06}" for i in range(40)]
LISTS = {"fine/2": FINE[:2], "fine/2-other": FINE[1:3], "mixed/5": ALL[10:15]}


def recipe(protocol: str, source: str, ids: list[str], sizes: dict[int, str]) -> str:
    head = [f'data = "voc"\nprotocol = "{protocol}"\ntitle = "{protocol} {{labeled}}"\nsource = "{source}"',
            f'images = {len(ids)}\nsha256 = "{fingerprint(ids)}"\nval_sha256 = ""']  # fmt: skip
    for count, fraction in sizes.items():
        head.append(f'[[partition]]\nlabeled = {count}\nfraction = "{fraction}"\nseed = 4\nsampler = "random"')
        for words, labeled in LISTS.items():
            name = words.split("/")[1]
            if words.split("/")[0] == protocol and name.split("-")[0] == str(count):
                head.append(f'[[partition.published]]\nname = "{name}"\nsha256 = "{fingerprint(labeled)}"')
                head.append(f'sets = ["{name.upper()} A", "B", "C", "D"]')
    return "\n".join(head)


def forget() -> None:
    for cached in (protocols.protocols, protocols.repositories):
        cached.cache_clear()


@pytest.fixture
def fake_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the recipes: protocols fine (2, 4 of 16 images), mixed (5, 10 of 40); `someone` to fetch from."""
    folder = tmp_path / "splits"
    (folder / "voc").mkdir(parents=True)
    (folder / "voc" / "fine.toml").write_text(recipe("fine", "lists/fine.txt", FINE, {2: "1/8", 4: "1/4"}))
    (folder / "voc" / "mixed.toml").write_text(recipe("mixed", "", ALL, {5: "1/8", 10: "1/4"}))
    remote = 'data = "voc"\nlist = "fine/2"\nfolder = "a"\nbytes = 9000\nlabeled = ""\nunlabeled = ""'
    text = f'name = "S"\npage = "https://g/S"\nlicence = "MIT"\nurl = "u"\n[[list]]\n{remote}'
    (folder / "someone.toml").write_text(text)
    monkeypatch.setattr(protocols, "_folder", lambda: folder)
    forget()
    yield folder
    monkeypatch.undo()
    forget()


@pytest.fixture
def small_voc(fake_splits: Path, tmp_path: Path) -> Dataset:
    """A prepared dataset of kind voc without image files: 40 training images, 16 of them fine, and 2 to validate on."""
    root = tmp_path / "data" / "voc"
    (root / "lists").mkdir(parents=True)
    (root / "lists" / "fine.txt").write_text("\n".join(FINE))
    train, val = (
        tuple(Record(id, root / f"{id}.jpg", root / f"{id}.png", 9, 9, (50, 31)) for id in ids)
        for ids in (ALL, ["2008_000001", "2008_000002"])
    )
    dataset = Dataset("voc", "voc", root, ("a", "b"), ((0, 0, 0), (1, 1, 1)), train, val)
    write_dataset(dataset, {})
    return dataset
