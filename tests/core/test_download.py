"""Downloads against servers on this machine: resumed, checked, from one mirror after another."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from semiseg_cli.core import download as module
from semiseg_cli.core.download import Published, download
from semiseg_cli.core.errors import DataError

DATA = bytes(range(256)) * 4000  # 1,024,000 bytes
SHA256 = hashlib.sha256(DATA).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """/good serves DATA with ranges; other paths misbehave as they are called."""

    requests: list[tuple[str, str | None]]

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        how, asked = self.path.strip("/"), self.headers.get("Range")
        self.requests.append((how, asked))
        if how == "absent":
            return self.send_error(404)
        body = {"page": b"<html>moved</html>", "wrong": DATA[::-1]}.get(how, DATA)
        start = int(re.findall(r"bytes=(\d+)-", asked)[0]) if asked and how not in ("rangeless", "page") else 0
        self.send_response(206 if start else 200)
        if start:
            shown = start + 1 if how == "shifted" else start
            self.send_header("Content-Range", f"bytes {shown}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if how == "silent":
            return None
        self.wfile.write(body[start : start + 300_000] if how == "breaks" else body[start:])
        return None


@pytest.fixture
def server() -> Iterator[str]:
    Handler.requests = []
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def item(server: str, *paths: str) -> Published:
    return Published("data.tar", len(DATA), SHA256, tuple(f"{server}/{path}" for path in paths))


def test_it_comes_whole_and_is_announced(server: str, tmp_path: Path) -> None:
    notes: list[str] = []
    megabytes: list[float] = []
    file = download(item(server, "good"), tmp_path / "new", note=notes.append, advance=megabytes.append)
    assert file == tmp_path / "new" / "data.tar"
    assert file.read_bytes() == DATA
    assert notes == [f"downloading data.tar (1 MB) to {file}", f"  from {server}/good"]
    assert sum(megabytes) == pytest.approx(1.024)
    assert os.listdir(tmp_path / "new") == ["data.tar"]
    download(item(server, "good"), tmp_path / "new")
    assert len(Handler.requests) == 1, "it is there: nobody is asked"


def test_what_has_arrived_is_not_fetched_again(server: str, tmp_path: Path) -> None:
    (tmp_path / "data.tar.part").write_bytes(DATA[:700_000])
    assert download(item(server, "good"), tmp_path).read_bytes() == DATA
    assert Handler.requests == [("good", "bytes=700000-")]


def test_a_complete_part_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / "data.tar.part").write_bytes(DATA)
    assert download(item("http://127.0.0.1:1", "good"), tmp_path).read_bytes() == DATA


def test_a_connection_that_breaks_is_taken_up_again(server: str, tmp_path: Path) -> None:
    assert download(item(server, "breaks"), tmp_path).read_bytes() == DATA
    assert [asked for _, asked in Handler.requests] == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


@pytest.mark.parametrize("broken", ["absent", "page", "wrong", "silent", "shifted"])
def test_the_next_mirror_takes_over(server: str, tmp_path: Path, broken: str) -> None:
    if broken == "shifted":
        (tmp_path / "data.tar.part").write_bytes(DATA[:1000])
    assert download(item(server, broken, "good"), tmp_path).read_bytes() == DATA
    assert os.listdir(tmp_path) == ["data.tar"]


def test_a_page_does_not_cost_what_has_arrived(server: str, tmp_path: Path) -> None:
    (tmp_path / "data.tar.part").write_bytes(DATA[:700_000])
    download(item(server, "page", "good"), tmp_path)
    assert Handler.requests[-1] == ("good", "bytes=700000-")


def test_a_server_without_ranges_starts_again(server: str, tmp_path: Path) -> None:
    (tmp_path / "data.tar.part").write_bytes(DATA[:700_000])
    assert download(item(server, "rangeless"), tmp_path).read_bytes() == DATA


def test_a_wrong_beginning_does_not_condemn_the_mirror(server: str, tmp_path: Path) -> None:
    (tmp_path / "data.tar.part").write_bytes(b"x" * 700_000)
    assert download(item(server, "good"), tmp_path).read_bytes() == DATA
    assert Handler.requests == [("good", "bytes=700000-"), ("good", None)]


def test_a_part_that_is_too_long_is_dropped(server: str, tmp_path: Path) -> None:
    (tmp_path / "data.tar.part").write_bytes(DATA + b"more")
    assert download(item(server, "good"), tmp_path).read_bytes() == DATA


def test_when_all_fail_everything_tried_is_told(server: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.tar could not be downloaded") as caught:
        download(item(server, "absent", "wrong", "page"), tmp_path)
    _, *tried = caught.value.why.splitlines()
    assert tried[0].startswith(f"{server}/absent: HTTP Error 404")
    assert tried[1] == f"{server}/wrong: its sha256 is {hashlib.sha256(DATA[::-1]).hexdigest()} instead of {SHA256}"
    assert tried[2] == f"{server}/page: it has 18 bytes instead of {len(DATA)}"
    assert os.listdir(tmp_path) == []


def test_an_unreachable_host_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 2)
    with pytest.raises(DataError) as caught:
        download(item("http://127.0.0.1:1", "good"), tmp_path)
    assert "http://127.0.0.1:1/good: [Errno" in caught.value.why
    assert "refused" in caught.value.why


def test_a_full_disk_is_told_before(tmp_path: Path) -> None:
    huge = Published("data.tar", 10**18, SHA256, ("http://127.0.0.1:1/good",))
    with pytest.raises(DataError, match="too little room"):
        download(huge, tmp_path)
