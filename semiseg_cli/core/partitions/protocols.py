"""The field's protocols: from which images partitions are drawn, in which sizes, and which lists were published.

Read from `splits/<dataset kind>/<protocol>.toml`, which a checkout has at its top and a wheel within the package. The
lists themselves are not there: `semiseg split --import` and `--fetch` bring them, and a fingerprint tells them apart.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

SHOWN = 3  # code bases that a report names for one list


@dataclass(frozen=True)
class Published:
    """A list of labeled images that somebody published. `words` name it on a command line."""

    data: str  # kind of the dataset
    protocol: str
    name: str  # within the protocol: 662, or 662-u2pl for other members of the same number
    title: str
    sets: tuple[str, ...]  # code bases whose list has these members, the best known first
    sha256: str  # fingerprint

    @property
    def words(self) -> str:
        return f"{self.protocol}/{self.name}"

    def __str__(self) -> str:
        return f"{self.title}, the set of {_join(self.sets[:SHOWN])}"


@dataclass(frozen=True)
class Recipe:
    """One size of a protocol: how an own partition of it is drawn, and the published ones; the first is the usual."""

    labeled: int
    fraction: str
    seed: int
    sampler: str
    published: tuple[Published, ...]


@dataclass(frozen=True)
class Protocol:
    """Where partitions come from. Results of two protocols are not to be compared."""

    data: str
    name: str
    source: str  # list in the dataset's folder; empty: every image with a mask
    images: int  # in the source
    sha256: str  # fingerprint of the source
    val_sha256: str
    recipes: tuple[Recipe, ...]

    def recipe(self, size: str) -> Recipe | None:
        """The recipe for a count ("183") or a fraction ("1/8")."""
        return next((recipe for recipe in self.recipes if size in (str(recipe.labeled), recipe.fraction)), None)


@dataclass(frozen=True)
class Remote:
    """A published list elsewhere: its two files below `url`, and their sha256."""

    words: str
    data: str
    folder: str
    files: tuple[tuple[str, str], ...]  # name, sha256
    bytes: int


@dataclass(frozen=True)
class Repository:
    """A public code base that has lists."""

    name: str
    page: str
    licence: str
    url: str
    lists: tuple[Remote, ...]


@cache
def protocols(kind: str = "") -> tuple[Protocol, ...]:
    """The protocols of a kind of dataset (voc, cityscapes), or all; of one kind the smaller source first."""
    files = [file for place in _folder().iterdir() if place.is_dir() for file in place.iterdir()]
    found = [_protocol(tomllib.loads(file.read_text("utf-8"))) for file in files if file.name.endswith(".toml")]
    return tuple(sorted((p for p in found if kind in ("", p.data)), key=lambda p: (p.data, p.images)))


def recognise(fingerprint: str) -> Published | None:
    """The published list with this fingerprint."""
    return next((each for each in published() if each.sha256 == fingerprint), None)


def published(kind: str = "") -> list[Published]:
    """Every published list of a kind of dataset, or of all."""
    return [each for protocol in protocols(kind) for recipe in protocol.recipes for each in recipe.published]


@cache
def repositories() -> dict[str, Repository]:
    """Where published lists can be fetched from, by the word for `--fetch`."""
    files = [file for file in _folder().iterdir() if file.name.endswith(".toml")]
    return {file.name.removesuffix(".toml"): _repository(tomllib.loads(file.read_text("utf-8"))) for file in files}


def _folder() -> Traversable:
    packaged = resources.files("semiseg_cli") / "splits"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "splits"


def _protocol(table: dict[str, Any]) -> Protocol:
    recipes = []
    for part in table["partition"]:
        fraction = part.get("fraction", "")
        lists = [
            Published(
                table["data"], table["protocol"], each["name"],
                table["title"].format(labeled=each["name"].split("-")[0], fraction=fraction),
                tuple(each["sets"]), each["sha256"],
            )
            for each in part.get("published", [])
        ]  # fmt: skip
        recipes.append(Recipe(part["labeled"], fraction, part["seed"], part["sampler"], tuple(lists)))
    return Protocol(
        table["data"], table["protocol"], table["source"], table["images"], table["sha256"], table["val_sha256"],
        tuple(recipes),
    )  # fmt: skip


def _repository(table: dict[str, Any]) -> Repository:
    lists = [
        Remote(
            each["list"], each["data"], each["folder"],
            tuple((f"{part}.txt", each[part]) for part in ("unlabeled", "labeled")), each["bytes"],
        )
        for each in table["list"]
    ]  # fmt: skip
    return Repository(table["name"], table["page"], table["licence"], table["url"], tuple(lists))


def _join(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
