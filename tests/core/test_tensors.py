"""Tensors of safetensors files: as the library writes them, never of two files, and nothing of a damaged one."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from semiseg_cli.core import tensors as module
from semiseg_cli.core.tensors import TYPES, read_tensors

SAVED = {
    "b/half": torch.randn(3, 4).half(), "a": torch.tensor(5.0), "none": torch.zeros(0, 3), "c": torch.arange(5),
    "truth": torch.tensor([[True, False]]), "brain": torch.randn(3).bfloat16(), "d": torch.arange(3, dtype=torch.uint8),
}  # fmt: skip


def test_all_that_the_library_writes_comes_back(tmp_path: Path) -> None:
    save_file(SAVED, tmp_path / "x", {"format": "pt", "note": "é"})
    found, metadata = read_tensors(tmp_path / "x")
    assert metadata == {"format": "pt", "note": "é"}
    theirs = load_file(tmp_path / "x")
    assert found.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype
    save_file({}, tmp_path / "empty")
    assert read_tensors(tmp_path / "empty") == ({}, {})


@pytest.mark.parametrize("dtype", sorted(TYPES.values()))
def test_every_type(tmp_path: Path, dtype: str) -> None:
    tensor = torch.ones(2, 3).to(getattr(torch, dtype))
    save_file({"x": tensor}, tmp_path / "x")
    assert torch.equal(read_tensors(tmp_path / "x")[0]["x"], tensor)


def during(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Between the header and the numbers of a file something happens, once."""
    real, times = module.header, iter([happens])

    def header(*args: Any) -> Any:
        found = real(*args)
        next(times, lambda: None)()
        return found

    monkeypatch.setattr(module, "header", header)


@pytest.mark.parametrize("size", [10, 1000])
def test_a_file_that_is_replaced_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """As every save of a run replaces it: what comes is the old file, whole."""
    path, other = tmp_path / "x", tmp_path / "y"
    save_file({"x": torch.ones(1000), "y": torch.ones(3)}, path, {"step": "1"})
    save_file({"x": torch.full((size,), 2.0), "y": torch.full((3,), 2.0)}, other, {"step": "2"})
    during(monkeypatch, lambda: os.replace(other, path))
    found, metadata = read_tensors(path)
    assert metadata == {"step": "1"}
    assert torch.equal(found["x"], torch.ones(1000))
    assert torch.equal(found["y"], torch.ones(3))


@pytest.mark.parametrize("size", [10, 1000, 2000])
def test_a_file_that_is_written_into_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """As a copy over it does: it is read again, and so the new one comes."""
    path = tmp_path / "x"
    save_file({"x": torch.ones(1000)}, path)
    new = save({"x": torch.full((size,), 2.0)})
    during(monkeypatch, lambda: path.write_bytes(new))
    assert torch.equal(read_tensors(path)[0]["x"], torch.full((size,), 2.0))


def test_a_file_that_is_written_into_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"x": torch.ones(10)}, tmp_path / "x")
    real = module._parsed

    def parsed(file: Any, size: int) -> Any:
        found = real(file, size)
        os.utime(tmp_path / "x", ns=(0, os.stat(tmp_path / "x").st_mtime_ns + 10**9))
        return found

    monkeypatch.setattr(module, "_parsed", parsed)
    with pytest.raises(OSError, match="it is being written"):
        read_tensors(tmp_path / "x")


def file_of(header: Any, numbers: bytes = bytes(16)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def entry(dtype: Any = "F32", shape: Any = (4,), offsets: Any = (0, 16)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the file is empty"), (b"1234567", "header"), (struct.pack("<Q", 2**63), "header"), (file_of(b"{"), "."),
        (file_of([]), "table"), (file_of({"x": 3}), "x is '3', not a table"), (file_of(b"[" * 10**6), "deeply"),
        (file_of({"x": entry(dtype="F33")}), "x is F33"), (file_of({"x": entry(dtype=7)}), "x.dtype is '7', not text"),
        (file_of({"x": entry(shape=[-4])}), "x is F32"), (file_of({"x": entry(shape=[4.0])}), "whole number"),
        (file_of({"x": entry(shape=[10**12])}), "x lies at 0 to 16"),
        (file_of({"x": entry(offsets=(0, 12))}), "x lies"),
        (file_of({"x": entry(offsets=(0, 2**70))}), "whole number"), (file_of({"x": entry(offsets=[0])}), "2 values"),
        (file_of({"x": entry(), "y": entry()}), "lies at 0 to 16"),
        (file_of({"x": entry()}, bytes(20)), "bytes of numbers"),
        (file_of({"x": entry()}, bytes(12)), "bytes of numbers"),
        (file_of({"__metadata__": {"a": 1}, "x": entry()}), "text"),
        (file_of({"x": {"dtype": "F32", "shape": [4]}}), "x lacks 'data_offsets'"), (file_of(b"\xff\xff"), "utf-8"),
    ],
)  # fmt: skip
def test_a_damaged_file_gives_nothing(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(ValueError, match=said):
        read_tensors(tmp_path / "x")


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (b"PK\3\4" + bytes(100), "a file of torch.save"),
        (b"\xff" * 100, "a header of 18,446,744,073,709,551,615 bytes in a file of 100"),
    ],
)
def test_what_is_no_such_file_is_told_as_what_it_is(tmp_path: Path, head: bytes, told: str) -> None:
    (tmp_path / "x").write_bytes(head)
    with pytest.raises(ValueError, match=told):
        read_tensors(tmp_path / "x")
