import os
import tomllib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semiseg_cli.core.data import index
from semiseg_cli.core.data.index import default_name, load_dataset, manifest, prepared, to_toml, write_dataset
from semiseg_cli.core.data.names import below
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.errors import DataError, UsageError

NAMES = ("back 'ground'", 'quoted "sign"', "Straße\\ü 😀")


def dataset(root, name="d"):
    folder = root / name
    train = (
        Record("a/1", folder / "images/a/1.jpg", folder / "masks/a/1.png", 3, 4, (5, 0, 7)),
        Record("b c", folder / "images/b c.png", None, 30, 40),
    )
    val = (Record("v", root / "elsewhere/v.png", folder / "masks/v.png", 5, 6, (30, 0, 0)),)
    palette = ((0, 0, 0), (1, 2, 3), (255, 0, 9))
    return Dataset(name, "folder", folder, NAMES, palette, train, val, licence="MIT", window=65)


def test_round_trip(tmp_path):
    write_dataset(dataset(tmp_path), {"source": {"seed": 3}, "notes": ["a\ttab", 'say "no"']})
    assert load_dataset(tmp_path, "d") == dataset(tmp_path)
    table = manifest(tmp_path / "d")
    assert table["counts"] == {"labeled": 1, "unlabeled": 1, "val": 1}
    assert table["pixels"] == dict(zip(NAMES, (5, 0, 7), strict=True))
    assert table["source"] == {"seed": 3}
    assert table["notes"] == ["a\ttab", 'say "no"']


def test_the_long_side_images_were_reduced_to(tmp_path):
    write_dataset(dataset(tmp_path, "small"), {"source": {"long_side": 1024}})
    write_dataset(dataset(tmp_path, "drawn"), {"source": {"seed": 3}})
    assert [load_dataset(tmp_path, name).long_side for name in ("small", "drawn")] == [1024, 0]


def test_the_folder_can_move(tmp_path):
    write_dataset(dataset(tmp_path / "one"), {})
    (tmp_path / "one").rename(tmp_path / "two")
    assert load_dataset(tmp_path / "two", "d").train == dataset(tmp_path / "two").train


def test_writing_again_touches_nothing(tmp_path):
    write_dataset(dataset(tmp_path), {})
    files = [tmp_path / "d" / name for name in ("dataset.toml", "index.tsv")]
    for file in files:
        os.utime(file, (1, 1))
    write_dataset(dataset(tmp_path), {})
    assert [file.stat().st_mtime for file in files] == [1, 1]
    assert sorted(os.listdir(tmp_path / "d")) == ["dataset.toml", "index.safetensors", "index.tsv"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    write_dataset(dataset(tmp_path), {})

    def full(source, target):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        write_dataset(replace(dataset(tmp_path), val=()), {})
    assert load_dataset(tmp_path, "d") == dataset(tmp_path)
    assert sorted(os.listdir(tmp_path / "d")) == ["dataset.toml", "index.safetensors", "index.tsv"]


def test_an_absent_dataset_says_how_to_make_it(tmp_path):
    write_dataset(dataset(tmp_path), {})
    with pytest.raises(DataError, match="'shapes'") as caught:
        load_dataset(tmp_path, "shapes")
    assert caught.value.fix == f"semiseg prepare shapes --root {tmp_path}"
    assert caught.value.why == "prepared there: d"


def test_an_absent_dataset_may_be_in_the_usual_place(tmp_path, monkeypatch):
    write_dataset(dataset(tmp_path / "usual", "d"), {})
    monkeypatch.setenv("SEMISEG_DATA", str(tmp_path / "usual"))
    with pytest.raises(DataError) as caught:
        load_dataset(tmp_path / "other", "d")
    assert caught.value.why == f"it is prepared in {tmp_path}/usual"
    assert caught.value.fix == f"d --root {tmp_path}/usual"
    with pytest.raises(DataError) as caught:
        default_name(tmp_path / "other")
    assert caught.value.why == f"prepared in {tmp_path}/usual: d"


def test_an_absent_dataset_may_be_a_misspelt_one(tmp_path):
    for name in ("park", "shapes"):
        write_dataset(dataset(tmp_path, name), {})
    with pytest.raises(DataError, match="'shape'") as caught:
        load_dataset(tmp_path, "shape")
    prepare = f"semiseg prepare folder --labeled DIR --masks DIR --classes FILE --name shape --root {tmp_path}"
    assert caught.value.fix == f"did you mean 'shapes'? (known: park, shapes), or prepare it: {prepare}"


@pytest.mark.parametrize("damage", ["cut", "gone", "words"])
def test_a_damaged_index_is_an_error(tmp_path, damage):
    write_dataset(dataset(tmp_path), {})
    file = tmp_path / "d" / "index.tsv"
    if damage == "gone":
        file.unlink()
    else:
        file.write_text(file.read_text()[:-9] if damage == "cut" else file.read_text().replace("30", "thirty"))
    (tmp_path / "d" / "splits").mkdir()
    with pytest.raises(DataError, match="damaged") as caught:
        load_dataset(tmp_path, "d")
    aside, prepare, back = caught.value.fix.split(" && ")
    assert aside == f"mv {tmp_path}/d {tmp_path}/.d-old"
    assert prepare == f"semiseg prepare folder --classes FILE --name d --root {tmp_path}"
    assert back == f"mv {tmp_path}/.d-old/splits {tmp_path}/d/splits"


def test_another_schema_is_an_error(tmp_path):
    write_dataset(dataset(tmp_path), {"schema": 99})
    with pytest.raises(DataError, match="schema 99"):
        load_dataset(tmp_path, "d")


def test_ids_are_unique_and_on_one_line(tmp_path):
    twice = dataset(tmp_path)
    with pytest.raises(DataError, match="image ids twice"):
        write_dataset(replace(twice, val=twice.train), {})
    with pytest.raises(DataError, match="tab"):
        write_dataset(replace(twice, val=(replace(twice.val[0], id="a\tb"),)), {})


def test_the_dataset_meant_where_none_is_named(tmp_path):
    assert prepared(tmp_path / "nothing") == []
    with pytest.raises(DataError, match="nothing is prepared") as caught:
        default_name(tmp_path)
    for way in ("prepare folder --help", f"prepare voc --root {tmp_path}", "demo"):
        assert f"\n    semiseg {way}    #" in caught.value.fix
    write_dataset(dataset(tmp_path, "one"), {})
    write_dataset(dataset(tmp_path, ".one.partial-x"), {})
    assert default_name(tmp_path) == "one"
    write_dataset(dataset(tmp_path, "two"), {})
    with pytest.raises(UsageError, match="several"):
        default_name(tmp_path)
    write_dataset(dataset(tmp_path, "voc"), {})
    assert default_name(tmp_path) == "voc"
    assert prepared(tmp_path) == ["one", "two", "voc"]


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalar = text | st.integers(-(2**53), 2**53) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
tables = st.recursive(
    st.dictionaries(text, scalar | st.lists(scalar, max_size=3), max_size=4),
    lambda inner: st.dictionaries(text, scalar | inner, max_size=3),
    max_leaves=8,
)


@given(tables)
def test_toml_reads_back(table):
    assert tomllib.loads(to_toml(table)) == table


def test_files_below_the_data_root_move_with_it(tmp_path):
    root = tmp_path / "data"
    images = [root / "d/images/a.png", root / "raw/b.png", tmp_path / "c.png"]
    records = tuple(Record(path.stem, path, None, 3, 4) for path in images)
    write_dataset(replace(dataset(root), train=records, val=()), {})
    root.rename(tmp_path / "moved")
    moved = [tmp_path / "moved/d/images/a.png", tmp_path / "moved/raw/b.png", tmp_path / "c.png"]
    assert [record.image for record in load_dataset(tmp_path / "moved", "d").train] == moved


def test_no_old_description_stands_beside_a_new_index(tmp_path, monkeypatch):
    write_dataset(dataset(tmp_path), {})
    written = index.write_text

    def stops(path, text, **how):
        if path.name == "dataset.toml":
            raise KeyboardInterrupt
        written(path, text, **how)

    monkeypatch.setattr(index, "write_text", stops)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(replace(dataset(tmp_path), val=()), {})
    with pytest.raises(DataError, match="no prepared dataset"):
        load_dataset(tmp_path, "d")


OUTSIDE = ["../x", "a/../../x", "/tmp/x", "a/..", "..", "..\\x", "a\0b"]


@pytest.mark.parametrize("id", OUTSIDE)
def test_an_id_that_leads_out_of_its_folder_is_refused(tmp_path, id):
    write_dataset(dataset(tmp_path), {})
    file = tmp_path / "d" / "index.tsv"
    lines = file.read_text().split("\n")
    lines[1] = "\t".join([id, *lines[1].split("\t")[1:]])
    file.write_text("\n".join(lines))
    with pytest.raises(DataError, match="damaged") as caught:
        load_dataset(tmp_path, "d")
    assert caught.value.why.startswith("index.tsv, line 2: ")
    assert repr(id) in caught.value.why


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_dataset_is_below_its_root(tmp_path, name):
    with pytest.raises(UsageError, match="dataset's name"):
        load_dataset(tmp_path / "root", name)


@pytest.mark.parametrize("name", OUTSIDE)
def test_nothing_is_written_outside(tmp_path, name):
    with pytest.raises(DataError, match="nothing is written there"):
        below(tmp_path, name)
    assert below(tmp_path, "a/b..c.png") == tmp_path / "a" / "b..c.png"


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        (1, "test", "part"), (4, "0", "0 x"), (4, "-3", "-3 x"), (5, "9999999999", "9999999999"),
        (4, "9" * 5000, "digit"),
        (6, "1 x", "invalid literal"), (6, "1", "pixels of 1 classes"), (6, "-1 1 1", "classes"), (2, "a\0b", "zero"),
    ],
)  # fmt: skip
def test_a_line_with_something_else_is_named(tmp_path, column, value, said):
    write_dataset(dataset(tmp_path), {})
    file = tmp_path / "d" / "index.tsv"
    lines = file.read_text().split("\n")
    fields = lines[2].split("\t")
    fields[column] = value
    lines[2] = "\t".join(fields)
    file.write_text("\n".join(lines))
    with pytest.raises(DataError, match="damaged") as caught:
        load_dataset(tmp_path, "d")
    assert caught.value.why.startswith("index.tsv, line 3: ")
    assert said in caught.value.why


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("classes = ", "classes = 3 #", "classes is '3', not a list"), ("ignore = 255", "ignore = 256", "ignore"),
        ("window = ", "window = -", "window"), ("kind = ", "sort = ", "lacks 'kind'"),
        ("schema", "a = " + "[" * 9999, "deeply"),
        ("palette = ", "palette = [] #", "0 colours for"), ("window = ", f"window = {'1' * 5000}", "digit"),
    ],
)  # fmt: skip
def test_a_description_of_another_type_is_named(tmp_path, old, new, said):
    write_dataset(dataset(tmp_path), {})
    file = tmp_path / "d" / "dataset.toml"
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=r"dataset\.toml cannot be read") as caught:
        load_dataset(tmp_path, "d")
    assert said in caught.value.why
