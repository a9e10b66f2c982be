"""The facts in `splits/`, and what words mean on a dataset that has protocols."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
from fake_protocols import ALL, FINE, LISTS

from semiseg_cli.core.data.names import fingerprint
from semiseg_cli.core.data.spec import Dataset
from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.core.partitions import protocols
from semiseg_cli.core.partitions.protocols import Published, published, recognise, repositories
from semiseg_cli.core.partitions.splits import resolve_partition
from semiseg_cli.core.partitions.titles import recorded


def bring(dataset: Dataset, words: str, labeled: list[str]) -> None:
    folder = dataset.root / "splits" / words
    folder.mkdir(parents=True)
    (folder / "labeled.txt").write_text("\n".join(labeled))


def test_the_published_lists_are_all_different_and_of_their_size() -> None:
    lists = published()
    assert len({each.sha256 for each in lists}) == len(lists) == 46
    assert len({(each.data, each.words) for each in lists}) == len(lists)
    for protocol in protocols.protocols():
        for recipe in protocol.recipes:
            counts = {int(each.name.split("-")[0]) for each in recipe.published}
            assert counts <= {recipe.labeled, recipe.labeled - 1}  # ST++ rounds a quarter of 10,582 down
            assert recipe.published[0].name == str(recipe.labeled)
    sizes = {p.name: [recipe.labeled for recipe in p.recipes] for p in protocols.protocols()}
    assert sizes == {
        "classic": [92, 183, 366, 732, 1464],
        "blender": [500, 662, 1000, 1323, 2646, 5291],
        "standard": [100, 186, 372, 744, 1488],
    }


def test_a_fingerprint_says_whose_set_it_is() -> None:
    found = recognise("79b959bccf7753cd70bba8d5abdb7e9c0f16df053ce458916ae19a897149136d")
    assert str(found) == "classic 183, the set of UniMatch, U2PL and CPS"
    assert recognise(fingerprint(["2007_000032"])) is None


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("voc", "classic/732", "classic/732-cps"),
        ("voc", "blender/662", "blender/662-u2pl"),
        ("cityscapes", "standard/186", "standard/186-u2pl"),
    ],
)
def test_sets_of_one_name_are_told_apart(kind: str, first: str, second: str) -> None:
    def sets(words: str) -> tuple[str, ...]:
        return next(each.sets for each in published(kind) if each.words == words)

    theirs = "CPS" if "cps" in second else "U2PL"
    assert theirs == sets(second)[0]
    assert "UniMatch" in sets(first)
    assert theirs not in sets(first)


def test_what_can_be_fetched_is_published() -> None:
    known = {(each.data, each.words) for each in published()}
    remote = repositories()["unimatch"].lists
    assert len(remote) == 16
    assert {(each.data, each.words) for each in remote} <= known


def test_the_wheel_takes_the_folder_along() -> None:
    import tomllib

    root = Path(__file__).parents[3]
    table = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    included = table["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included == {"splits": "semiseg_cli/splits"}
    assert not (resources.files("semiseg_cli") / "splits").is_dir(), "a checkout has it at its top only"


def test_an_installed_package_has_the_folder_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "splits").mkdir()
    monkeypatch.setattr(protocols.resources, "files", lambda package: tmp_path)
    assert protocols._folder() == tmp_path / "splits"


@pytest.mark.parametrize("words", ["2", "fine/2", "fine/1/8"])
def test_a_published_size_means_its_list_if_it_is_at_hand(small_voc: Dataset, words: str) -> None:
    bring(small_voc, "fine/2", LISTS["fine/2"])
    found = resolve_partition(small_voc, words)
    assert [record.id for record in found.labeled] == LISTS["fine/2"]
    assert found.name == "fine 2, the set of 2 A, B and C"
    assert (found.protocol, found.hint, len(found.unlabeled)) == ("fine", "", 38)


@pytest.mark.parametrize("words", ["2", "fine/2", "fine/1/8"])
def test_without_the_list_an_own_partition_of_that_size_stands_in(small_voc: Dataset, words: str) -> None:
    found = resolve_partition(small_voc, words, seed=3)
    assert {record.id for record in found.labeled} < set(FINE)
    assert found.name == "own partition, seed 3, 2 of 16 (classes), fine"
    root = small_voc.root.parent
    assert found.hint.endswith(f"semiseg split voc --fetch someone --root {root}")
    assert "fine/2 is not at hand" in found.hint
    assert resolve_partition(small_voc, "mixed/5").hint.endswith(f"semiseg split voc --import DIR --root {root}")


def test_the_same_count_with_other_members_is_another_list(small_voc: Dataset) -> None:
    bring(small_voc, "fine/2", LISTS["fine/2-other"])
    assert resolve_partition(small_voc, "2").name == "fine 2, the set of 2-OTHER A, B and C"


def test_an_own_partition_that_happens_to_be_published_goes_by_its_name(small_voc: Dataset) -> None:
    (small_voc.root / "mine.txt").write_text("\n".join(LISTS["mixed/5"]))
    found = resolve_partition(small_voc, str(small_voc.root / "mine.txt"))
    assert (found.name, found.protocol) == ("mixed 5, the set of 5 A, B and C", "mixed")


def test_a_fraction_of_two_protocols_is_refused_and_both_are_named(small_voc: Dataset) -> None:
    with pytest.raises(UsageError, match="'1/8' can be fine/2 or mixed/5 on voc") as caught:
        resolve_partition(small_voc, "1/8")
    assert caught.value.fix == "--labeled fine/2"


def test_any_other_count_is_drawn_from_all_and_named_after_what_that_is(small_voc: Dataset) -> None:
    found = resolve_partition(small_voc, "7")
    assert found.name == "own partition, seed 0, 7 of 40 (classes), mixed"
    assert found.protocol == "mixed"
    assert found.hint == (
        "7 is no published size (fine has 2, 4 of 16 images; mixed has 5, 10 of 40 images): an own partition, drawn "
        "from 40 images of mixed"
    )
    assert resolve_partition(small_voc, "3/8").hint == ""
    assert resolve_partition(small_voc, "fine/7").name == "own partition, seed 0, 7 of 16 (classes), fine"
    assert resolve_partition(small_voc, "").name == "all 40 labeled images"


def test_a_dataset_without_all_images_follows_no_protocol(small_voc: Dataset) -> None:
    part = replace(small_voc, train=small_voc.train[:16])
    found = resolve_partition(part, "5")
    name = "own partition, seed 0, 5 of 16 (classes), fine, with 11 of 35 unlabeled"
    assert (found.name, found.protocol) == (name, "fine")
    root = small_voc.root.parent
    assert found.hint.startswith(
        "these 5 are not mixed's: mixed draws from 40 images, and voc has 16 with a mask; SBD's labels make it whole: "
        f"semiseg prepare voc --download --root {root}"
    )
    with pytest.raises(DataError, match="mixed is drawn from 40 images that 'voc' does not have") as caught:
        resolve_partition(part, "mixed/5")
    assert "16 images with a mask" in caught.value.why
    few = replace(small_voc, train=small_voc.train[1:9])
    assert resolve_partition(few, "1/8").name == "own partition, seed 0, 1 of 8 (classes)"
    bring(part, "mixed/5", LISTS["mixed/5"])
    assert len(resolve_partition(part, "mixed/5").labeled) == 5


def test_a_published_name_means_the_unlabeled_images_too(small_voc: Dataset) -> None:
    bring(small_voc, "fine/2", LISTS["fine/2"])
    part = replace(small_voc, train=small_voc.train[:16])
    found = resolve_partition(part, "fine/2")
    assert found.name == "fine 2, with 14 of 38 unlabeled"
    assert found.hint.startswith("fine 2, with 14 of 38 unlabeled: not the published setting; SBD's labels")
    pool = small_voc.root / "splits" / "fine/2" / "unlabeled.txt"
    pool.write_text("\n".join(ALL[20:30]))
    assert resolve_partition(small_voc, "fine/2").name == "fine 2, with 10 of 38 unlabeled"
    other = replace(small_voc.train[39], id="2009_000001")
    odd = replace(small_voc, train=(*small_voc.train[:39], other))
    pool.unlink()
    assert resolve_partition(odd, "fine/2").name == "fine 2, with other unlabeled images than published"


def test_what_was_recorded_without_its_unlabeled_images_is_called_by_them(fake_splits: Path) -> None:
    name = "fine 2, the set of 2 A, B and C"
    noted = {"name": name, "fingerprint": fingerprint(LISTS["fine/2"]), "labeled": 2, "unlabeled": 14}
    assert recorded(noted) == "fine 2, with 14 of 38 unlabeled"
    assert recorded(noted | {"unlabeled": 38}) == name
    assert recorded(noted | {"unlabeled": 0}) == name, "a supervised checkpoint: it says nothing of them"
    assert recorded({"name": "own", "fingerprint": "x", "labeled": 2, "unlabeled": 14}) == "own"
    assert recorded({}) == ""


def test_a_list_of_another_name_must_be_at_hand(small_voc: Dataset) -> None:
    with pytest.raises(UsageError, match="no list 'fine/2-other' at hand"):
        resolve_partition(small_voc, "fine/2-other")
    bring(small_voc, "fine/2-other", LISTS["fine/2-other"])
    assert resolve_partition(small_voc, "fine/2-other").protocol == "fine"


def test_names_are_read_by_people() -> None:
    for sets, words in (("A",), "A"), (("A", "B"), "A and B"), (("A", "B", "C", "D"), "A, B and C"):
        assert str(Published("voc", "p", "1", "p 1", sets, "")) == f"p 1, the set of {words}"
