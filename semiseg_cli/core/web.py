"""Addresses that are asked: https, wherever they redirect to; and http on this machine itself, where nobody listens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from http.client import HTTPResponse

HERE = {"localhost", "127.0.0.1", "::1"}


def check(url: str) -> str:
    """The address, if it may be asked; OSError for one that is neither https nor of this machine."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in HERE):
        raise OSError(f"{url} is not asked: what came from there could be anybody's, only https is taken")
    return url


def ask(url: str, *, timeout: float, headers: Mapping[str, str] = {}) -> HTTPResponse:
    """The answer of an address, to be read and closed. OSError where it may not be asked, or does not answer."""
    from urllib import request  # 30 ms, which `semiseg --help` need not pay

    class Redirects(request.HTTPRedirectHandler):
        def redirect_request(
            self, req: request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
        ) -> request.Request | None:
            return super().redirect_request(req, fp, code, msg, headers, check(newurl))

    asking = request.OpenerDirector()  # the usual one reads files, and knows FTP
    handlers = (
        request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler, request.HTTPDefaultErrorHandler, Redirects,
        request.HTTPErrorProcessor,
    )  # fmt: skip
    for handler in handlers:
        asking.add_handler(handler())
    answer: HTTPResponse = asking.open(
        request.Request(check(url), headers={"User-Agent": "semiseg", **headers}), timeout=timeout
    )
    return answer


def body(answer: HTTPResponse, most: int) -> bytes:
    """What an answer brings, of at most so many bytes; OSError for more."""
    data = answer.read(most + 1)
    if len(data) > most:
        raise OSError(f"it has more than the {most:,} bytes that it should have")
    return data
