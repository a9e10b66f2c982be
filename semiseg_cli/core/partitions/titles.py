"""What a partition is called. A published name means the published set, of which the unlabeled images are a part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from semiseg_cli.core.commands import command
from semiseg_cli.core.data.again import completing
from semiseg_cli.core.partitions.protocols import Protocol, Published, Recipe, protocols, recognise, repositories

if TYPE_CHECKING:
    from semiseg_cli.core.data.spec import Dataset


def title(name: str, known: Published | None, short: str) -> str:
    """The published name where there is one, else `name`; with the `shortfall` of the unlabeled images."""
    if known:
        return f"{known.title}{short}" if short else str(known)
    return f"{name}{short}"


def recorded(partition: Mapping[str, Any]) -> str:
    """The title of a partition as a run or a checkpoint recorded it; those of earlier versions lack what is unlabeled.

    A count of none says nothing: a supervised checkpoint has it.
    """
    known, unlabeled = recognise(partition.get("fingerprint", "")), partition.get("unlabeled")
    name = str(partition.get("name", ""))
    if not known or not unlabeled or "labeled" not in partition:
        return name
    short = shortfall(known.data, partition["labeled"], unlabeled)
    return title(name, known, short) if short else name


def shortfall(kind: str, labeled: int, unlabeled: int, mark: str = "") -> str:
    """`, with 1,281 of 10,399 unlabeled` where a partition has other unlabeled images than the field's; else empty.

    kind: of the dataset whose protocol is followed; empty for none. mark: fingerprint of all the images, if known.
    """
    everything = max(protocols(kind), key=lambda each: each.images, default=None) if kind else None
    if everything is None:
        return ""
    expected = everything.images - labeled
    if unlabeled != expected:
        return f", with {unlabeled:,} {'of' if unlabeled < expected else 'instead of'} {expected:,} unlabeled"
    return "" if mark in ("", everything.sha256) else ", with other unlabeled images than published"


def advice(dataset: Dataset, size: str, protocol: Protocol | None, recipe: Recipe | None, drawn_from: int) -> str:
    """A line on a count that is no published size of this dataset; empty for a fraction, and where it is one."""
    known = protocols(dataset.kind)
    if recipe or not known or not size.isdecimal():
        return ""
    if owner := next((each for each in known if each.recipe(size)), None):
        how = completing(dataset.name, dataset.kind, dataset.root.parent)
        return (
            f"these {size} are not {owner.name}'s: {owner.name} draws from {owner.images:,} images, and "
            f"{dataset.name} has {len(dataset.labeled):,} with a mask; {how}"
        )
    sizes = "; ".join(
        f"{each.name} has {', '.join(str(recipe.labeled) for recipe in each.recipes)} of {each.images:,} images"
        for each in known
    )
    of = f"{drawn_from:,} images{f' of {protocol.name}' if protocol else ''}"
    return f"{size} is no published size ({sizes}): an own partition, drawn from {of}"


def stand_in(dataset: Dataset, recipe: Recipe | None) -> str:
    """A line on the published list that an own partition stands in for; empty where there is none."""
    if not recipe or not recipe.published:
        return ""
    words = recipe.published[0].words
    words_of = {word: {each.words for each in repository.lists} for word, repository in repositories().items()}
    how = next((("--fetch", word) for word, has in words_of.items() if words in has), ("--import", "DIR"))
    line = command("split", dataset.name, *how, root=dataset.root.parent)
    return f"the published {words} is not at hand, an own partition stands in: {line}"


def incomplete(dataset: Dataset, name: str) -> str:
    """A line for a partition whose name says that its unlabeled images are not the published ones."""
    how = completing(dataset.name, dataset.kind, dataset.root.parent)
    return f"{name}: not the published setting{how and f'; {how}'}"
