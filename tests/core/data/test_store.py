"""Shards in an object store: fetched once by whoever needs them, kept within a bound, and never taken for others."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from serve import serving

from semiseg_cli.core.data import shards, store
from semiseg_cli.core.data.shards import content, member, write
from semiseg_cli.core.data.store import Store, fetch, require, send
from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.core.locks import hold

COUNT = 12  # shards, of one photo each
FORK = multiprocessing.get_context("fork")


def photo(number: int) -> bytes:
    return bytes([number]) * 20_000


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder of shards, all of which lie in `far`, and of which three fit into the cache."""
    far, near = tmp_path / "far", tmp_path / "data" / "shards"
    far.mkdir()
    near.mkdir(parents=True)
    listed = {f"{i:05d}.tar": write(far / f"{i:05d}.tar", [(f"{i}.jpg", photo(i))])[1] for i in range(COUNT)}
    (near / "shards.json").write_text(json.dumps(listed))
    keep(near, f"file://{far}", 3)
    return near


def keep(near: Path, url: str, count: float) -> Store:
    """Let the shards be in a store, and so many of them here."""
    size = json.loads((near / "shards.json").read_text())["00000.tar"]["bytes"]
    store.keep(near, {"url": url, "cache": int(count * size)})
    store.of.cache_clear()
    found = store.of(near)
    assert found
    return found


def read(near: Path, number: int) -> bytes:
    found = member(near / f"{number:05d}.tar" / "512" / f"{number}.jpg")
    assert found
    return content(found, 20_000)


def held(near: Path) -> list[str]:
    return sorted(path.name for path in near.iterdir() if path.suffix in (".tar", ".part"))


def test_shards_are_fetched_when_they_are_read_and_the_oldest_go(place: Path) -> None:
    for number in (0, 1, 2):
        assert read(place, number) == photo(number)
    os.utime(place / "00001.tar", (1, 1))
    assert read(place, 5) == photo(5)
    assert held(place) == ["00000.tar", "00002.tar", "00005.tar"]
    os.utime(place / "00002.tar", (1, 1))
    assert read(place, 2) == photo(2)  # now it was read last
    os.utime(place / "00000.tar", (1, 1))
    assert read(place, 1) == photo(1)
    assert held(place) == ["00001.tar", "00002.tar", "00005.tar"]


@pytest.fixture
def watched(place: Path) -> Iterator[Callable[[], int]]:
    """The most bytes that were in the folder, looked at again and again."""
    most, done = [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            total = 0
            with open(place / store.LOCK, "ab") as lock:
                hold(lock.fileno())  # nothing goes or begins to come while it is counted
                for name in held(place):
                    with suppress(FileNotFoundError):
                        total += (place / name).stat().st_size
            time.sleep(0.001)
            most[0] = max(most[0], total)

    thread = threading.Thread(target=watch)
    thread.start()
    yield lambda: most[0]
    done.set()
    thread.join()


def _reader(near: Path, seed: int, wrong: multiprocessing.Queue[str]) -> None:
    try:
        for step in range(10):
            number = (seed * 3 + step * 7) % COUNT
            if read(near, number) != photo(number):
                wrong.put(f"{number} is another photo")
    except BaseException as error:
        wrong.put(repr(error))


def test_processes_and_threads_share_a_cache_that_keeps_its_bound(place: Path, watched: Callable[[], int]) -> None:
    """After a fork of a process that has fetched itself. What is on its way counts as long as it will be."""
    read(place, 0)
    wrong: multiprocessing.Queue[str] = FORK.Queue()
    others = [FORK.Process(target=_reader, args=(place, seed, wrong)) for seed in range(2)]
    for each in others:
        each.start()
    for each in others:
        each.join(120)
    assert wrong.empty(), wrong.get()
    assert [each.exitcode for each in others] == [0, 0]
    size = (place / held(place)[0]).stat().st_size
    assert size < watched() <= 3 * size
    assert len(held(place)) <= 3


def test_one_fetches_while_others_wait(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = list[str]()
    real = store._receive
    monkeypatch.setattr(store, "_receive", lambda *words: fetched.append(words[1]) or real(*words))
    threads = [threading.Thread(target=read, args=(place, 4)) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert fetched == ["00004.tar"]
    assert held(place) == ["00004.tar"]


def test_what_a_killed_one_left_is_removed_and_what_another_fetches_counts(place: Path) -> None:
    size = (place.parents[1] / "far" / "00000.tar").stat().st_size
    (place / ".00007.tar.part").write_bytes(b"half")
    (place / ".00008.tar.part").write_bytes(b"half")
    coming = place / ".00009.tar.part"
    coming.touch()
    os.truncate(coming, 2 * size)
    with coming.open("rb+") as other:
        hold(other.fileno())
        assert read(place, 8) == photo(8)
        assert read(place, 0) == photo(0)
        assert held(place) == [".00009.tar.part", "00000.tar"]


def test_without_locks_each_fetches_by_itself_and_what_was_left_long_ago_is_removed(
    place: Path, without_locks: None
) -> None:
    for left, hours in (("7.tar.part", 2), ("8.tar.0123abcd.part", 2), ("9.tar.0123abcd.part", 0.5)):
        (place / f".0000{left}").write_bytes(b"half")
        os.utime(place / f".0000{left}", (time.time() - 3600 * hours,) * 2)
    wrong: multiprocessing.Queue[str] = FORK.Queue()
    others = [FORK.Process(target=_reader, args=(place, seed, wrong)) for seed in (0, 0, 1)]
    for each in others:
        each.start()
    for each in others:
        each.join(120)
    assert wrong.empty(), wrong.get()
    assert [each.exitcode for each in others] == [0, 0, 0]
    (place / "00009.tar").unlink(missing_ok=True)
    assert read(place, 9) == photo(9)
    kept = held(place)
    assert kept[0] == ".00009.tar.0123abcd.part"  # somebody may still write to it
    assert [Path(name).suffix for name in kept[1:]] == [".tar"] * len(kept[1:])
    assert 2 <= len(kept) <= 3  # its four bytes leave room for two more


def test_a_shard_that_was_replaced_in_the_store_is_refused(place: Path) -> None:
    far = place.parents[1] / "far"
    (far / "00001.tar").write_bytes((far / "00002.tar").read_bytes())
    with pytest.raises(DataError, match=r"00001\.tar in file://.* is not the shard that was written there") as caught:
        read(place, 1)
    assert caught.value.why == "it has another content"
    (far / "00003.tar").write_bytes(b"short")
    (far / "00004.tar").write_bytes(bytes(10**6))
    for number in (3, 4):
        with pytest.raises(DataError, match="is not the shard") as caught:
            read(place, number)
        assert "it has not 30,720 bytes" in caught.value.why
    assert held(place) == []


def test_a_store_that_cannot_be_reached_is_named_with_what_gives_access(place: Path) -> None:
    far = place.parents[1] / "far"
    (far / "00001.tar").unlink()
    with pytest.raises(DataError, match=r"cannot fetch 00001\.tar from file://") as caught:
        read(place, 1)
    assert "not found" in caught.value.why.lower()
    assert "AWS_" in caught.value.fix
    assert held(place) == []


def test_shards_come_from_a_web_server(place: Path) -> None:
    with serving(place.parents[1]) as address:
        keep(place, f"{address}/far", 2)
        assert read(place, 3) == photo(3)
        keep(place, f"{address}/nowhere", 2)
        with pytest.raises(DataError, match="cannot fetch"):
            read(place, 4)


def test_uploaded_shards_come_back_and_nothing_else_is_overwritten(place: Path, tmp_path: Path) -> None:
    shard, url = place.parents[1] / "far" / "00000.tar", f"file://{tmp_path}/new/place"
    send(shard, url)
    send(shard, url)
    assert (tmp_path / "new" / "place" / "00000.tar").read_bytes() == shard.read_bytes()
    (tmp_path / "new" / "place" / "00000.tar").write_bytes(b"somebody's")
    with pytest.raises(DataError, match=r"cannot write 00000\.tar") as caught:
        send(shard, url)
    assert "choose an empty folder" in caught.value.why
    assert (tmp_path / "new" / "place" / "00000.tar").read_bytes() == b"somebody's"


def test_without_obstore_the_extra_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs the package obstore") as caught:
        read(place, 0)
    assert caught.value.fix == "pip install 'semiseg[shards]'"


@pytest.mark.parametrize("url", ["photos", "ftp://host/a", "s3:/bucket", ""])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="no address of an object store"):
        require(url)


def test_a_disk_that_is_full_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*words: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_receive", full)
    place_of = keep(place, "file:///nowhere", 3)
    with pytest.raises(DataError, match="cannot write") as caught:
        fetch(place / "00000.tar", place_of, 10, "")
    assert "No space left" in caught.value.why
    assert held(place) == []
    assert shards.listed(place)


def test_a_shard_that_is_expected_comes_by_itself(place: Path) -> None:
    path = place / "00006.tar" / "512" / "6.jpg"
    assert shards.is_far(path)
    shards.expect(path)
    shards.expect(path)
    assert store._begun == {place / "00006.tar"}
    assert read(place, 6) == photo(6)  # it waits for what is on its way
    (place.parents[1] / "far" / "00007.tar").unlink()
    shards.expect(place / "00007.tar" / "512" / "7.jpg")
    while store._begun:
        time.sleep(0.001)
    assert held(place) == ["00006.tar"]


class Bucket(BaseHTTPRequestHandler):
    """What an S3 server answers where objects are written and read, on a plain connection."""

    held: ClassVar[dict[str, bytes]] = {}

    def do_PUT(self) -> None:
        self.held[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200)

    def do_HEAD(self) -> None:
        self.answer(200 if self.path in self.held else 404)

    do_GET = do_HEAD

    def answer(self, code: int) -> None:
        data = self.held.get(self.path, b"")
        self.send_response(code)
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Sat, 28 Nov 2026 12:00:00 GMT")
        self.send_header("Content-Length", str(0 if self.command == "PUT" else len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def test_a_bucket_of_ones_own_without_tls(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in {"ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "REGION": "here"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{name}", "a")
    far = place.parents[1] / "far"
    try:
        send(far / "00003.tar", "s3://photos/mine")
        keep(place, "s3://photos/mine", 3)
        assert read(place, 3) == photo(3)
        assert list(Bucket.held) == ["/photos/mine/00003.tar"]
        with pytest.raises(DataError, match=r"cannot fetch 00004\.tar from s3://photos/mine") as caught:
            read(place, 4)
        assert "Debug" not in caught.value.why
    finally:
        server.shutdown()
        server.server_close()
