"""The tests that need a GPU, in a process of their own, so that nothing they leave behind is measured."""

from __future__ import annotations

import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from benchmarks.parts import Found

ROOT = Path(__file__).parents[1]
TAIL = 4000  # characters of a message that are kept
PROCESSES = 8  # share the GPU where pytest-xdist is there: the networks are tiny, and the host is what they wait for
GRACE = 20  # seconds that interrupted tests have to end and to report
QUICK = ["tests/gpu/test_confusion.py"]


def run(folder: Path, limit: float, *, tiny: bool) -> Found:
    """`pytest -m gpu`, interrupted before `limit` seconds are over, so that it reports what it has done by then."""
    report, log = folder / "tests.xml", folder / "tests.log"
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={report}"]
    command += QUICK if tiny else ["-n", str(PROCESSES)] if find_spec("xdist") else []
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)
        try:
            process.wait(max(limit - GRACE, 0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(min(limit, GRACE) / 2)
        finally:
            process.kill()
            process.wait()
    if not report.exists():
        return {"state": "failed", "why": "pytest made no report", "trace": log.read_text()[-TAIL:]}
    return outcome(report, process.returncode)


def outcome(report: Path, code: int) -> Found:
    """What pytest's report says; code: pytest's, 2 where it was interrupted."""
    suite = next(ET.parse(report).iter("testsuite"))
    failures = [
        {
            "test": f"{case.attrib['classname']}::{case.attrib['name']}",
            "said": bad.attrib.get("message", "").splitlines()[:3],
            "trace": (bad.text or "")[-TAIL:],
        }
        for case in suite.iter("testcase")
        for bad in (*case.findall("failure"), *case.findall("error"))
    ]
    skipped, total = int(suite.attrib["skipped"]), int(suite.attrib["tests"])
    found: Found = {"passed": total - skipped - len(failures), "skipped": skipped, "failures": failures}
    names = [f"{failure['test']} failed" for failure in failures]
    said = ", ".join([f"{found['passed']} passed", f"{skipped} skipped", *names])
    if code == 0:
        return found | {"said": said}
    return found | {"state": "failed", "why": f"{said}, then time was over" if code == 2 else said}
