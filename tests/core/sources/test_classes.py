"""Files of classes in the formats in which people have them: names, values and colours are right, or it is refused."""

import json
import subprocess
import time

import pytest

from semiseg_cli.core.errors import DataError
from semiseg_cli.core.sources.classes import LARGEST, Classes, read_classes

AB, RED_GREEN = ("road", "sky"), ((255, 0, 0), (0, 255, 0))
PLAIN, COLOURED = Classes(AB), Classes(AB, RED_GREEN)


@pytest.mark.parametrize(
    ("name", "text", "classes"),
    [
        ("c.txt", "road\n\nsky\r\n", PLAIN),
        ("c.txt", "# my classes\nroad\nsky  # above\n", PLAIN),
        ("labels.txt", "__ignore__\n_background_\ncat\n", Classes(("_background_", "cat"))),
        ("dataset.json", '{"channel_names": {"0": "CT"}, "labels": {"road": 0, "sky": 1}}', PLAIN),
        ("c.txt", "2 wheeler\n4 wheeler\n", Classes(("2 wheeler", "4 wheeler"))),
        ("c.txt", "class 1\nclass 2\n", Classes(("class 1", "class 2"))),
        ("c.txt", "bed, double\nlamp\n", Classes(("bed, double", "lamp"))),
        ("c.txt", "0: road\n1: sky\n", PLAIN),
        ("c.txt", "1: sky\n0: road\n", PLAIN),
        ("c.txt", "road=0\nsky=1\n", PLAIN),
        ("c.txt", "1 road\n2 sky\n", Classes(AB, values=(1, 2))),
        ("c.txt", "0\troad\n1\tsky\n", PLAIN),
        ("c.txt", "255 0 0\troad\n0 255 0\tsky\n", COLOURED),
        ("c.txt", "road 255 0 0\nsky 0 255 0\n", COLOURED),
        ("c.txt", "4 road 255 0 0\n7 sky 0 255 0\n", Classes(AB, RED_GREEN, values=(4, 7))),
        ("c.txt", "road,sky", PLAIN),
        ("c.txt", json.dumps(AB), PLAIN),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nroad:255,0,0::\nsky:0,255,0:a,b:\n", COLOURED),
        ("c.csv", "Pixel Value, Class\n0, road\n1, sky\n", PLAIN),
        ("c.csv", "id,name\n4,road\n7,sky\n", Classes(AB, values=(4, 7))),
        ("c.csv", "name,r,g,b\nroad,255,0,0\nsky,0,255,0\n", COLOURED),
        ("c.csv", "name;R;G;B\nroad;255;0;0\nsky;0;255;0\n", COLOURED),
        ("c.csv", "road,255,0,0\nsky,0,255,0\n", COLOURED),
        ("c.csv", "0,road\n1,sky\n", PLAIN),
        ("c.csv", "#ff0000,road\n#00ff00,sky\n", COLOURED),
        ("c.csv", 'name,id,color\nroad,0,"(255, 0, 0)"\nsky,1,#00ff00\n', COLOURED),
        ("c.csv", "label,class\nroad,0\nsky,1\n", PLAIN),
        ("c.csv", "Idx,Ratio,Stuff,Name\n1,0.1,1,road\n2,0.2,0,sky\n", Classes(AB, values=(1, 2))),
        ("c.csv", "value,name\n0,road\n1,sky\n255,void\n", Classes(AB, ignore=255)),
        ("c.csv", "value,name\n0,road\n255,sky\n", Classes(AB, values=(0, 255))),
        ("c.csv", "name\nroad\nsky\n", PLAIN),
        ("c.tsv", "id\tname\n0\troad\n1\tsky\n", PLAIN),
        ("c.json", '["road", "sky"]', PLAIN),
        ("c.json", '{"0": "road", "1": "sky"}', PLAIN),
        ("c.json", '{"id2label": {"0": "road", "1": "sky"}, "label2id": {"road": 0}}', PLAIN),
        ("c.json", '{"label2id": {"road": 0, "sky": 1}}', PLAIN),
        ("c.json", '{"road": [255, 0, 0], "sky": "#00ff00"}', COLOURED),
        (
            "c.json",
            '{"classes": [{"title": "road", "color": "#ff0000"}, {"title": "sky", "color": "#00ff00"}]}',
            COLOURED,
        ),
        ("c.json", '{"categories": [{"id": 1, "name": "road"}, {"id": 2, "name": "sky"}]}', Classes(AB, values=(1, 2))),
        ("c.json", '{"names": ["road", "sky"], "palette": {"sky": [0, 255, 0], "road": [255, 0, 0]}}', COLOURED),
        ("c.json", '{"names": ["road", "sky"], "ignore_index": 9, "licence": "CC0"}', Classes(AB, (), 9, "CC0")),
        ("data.yaml", "path: ../x\ntrain: images\nnc: 2\nnames:\n  0: road\n  1: sky\n", PLAIN),
        ("data.yaml", "names: [road, sky]\nnc: 2\n", PLAIN),
        ("c.yml", "id2label:\n  3: road\n  5: sky\n", Classes(AB, values=(3, 5))),
    ],
)
def test_a_table_is_read(tmp_path, name, text, classes):
    (tmp_path / name).write_text(text)
    assert read_classes(tmp_path / name) == classes


def test_the_value_of_no_class_among_names(tmp_path):
    (tmp_path / "c.txt").write_bytes(b"road\r\nsky\r\n255 void\r\n\x1a")  # and the Ctrl-Z of old editors
    assert read_classes(tmp_path / "c.txt") == Classes(AB, ignore=255)
    (tmp_path / "c.txt").write_text("road\n2 wheelers\n")
    assert read_classes(tmp_path / "c.txt").names == ("road", "2 wheelers")


def test_a_file_of_another_encoding_is_refused_with_the_command_that_converts_it(tmp_path):
    (tmp_path / "c.txt").write_bytes("Straße\nHimmel\n".encode("cp1252"))
    with pytest.raises(DataError, match="is not a classes file") as caught:
        read_classes(tmp_path / "c.txt")
    subprocess.run(caught.value.why.partition(": ")[2], shell=True, check=True)
    assert read_classes(tmp_path / "c-utf8.txt").names == ("Straße", "Himmel")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings(tmp_path, encoding):
    (tmp_path / "c.txt").write_bytes("Straße\nHimmel\n".encode(encoding))
    assert read_classes(tmp_path / "c.txt").names == ("Straße", "Himmel")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("c.txt", "one\n", "names 1 classes"),
        ("c.txt", "one\ntwo\none\n", "name one"),
        ("c.txt", "road 1 2 3\nsky\n", "'road 1 2 3'"),
        ("c.txt", "name r g b\nroad 1 2 3\n", "'road 1 2 3'"),
        ("c.txt", "road\n2: sky\n", "'2: sky'"),
        ("c.txt", "names:\n  - road\n  - sky\n", "'names:'"),
        ("c.txt", "item {\n  id: 1\n  name: 'road'\n}\n", "'id: 1'"),
        ("c.txt", "road,1,2,3\nsky,4,5\n", "'road,1,2,3'"),
        ("c.csv", "name,r,g,b\nroad,1,2,3\nsky,4,5\n", "'sky,4,5'"),
        ("c.csv", "name,r,g,b\nroad,1,2,300\nsky,4,5,6\n", "1, 2, 300"),
        ("c.csv", "Nr;Klasse\n0;Weg\n1;Himmel\n", "'Nr;Klasse'"),
        ("c.csv", "id,name\nx,road\n1,sky\n", "'x,road'"),
        ("c.csv", "id,name\n1,road\n1,sky\n", "value 1"),
        ("c.csv", "name,r,g,b\nroad,1,2,3\nsky,1,2,3\n", "colour"),
        ("c.json", "{", "Expecting"),
        ("c.json", '{"names": ["a", "b"], "palette": [[0, 0, 0]]}', "2 names, but 1 colours"),
        ("c.json", '{"names": ["a", "b"], "palette": [[0, 0, 0], [0, 0, 300]]}', "0 to 255"),
        ("c.json", '{"names": ["a", 3]}', "not all strings: '3'"),
        ("c.json", '{"images": [], "annotations": []}', "['images', 'annotations']"),
        ("c.json", '{"shapes": [{"label": "road"}], "imagePath": "a.jpg"}', "are no classes"),
        ("c.yaml", "names: [yes, no]\n", "not all strings: 'True'"),
        ("c.yaml", "names: [a\n", "no YAML"),
        ("c.yaml", "names: 3\n", "no list of names"),
        ("c.yaml", "[" * 50_000, "too deeply"),
        ("c.py", "names = ['a', 'b']", ".py files"),
        ("c.xml", "<a/>", ".xml files"),
        ("gone.txt", None, "No such file"),
    ],
)
def test_a_file_that_is_no_table_is_refused_by_name(tmp_path, name, text, said):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=name) as caught:
        read_classes(tmp_path / name)
    assert said in f"{caught.value.what} {caught.value.why}"


def test_annotations_are_no_table_of_classes(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(["x" * LARGEST]))
    with pytest.raises(DataError) as caught:
        read_classes(tmp_path / "a.json")
    assert "annotations" in caught.value.why


BOMB = "".join(f"x{k}: &x{k} [{', '.join([f'*x{k - 1}' if k else 'lol'] * 9)}]\n" for k in range(9))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("c.yaml", f"{BOMB}names: *x8", "not all strings"),
        ("c.yaml", f"{BOMB}names: [a, *x8]", "not all strings"),
        ("c.yaml", f"{BOMB}0: *x8\n1: b", "are no classes"),
        ("c.yaml", f"{BOMB}names: [a, b]\nlicence: *x8", "no text"),
        ("c.yaml", "names: 2001-13-45", "no YAML"),
        ("c.yaml", "names: {0x" + "f" * 900 + ": a, 1: b}", "value that no pixel has"),
        ("c.json", '{"names": ["a", "b"], "ignore_index": Infinity}', "which no pixel has"),
        ("c.json", '{"a": 1' + "0" * 200 + ', "b": 2}', "value that no pixel has"),
        ("c.json", '{"names": ["a", "b"], "palette": [[1, 2, Infinity], [1, 2, 3]]}', "infinity"),
        ("c.csv", 'name,value\n"' + "a" * 200_000 + '",1\nb,2', "200,004 characters"),
    ],
)
def test_a_file_made_to_do_harm_is_refused_at_once(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    began = time.process_time()
    with pytest.raises(DataError, match=name) as caught:
        read_classes(tmp_path / name)
    assert said in f"{caught.value.what} {caught.value.why}"
    assert time.process_time() - began < 2


@pytest.mark.parametrize("text", ["1" + " " * 1900 + "x\n2 y", "0 a\n99999999999999 b"])
def test_a_line_that_could_take_for_ever_does_not(tmp_path, text):
    (tmp_path / "c.txt").write_text(text)
    began = time.process_time()
    assert len(read_classes(tmp_path / "c.txt").names) == 2
    assert time.process_time() - began < 2
