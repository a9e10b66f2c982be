"""Which addresses are asked: https alone, also where they redirect to, and this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from serve import serving

from semiseg_cli.core.web import ask, body, check

ELSEWHERE = ["http://example.org/x", "file:///etc/passwd", "ftp://example.org/x", "data:,x", "/etc/passwd", "http:x"]


@pytest.mark.parametrize("url", ["https://example.org/x", "http://localhost:1/x", "http://127.0.0.1/x", "http://[::1]/x"])
def test_https_and_this_machine_are_asked(url: str) -> None:
    assert check(url) == url


@pytest.mark.parametrize("url", [*ELSEWHERE, "http://localhost.example.org/x", "http://127.0.0.1@example.org/x"])
def test_nothing_else_is(url: str) -> None:
    with pytest.raises(OSError, match="only https"):
        check(url)
    with pytest.raises(OSError, match="only https"):
        ask(url, timeout=1)


def test_what_an_address_says(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"abc")
    with serving(tmp_path) as address:
        with ask(f"{address}/list", timeout=5) as answer:
            assert body(answer, 3) == b"abc"
        with ask(f"{address}/elsewhere?{address}/list", timeout=5) as answer:
            assert body(answer, 3) == b"abc"
        with ask(f"{address}/list", timeout=5) as answer, pytest.raises(OSError, match="more than the 2 bytes"):
            body(answer, 2)
        with pytest.raises(OSError, match="404"):
            ask(f"{address}/none", timeout=5)


@pytest.mark.parametrize("url", ["http://example.org/x", "ftp://example.org/x"])
def test_a_redirect_leads_to_no_other(tmp_path: Path, url: str) -> None:
    with serving(tmp_path) as address, pytest.raises(OSError, match="only https"):
        ask(f"{address}/elsewhere?{url}", timeout=5)
