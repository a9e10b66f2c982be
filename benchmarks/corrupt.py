"""Files that are broken, or made to do harm, handed to every command that reads such: what becomes of it, counted.

    python -m benchmarks.corrupt --cases 2600 --json corrupt.json

Each case is a process of its own, forked from one in which all is imported, in a folder of its own. Counted are
tracebacks (and crashes), hangs, memory more than 300 MB above that of the good file, terminal escapes in what was
printed, and files outside the folders that the command writes to. There may be none of each; the exit code says so.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

SECONDS, MEGABYTES = 20, 300  # of the processor, and of memory above a good file's
FAULTS = ("traceback", "hang", "memory", "escape", "outside")
WRITTEN = (  # by commands
    "out", "out.safetensors", "out.md", "new", "run", "done", "data", "more", "compared", "home", "temporary",
)  # fmt: skip


@dataclass
class Case:
    """What became of a file."""

    kind: str
    file: str
    damage: str
    reads: str
    number: int
    code: int = 0
    megabytes: float = 0.0
    faults: tuple[str, ...] = ()
    said: str = ""


def cases(number: int, seed: int, only: str = "") -> Iterator[tuple[Any, Case, Random]]:
    """Scenes in turns, as often as their share says, in an order that the seed gives; what is done to a file follows
    from seed and number.

    only: of all these cases those whose kind has this word in it.
    """
    from benchmarks.handed import scenes

    turns = [scene for scene in scenes() for _ in range(scene.share)]
    Random(seed).shuffle(turns)  # so that few cases are of many kinds
    for n in range(number):
        scene, draw = turns[n % len(turns)], Random(f"{seed}/{n}")
        if only not in scene.kind:
            continue
        file, reads = draw.choice(scene.files), draw.choice(scene.reads)
        words = " ".join(reads[:2]) if isinstance(reads, tuple) else type(reads).__name__
        yield (scene, reads), Case(scene.kind, file, "", words, n), draw


def hurt(path: Path, scene: Any, draw: Random) -> str:
    """Damage a file; returns how."""
    from benchmarks import damages

    if scene.special and draw.random() < 0.07:
        return damages.put(path, draw)
    data = path.read_bytes()
    damage = draw.choice(scene.all)
    path.write_bytes(damage(data, draw))
    return str(damage.__name__)


def run(reads: Any, folder: Path, log: Path) -> tuple[int, float, bool]:
    """Exit code (or the signal, negative), peak memory in MB, and whether it hung, of a command in a process."""
    child = os.fork()
    if child == 0:
        _become(reads, folder, log)
    deadline, hung = time.monotonic() + 15 * SECONDS, False
    while True:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            hung = True
        time.sleep(0.005)
    code = os.waitstatus_to_exitcode(status)
    return code, used.ru_maxrss / 1024, hung or code == -signal.SIGXCPU


def _become(reads: Any, folder: Path, log: Path) -> None:
    """The rest of a child's life."""
    from benchmarks.handed import act

    code = 99
    try:
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.chdir(folder)
        home, tempfile.tempdir = str(folder / "home"), str(folder / "temporary")
        os.environ.update(HOME=home, SEMISEG_CACHE=home, TMPDIR=tempfile.tempdir)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(handle, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        code = act(reads)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 98
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
            log.with_name("modules").write_text("\n".join(sys.modules))
        os._exit(code & 127)


def warm(modules: Path) -> None:
    """Import here what a command imported, so that no further process has to."""
    import gc
    import importlib

    for name in modules.read_text().split("\n"):
        if name not in sys.modules and name != "__main__":
            with suppress(Exception):
                importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else a collection in a child copies every page


def look(case: Case, found: tuple[int, float, bool], log: bytes, base: float, strays: list[str]) -> Case:
    """Name the faults of a case."""
    case.code, case.megabytes, hung = found[0], round(found[1] - base, 1), found[2]
    text = log.decode("utf-8", "replace")
    broken = b"Traceback (most recent call last)" in log or b"this is a bug in semiseg" in log
    escapes = any((ord(char) < 32 and char not in "\n\t") or 127 <= ord(char) < 160 for char in text)
    faults = {
        "traceback": (broken or (case.code < 0 and not hung)) and not hung,
        "hang": hung,
        "memory": case.megabytes > MEGABYTES,
        "escape": escapes,
        "outside": bool(strays),
    }
    case.faults = tuple(name for name in FAULTS if faults[name])
    case.said = text[-1500:] if case.faults else text[:300]
    return case


def strays(folder: Path, before: set[str]) -> list[str]:
    """What is in the folders around a case, or in its own beside what the command writes, and was not before."""
    own = {path.name for path in folder.iterdir()} - set(WRITTEN)
    around = {f"../{path.name}" for path in folder.parent.iterdir()} - {"../case", "../good", "../log", "../modules"}
    return sorted(((own | around) - before) | {str(path) for path in Path("/tmp").glob("semiseg-outside*")})


def measure(number: int, seed: int, only: str = "", note: Any = print) -> list[Case]:
    """Every case after the other."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from benchmarks.handed import build, scenes

    found, bases = list[Case](), dict[str, float]()
    with tempfile.TemporaryDirectory(prefix="corrupt-") as name:
        root = Path(name)
        good, folder, log = root / "good", root / "case", root / "log"
        chosen = list(cases(number, seed, only))
        build(folder)
        lacking = [file for scene in scenes() for file in scene.files if not any(folder.glob(file))]
        assert not lacking, f"no good file of {lacking}"
        folder.rename(good)  # what it holds knows the place where a case will be
        for directory in ("home", "temporary"):
            (good / directory).mkdir()
        for (scene, reads), case, draw in chosen:
            key = f"{case.kind} {reads}"
            if key not in bases:
                shutil.copytree(good, folder, symlinks=True)
                code, bases[key], _ = run(reads, folder, log)
                shutil.rmtree(folder)
                assert code == 0, f"the good file, {case.reads}: {log.read_text()}"
                warm(root / "modules")
            shutil.copytree(good, folder, symlinks=True)
            before = {path.name for path in folder.iterdir()}
            case.damage = hurt(next(iter(sorted(folder.glob(case.file)))), scene, draw)
            result = run(reads, folder, log)
            found.append(look(case, result, log.read_bytes()[: 1 << 20], bases[key], strays(folder, before)))
            shutil.rmtree(folder)
            for stray in (*root.glob("outside*"), *Path("/tmp").glob("semiseg-outside*")):
                stray.unlink()
            if case.faults:
                note(f"{case.number}: {case.kind}, {case.file} {case.damage}, {case.reads}: {', '.join(case.faults)}")
    return found


def table(found: list[Case]) -> str:
    """A row for every kind of file."""
    kinds = dict.fromkeys(case.kind for case in found)
    head = ("file", "cases", "refused", "taken", *FAULTS)
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for kind in [*kinds, "all"]:
        some = [case for case in found if kind in (case.kind, "all")]
        counts = Counter(fault for case in some for fault in case.faults)
        taken = sum(case.code == 0 for case in some)
        cells = [kind, len(some), len(some) - taken, taken, *(counts[fault] for fault in FAULTS)]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=2600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="of these the cases whose kind of file has this word in it")
    parser.add_argument("--json", type=Path, help="every case, to this file")
    asked = parser.parse_args()
    found = measure(asked.cases, asked.seed, asked.only)
    print(table(found))
    if asked.json:
        asked.json.write_text(json.dumps([asdict(case) for case in found], indent=1))
    return int(any(case.faults for case in found))


if __name__ == "__main__":
    sys.exit(main())
