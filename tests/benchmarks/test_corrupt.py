"""Broken files and those that do harm, some of each kind: none ends in a traceback, hangs, eats memory, or leads out.

The long version is `python -m benchmarks.corrupt`; this one takes the first cases of another seed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fresh import begun

from benchmarks.corrupt import FAULTS, Case, look, main, table


def typed(*words: str) -> int:
    sys.argv[1:] = words
    return main()


def test_a_few_of_every_kind(tmp_path: Path) -> None:
    document = tmp_path / "cases.json"
    process = begun(typed, "--cases", "16", "--seed", "11", "--json", str(document), folder=tmp_path)
    process.join(900)
    found = json.loads(document.read_text()) if document.exists() else []
    assert process.exitcode == 0, [(tmp_path / name).read_text() for name in ("stdout", "stderr")]
    assert len(found) == 16
    assert len({case["kind"] for case in found}) == 16
    assert sum(case["code"] != 0 for case in found) > 4
    assert not any(case["faults"] for case in found)


def test_every_fault_is_seen() -> None:
    """What would be counted is counted: the zeros of the table mean something."""

    def faults(
        code: int = 1, megabytes: float = 100.0, hung: bool = False, log: bytes = b"", stray: str = ""
    ) -> list[str]:
        case = look(Case("x", "f", "cut", "predict", 0), (code, megabytes, hung), log, 90.0, [stray] * bool(stray))
        return list(case.faults)

    assert faults(log="error: é\n\ttry".encode()) == []
    assert faults(log=b"Traceback (most recent call last)") == faults(code=-11) == ["traceback"]
    assert faults(log=b"error: this is a bug in semiseg: KeyError") == ["traceback"]
    assert faults(code=-9, hung=True) == ["hang"]
    assert faults(megabytes=391.0) == ["memory"]
    assert faults(log=b"\x1b[31m") == faults(log="\x9b".encode()) == faults(log=b"a\rb") == ["escape"]
    assert faults(stray="../outside") == ["outside"]
    cases = [Case("a", "f", "cut", "x", 0, code=1, faults=("hang",)), Case("b", "g", "cut", "x", 1)]
    assert table(cases).splitlines()[-1] == "| all | 2 | 1 | 1 | 0 | 1 | 0 | 0 | 0 |"
    assert len(table(cases).splitlines()) == 5
    assert len(FAULTS) == 5
