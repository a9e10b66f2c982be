"""Archives are unpacked whole or refused; nothing is ever written outside their folder."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from semiseg_cli.core.errors import DataError
from semiseg_cli.core.sources import archives
from semiseg_cli.core.sources.archives import is_complete, unpack, unpacked

FILES = {"a/one.png": b"1" * 3000, "a/two.png": b"2" * 3000, "a/notes.txt": b"not wanted"}


def wanted(name: str) -> bool:
    return name.endswith(".png")


def archive_of(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as file:
            for name, data in files.items():
                file.writestr(name, data)
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
            for name, data in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return path


def everything(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", ["x.tar", "x.tgz", "x.zip"])
def test_what_is_wanted_is_unpacked_once(tmp_path: Path, name: str) -> None:
    archive = archive_of(tmp_path / name, FILES)
    seen: list[float] = []
    folder = unpack(archive, tmp_path / "root", wanted, seen.append)
    assert folder == tmp_path / "root" / "unpacked" / "x" == unpacked(archive, tmp_path / "root")
    assert everything(folder) == {name: FILES[name] for name in ("a/one.png", "a/two.png")}
    assert is_complete(folder)
    assert sum(seen) <= archive.stat().st_size / 1e6
    (folder / "a/one.png").unlink()
    unpack(archive, tmp_path / "root", wanted)
    assert not (folder / "a/one.png").exists(), "it was taken as done"


@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/tmp/evil.png", "C:\\evil.png", "..\\evil.png"])
@pytest.mark.parametrize("kind", ["x.tar", "x.zip"])
def test_members_that_leave_the_folder_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    archive = archive_of(tmp_path / kind, {"a/one.png": b"1", name: b"evil"})
    with pytest.raises(DataError, match="outside") as caught:
        unpack(archive, tmp_path / "root", wanted)
    assert name.split("\\")[-1] in caught.value.what
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]
    assert not is_complete(unpacked(archive, tmp_path / "root"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        entry = tarfile.TarInfo("a")
        entry.type, entry.linkname = kind, str(tmp_path)
        tar.addfile(entry)
    with pytest.raises(DataError, match="link or a device, 'a'"):
        unpack(tmp_path / "x.tar", tmp_path / "root", wanted)


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        entry = zipfile.ZipInfo("a")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(entry, str(tmp_path))
    with pytest.raises(DataError, match="link or a device, 'a'"):
        unpack(tmp_path / "x.zip", tmp_path / "root", wanted)


@pytest.mark.parametrize("name", ["x.tar", "x.tgz", "x.zip"])
@pytest.mark.parametrize("keep", [0.3, 0.7])
def test_a_truncated_archive_is_refused_and_gone_on_with(tmp_path: Path, name: str, keep: float) -> None:
    files = {f"a/{i}.png": os.urandom(5000) for i in range(6)}
    archive = archive_of(tmp_path / name, files)
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(DataError, match=r"x\.\w+ \([\d,]+ bytes\) is truncated") as caught:
        unpack(archive, tmp_path / "root", wanted)
    assert "download or copy it again" in caught.value.fix
    assert len(caught.value.why.splitlines()) == 1
    folder = unpacked(archive, tmp_path / "root")
    assert not is_complete(folder)
    assert all(files[file] == found for file, found in everything(folder).items()), "no half file has a true name"
    archive.write_bytes(data)
    assert everything(unpack(archive, tmp_path / "root", wanted)) == files


def test_damage_within_a_zip_is_found(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "x.zip", FILES)
    archive.write_bytes(archive.read_bytes().replace(b"1" * 3000, b"1" * 2999 + b"0"))
    with pytest.raises(DataError, match="truncated, damaged") as caught:
        unpack(archive, tmp_path / "root", wanted)
    assert "one.png" in caught.value.why


def test_an_interrupt_keeps_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_of(tmp_path / "x.tar", FILES)

    def stop(name: str) -> bool:
        if "two" in name:
            raise KeyboardInterrupt
        return wanted(name)

    with pytest.raises(KeyboardInterrupt):
        unpack(archive, tmp_path / "root", stop)
    one = unpacked(archive, tmp_path / "root") / "a/one.png"
    before = one.stat().st_mtime_ns, one.stat().st_ino
    assert len(everything(unpack(archive, tmp_path / "root", wanted))) == 2
    assert (one.stat().st_mtime_ns, one.stat().st_ino) == before


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_what_is_no_archive_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.tar"):
        unpack(tmp_path / "x.tar", tmp_path / "root", wanted)
    with pytest.raises(DataError, match="no archive"):
        unpack(tmp_path / "absent.tar", tmp_path / "root", wanted)


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds nothing that is asked for"):
        unpack(archive_of(tmp_path / "x.zip", {"readme.txt": b"hello"}), tmp_path / "root", wanted)
    assert os.listdir(tmp_path / "root" / "unpacked") == []


def test_a_finished_folder_is_never_mixed_with_another_archive(tmp_path: Path) -> None:
    folder = unpack(archive_of(tmp_path / "x.zip", FILES), tmp_path / "root", wanted)
    (tmp_path / "x.zip").unlink()
    with pytest.raises(DataError, match="holds something else"):
        unpack(archive_of(tmp_path / "x.tar", {"b.png": b"b"}), tmp_path / "root", wanted)
    assert len(everything(folder)) == 2


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "root" / "unpacked" / "x" / "mine.png"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(DataError, match="holds something else"):
        unpack(archive_of(tmp_path / "x.zip", FILES), tmp_path / "root", wanted)
    assert mine.read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["x.tgz", "x.zip"])
def test_little_that_unpacks_to_much_is_refused(tmp_path: Path, name: str) -> None:
    """From what its headers say: 200 MB of zeros in 200 kB, which nobody's pictures are."""
    archive = tmp_path / name
    if name.endswith(".zip"):
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("a/one.png", bytes(200 << 20))
    else:
        archive_of(archive, {"a/one.png": bytes(200 << 20)})
    with pytest.raises(DataError, match="would unpack to more than 209,715,200 bytes in 1 files"):
        unpack(archive, tmp_path / "root", wanted)
    assert everything(tmp_path / "root") == {}


@pytest.mark.parametrize("name", ["x.tar", "x.zip"])
def test_limits_hold_for_a_member_and_for_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(archives, "LARGEST", 2999)
    with pytest.raises(DataError, match="in 1 files") as caught:
        unpack(archive_of(tmp_path / name, FILES), tmp_path / "one", wanted)
    assert "'a/one.png' alone has 3,000" in caught.value.why
    monkeypatch.setattr(archives, "LARGEST", 3000)
    monkeypatch.setattr(archives, "MEMBERS", 2)
    with pytest.raises(DataError, match="in 3 files"):
        unpack(tmp_path / name, tmp_path / "two", wanted)


def test_a_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    """A tar's extended header says how long it is, and the standard library would take it all at once."""
    entry = tarfile.TarInfo("pax")
    entry.type, entry.size = tarfile.XHDTYPE, 1 << 32
    (tmp_path / "x.tar").write_bytes(entry.tobuf(tarfile.PAX_FORMAT) + bytes(10240))
    with pytest.raises(DataError, match="damaged") as caught:
        unpack(tmp_path / "x.tar", tmp_path / "root", wanted)
    assert "a header of 4,294,967,296 bytes" in caught.value.why


def test_a_zip_without_its_beginning_is_damaged(tmp_path: Path) -> None:
    """Its members lie before it, and the system says that there is no such place."""
    archive = archive_of(tmp_path / "x.zip", FILES)
    archive.write_bytes(archive.read_bytes()[500:])
    with pytest.raises(DataError, match=r"x\.zip .* is truncated, damaged or no archive"):
        unpack(archive, tmp_path / "data", wanted)
