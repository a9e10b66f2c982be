"""Safetensors files, read through one opening: what another process puts in their place meanwhile is never mixed in.

The library's reader opens a path twice, once for the header and once for the numbers. Needs torch when it is called.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypedDict

from semiseg_cli.core.reading import instead, opened, parse_json, shaped

if TYPE_CHECKING:
    from torch import Tensor

HEADER = 1 << 26  # bytes: as long as a header may be
ATTEMPTS = 3  # while somebody writes into the file itself
TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


class Entry(TypedDict):
    """Of a tensor in the header: where its numbers are, counted from the header's end."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata. OSError for no regular file, ValueError for one that is damaged or of another kind."""
    for _ in range(ATTEMPTS):
        with opened(path) as file:
            before = os.fstat(file.fileno())
            error = None
            try:
                found = _parsed(file, before.st_size)
            except ValueError as damage:
                error = damage
            after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
            if error:
                raise error
            return found
    raise OSError("it is being written")


def write_arrays(file: IO[bytes], arrays: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Write NumPy's arrays as such a file. The library would copy all of them in memory first."""
    table: dict[str, Any] = {"__metadata__": dict(metadata)}
    place = 0
    for name, array in arrays.items():
        kind = f"{array.dtype.kind.upper()}{8 * array.itemsize}"
        table[name] = {"dtype": kind, "shape": array.shape, "data_offsets": (place, place := place + array.nbytes)}
    head = json.dumps(table).encode()
    head += b" " * (-len(head) % 8)
    file.write(struct.pack("<Q", len(head)) + head)
    for array in arrays.values():
        file.write(array.data)


def _parsed(file: IO[bytes], size: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    entries, metadata, begin = header(file, size)
    return {name: _tensor(file, begin, entry) for name, entry in entries.items()}, metadata


def header(file: IO[bytes], size: int) -> tuple[dict[str, Entry], dict[str, str], int]:
    """What a file of `size` bytes says of its tensors, in the order of their numbers; metadata; where numbers begin."""
    first = file.read(8)
    length = struct.unpack("<Q", first)[0] if len(first) == 8 else size
    if length > min(HEADER, size - 8):
        file.seek(0)
        raise ValueError(_instead(file.read(200)) or f"a header of {length:,} bytes in a file of {size:,}")
    table = parse_json(file.read(length).decode("utf-8"), dict[str, dict])  # type: ignore[type-arg]
    metadata: dict[str, str] = shaped(table.pop("__metadata__", {}), dict[str, str], "__metadata__")
    entries: dict[str, Entry] = shaped(table, dict[str, Entry])
    entries = dict(sorted(entries.items(), key=lambda each: tuple(each[1]["data_offsets"])))
    place = 0
    for name, entry in entries.items():
        begin, end = entry["data_offsets"]
        if entry["dtype"] not in TYPES or min(entry["shape"], default=0) < 0:
            raise ValueError(f"{name} is {entry['dtype']} {entry['shape']}")
        if begin != place or end - begin != math.prod(entry["shape"]) * _bytes(entry["dtype"]):
            raise ValueError(f"{name} lies at {begin} to {end}, which is not as large as it, or not where it should be")
        place = end
    if place != size - 8 - length:
        raise ValueError(f"{place:,} bytes of numbers are said to be there, {size - 8 - length:,} are")
    return entries, metadata, 8 + length


def _instead(head: bytes) -> str:
    return "a file of torch.save" if head.startswith((b"PK\3\4", b"\x80\2")) else instead(head)


def _tensor(file: IO[bytes], begin: int, entry: Entry) -> Tensor:
    import torch

    start, end = entry["data_offsets"]
    numbers = torch.empty(end - start, dtype=torch.uint8)
    file.seek(begin + start)
    if file.readinto(numbers.numpy().data) != end - start:  # type: ignore[attr-defined]
        raise ValueError("it ends too early")
    return numbers.view(getattr(torch, TYPES[entry["dtype"]])).reshape(entry["shape"])


def _bytes(dtype: str) -> int:
    return 1 if dtype == "BOOL" else int(dtype.strip("BFIU")) // 8
