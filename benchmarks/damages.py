"""Ways in which a file can be broken or made to do harm, each a function of the file's bytes and of random draws."""

from __future__ import annotations

import json
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any
from xml.sax.saxutils import escape

Damage = Callable[[bytes, Random], bytes]

NAMES = [
    "../../outside", "/tmp/semiseg-outside", "a\0b", "..", "", "\x1b[31mred\x1b[0m", "[/]", "[bold]", "x" * 70_000,
    "\u202e", "é\n",
]  # fmt: skip
NUMBERS: list[Any] = [0, -1, 2**31, 2**63, 10**40, 0.5, float("nan"), float("inf"), True, None]
DEEP = "[" * 100_000
SIDES = [0, 1, 13_000, 30_000, 65_535, 2**31 - 1]


def strange(draw: Random) -> Any:
    """A value that has no business where it is put."""
    kind = draw.randrange(5)
    return [draw.choice(NAMES), draw.choice(NUMBERS), [], {}, [[1, {"a": draw.choice(NAMES)}]]][kind]


# Of any file


def cut(data: bytes, draw: Random) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def flipped(data: bytes, draw: Random) -> bytes:
    found = bytearray(data)
    for _ in range(draw.choice([1, 1, 3, 30])):
        found[draw.randrange(len(found))] ^= 1 << draw.randrange(8)
    return bytes(found)


def header_flipped(data: bytes, draw: Random) -> bytes:
    found = bytearray(data)
    for _ in range(draw.choice([1, 2, 4])):
        found[draw.randrange(min(len(found), 200))] = draw.choice([0, 1, 127, 128, 255])
    return bytes(found)


def spliced(data: bytes, draw: Random) -> bytes:
    """A stretch of it twice, left out, of zeros, or of noise."""
    start = draw.randrange(len(data))
    end = min(len(data), start + draw.choice([1, 8, 100, 5000]))
    part = data[start:end]
    return data[:start] + draw.choice([part * 2, b"", bytes(len(part)), draw.randbytes(len(part))]) + data[end:]


def other(data: bytes, draw: Random) -> bytes:
    """Something else under its name."""
    zip, png = b"PK\x03\x04" + data, b"\x89PNG\r\n\x1a\n" + data
    return draw.choice([b"", b"\0" * 4096, b"\xff" * 100, zip, png, DEEP.encode()])


ANY: list[Damage] = [cut, flipped, header_flipped, spliced, other]

# Of text, and of documents


def lines(data: bytes, draw: Random) -> bytes:
    """A line torn, blank, twice, gone, or with something else in one of its fields."""
    rows = data.split(b"\n")
    place = draw.randrange(len(rows))
    row = rows[place]
    fields = row.split(b"\t")
    fields[draw.randrange(len(fields))] = str(strange(draw)).encode("utf-8", "replace")
    odd, twice = b"\t".join(fields), row + b"\n" + row
    rows[place] = draw.choice([row[: len(row) // 2], b"", twice, odd, odd, b"9" * 5000, b"\x1b[2J" + row])
    return b"\n".join(rows)


def tree(found: Any, draw: Random) -> Any:
    """A document in which a value somewhere is another, absent, or has a neighbour."""
    if isinstance(found, dict) and found and draw.random() < 0.9:
        key = draw.choice(list(found))
        if draw.random() < 0.2:
            return {name: value for name, value in found.items() if name != key}
        if draw.random() < 0.05:
            return found | {draw.choice(NAMES): strange(draw)}
        return found | {key: tree(found[key], draw)}
    if isinstance(found, list) and found and draw.random() < 0.8:
        place = draw.randrange(len(found))
        return [*found[:place], tree(found[place], draw), *found[place + draw.randrange(2) :]]
    return strange(draw)


def as_json(data: bytes, draw: Random) -> bytes:
    text = json.dumps(tree(json.loads(data), draw), ensure_ascii=False)
    long = text.replace("1", "1" * draw.choice([400, 5000]), 1)
    text = draw.choice([text] * 8 + [long, text[:1] + DEEP + text[1:]])
    return text.encode("utf-8", "surrogatepass")


def as_rows(data: bytes, draw: Random) -> bytes:
    """JSON, a document a line."""
    rows = data.split(b"\n")
    place = draw.randrange(max(len(rows) - 1, 1))
    rows[place] = as_json(rows[place], draw)
    return b"\n".join(rows)


def as_toml(data: bytes, draw: Random) -> bytes:
    """The value of a line is another."""
    rows = data.decode().split("\n")
    places = [place for place, row in enumerate(rows) if " = " in row]
    place = draw.choice(places)
    value = strange(draw)
    odd = [DEEP, "1" * 5000, f"0x{'f' * 5000}", "{}", '"""', "-inf", "1979-05-27"]
    new = draw.choice([json.dumps(value), json.dumps(value), *odd])
    rows[place] = f"{rows[place].partition(' = ')[0]} = {new.replace('null', '[]')}"
    return "\n".join(rows).encode("utf-8", "surrogatepass")


def as_tensors(data: bytes, draw: Random) -> bytes:
    """A safetensors file whose header, or the metadata in it, say something else."""
    (length,) = struct.unpack("<Q", data[:8])
    head = json.loads(data[8 : 8 + length])
    told = head["__metadata__"]
    if "semiseg" in told and draw.random() < 0.7:
        head["__metadata__"] = told | {"semiseg": as_json(told["semiseg"].encode(), draw).decode("utf-8", "replace")}
    else:
        head = tree(head, draw)
    text = json.dumps(head).encode()
    return struct.pack("<Q", draw.choice([len(text)] * 9 + [2**62])) + text + data[8 + length :]


def words(data: bytes, draw: Random) -> bytes:
    """A word of a text, between spaces or commas, is another, very long, or far from the next one."""
    parts = re.split(rb"([\s,:=]+)", data)
    place = 2 * draw.randrange(len(parts) // 2 + 1)
    far = f"a{' ' * 9000}b"
    value = draw.choice([str(strange(draw)), str(strange(draw)), "9" * 5000, '"' + "a" * 200_000, far])
    parts[place] = value.encode("utf-8", "replace")
    return b"".join(parts)


def as_yaml(data: bytes, draw: Random) -> bytes:
    """A value of a line is another, or what YAML has beside text and numbers."""
    rows = data.decode().rstrip().split("\n")
    place = draw.randrange(len(rows))
    bomb = "".join(f"x{k}: &x{k} [{', '.join([f'*x{k - 1}' if k else 'lol'] * 9)}]\n" for k in range(9))
    odd = ["0x" + "f" * 5000, "9" * 5000, "1979-05-27", "2001-13-45", "!!python/object:os.system x", "!!set {a, b}"]
    odd += ["[" * 500, "{? [a] : b}", "&a [*a]", "12:30:45", ".inf", "~", "*x8", "!!binary x"]
    odd.append(json.dumps(strange(draw)))
    key, colon, _ = rows[place].partition(": ")
    rows[place] = f"{key}{colon or ': '}{draw.choice(odd)}"
    return (bomb * draw.randrange(2) + "\n".join(rows)).encode("utf-8", "surrogatepass")


def as_xml(data: bytes, draw: Random) -> bytes:
    """An attribute or an element is another, absent, or refers to entities."""
    text = data.decode()
    found = draw.choice(list(re.finditer(r'"[^"]*"|<(\w+)', text)))
    odd = [strange(draw), strange(draw), "9" * 5000, "inf", "1e400", "3,4;5"]
    value = escape(str(draw.choice(odd))).replace('"', "'")
    value = re.sub("[\0-\x08\x0b-\x1f]", "\ufffd", value)
    new = f'"{value}"' if found[0][0] == '"' else draw.choice(["<track", "<polygon", "<mask", "<box", "<ellipse"])
    text = text[: found.start()] + new + text[found.end() :]
    lol = "".join(f'<!ENTITY l{k} "{f"&l{k - 1};" * 10 if k else "lol" * 99}">' for k in range(9))
    file = '<!DOCTYPE a [<!ENTITY l8 SYSTEM "/etc/passwd">]>'
    head = draw.choice([""] * 6 + [f"<!DOCTYPE a [{lol}]>", file, "<a>" * 99_999])
    return f"{head}{text.replace('car', '&l8;', 1) if head else text}".encode()


# Of pictures


def sized(data: bytes, draw: Random) -> bytes:
    """A picture that says it has another size; the sums of a PNG are right."""
    width, height = draw.choice(SIDES), draw.choice(SIDES)
    found = bytearray(data)
    if data.startswith(b"\x89PNG"):
        found[16:24] = struct.pack(">II", width, height)
        found[29:33] = struct.pack(">I", zlib.crc32(found[12:29]))
    elif data.startswith(b"\xff\xd8"):
        place = next(place for place in range(len(data) - 9) if data[place] == 0xFF and data[place + 1] in (0xC0, 0xC2))
        found[place + 5 : place + 9] = struct.pack(">HH", height & 0xFFFF, width & 0xFFFF)
    elif data.startswith(b"GIF8"):
        found[6:10] = struct.pack("<HH", width & 0xFFFF, height & 0xFFFF)
    elif data.startswith(b"BM"):
        found[18:26] = struct.pack("<ii", width, height)
    else:
        return header_flipped(data, draw)
    return bytes(found)


# Of what a path is


def put(path: Path, draw: Random) -> str:
    """Something in the place of a file that is none; returns what."""
    kind = draw.choice(["pipe", "device", "folder", "loop", "absent", "sparse", "full"])
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "sparse":
        with path.open("wb") as file:
            file.truncate(1 << 37)
    elif kind != "absent":
        path.symlink_to({"device": "/dev/zero", "full": "/dev/full", "loop": str(path)}[kind])
    return kind
