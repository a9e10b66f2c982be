"""Chromium without a window, spoken to over two pipes (Chrome DevTools Protocol), for tests of pages."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE = 120.0  # seconds for an answer: a busy machine is not a failure


class Browser:
    """One page of one browser. `events`: everything it said unasked, such as what it requests."""

    def __init__(self, folder: Path) -> None:
        assert PROGRAM is not None
        theirs, ours = zip(os.pipe(), os.pipe()[::-1], strict=True)  # (they read, they write), (we write, we read)
        high = [fcntl.fcntl(handle, fcntl.F_DUPFD, 10) for handle in theirs]  # 3 and 4 may be among the pipes
        start = f'exec "$@" 3<&{high[0]} 4>&{high[1]}'
        self.process = subprocess.Popen(
            ["bash", "-c", start, "bash", PROGRAM, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            pass_fds=high, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for handle in (*theirs, *high):
            os.close(handle)
        self.to, self.back = ours
        self.count, self.rest, self.session = 0, b"", ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while (found := self._next()).get("id") != self.count:
            self.events.append(found)
        assert "error" not in found, f"{method}: {found['error']}"
        return dict(found["result"])

    def open(self, path: Path) -> None:
        """Show a file, and wait until all of it is there."""
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        self._until("Page.loadEventFired")

    def reads(self, expression: str) -> Any:
        """What JavaScript makes of an expression in the page. It runs even where the page's own may not."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def size(self, width: int, height: int = 900) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def press(self, key: str) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            code = {"ArrowRight": 39, "ArrowLeft": 37, "End": 35, "Tab": 9}[key]
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, and exceptions."""
        self.reads("0")  # what was said before is here then
        kinds = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        return [json.dumps(event["params"]) for event in self.events if event["method"] in kinds]

    def requests(self) -> list[str]:
        """What it asked for, pictures within the page left out."""
        asked = [event["params"]["request"]["url"] for event in self.events if "requestWillBeSent" in event["method"]
                 and "request" in event["params"]]  # fmt: skip
        return [url for url in asked if not url.startswith("data:")]

    def close(self) -> None:
        try:
            self.call("Browser.close")
        finally:
            for handle in (self.to, self.back):
                os.close(handle)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _until(self, method: str) -> None:
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.back], [], [], max(end - time.monotonic(), 0))
            more = os.read(self.back, 2**20) if ready else b""
            assert more, "the browser ended" if ready else "the browser does not answer"
            self.rest += more
        one, _, self.rest = self.rest.partition(b"\0")
        return dict(json.loads(one))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if PROGRAM is None:
        pytest.skip("no Chromium is installed")
    found = Browser(tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()
