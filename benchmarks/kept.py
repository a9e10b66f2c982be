"""Files that semiseg keeps for itself, in runs, datasets and caches, and reads again: one good file of each kind."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path

from benchmarks import damages as d
from benchmarks.scene import RUN, Scene
from semiseg_cli.cli import main
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.data.lines import record_line
from semiseg_cli.core.owner import NAME
from semiseg_cli.core.sources.journal import UNFINISHED, Journal

KEY = {"name": "begun", "of": ["train", "val"]}  # of the dataset that was begun


def scenes() -> list[Scene]:
    update = ("prepare", "folder", "--name", "mine", "--update", "--root", "more")
    again = ("prepare", "folder", "--labeled", "own/images", "--masks", "own/masks", "--root", "more", "--name", "mine")
    tiny = ("--encoder", "tiny", "--weights", "none", *RUN)
    pick, pair = ("pick", "shapes", "-n", "2", "-o", "new", *tiny), ("pair", "shapes", *tiny)
    guided: tuple[str, ...] = ("train", "-d", "shapes", "-b", "tiny", "-m", "guidedmix", "-o", "new")
    guided += ("--weights", "none")
    for setting in ("steps=1", "batch=2", "crop=33", "workers=0"):
        guided += ("-s", f"train.{setting}")
    return [
        Scene(
            "log and evaluation, reported", ["done/evaluation.json", "done/environment.json", "done/partition.json"],
            [("report", "done", *RUN)], [d.as_json], share=2,
        ),
        Scene("result, reported", ["done/result.json"], [("report", "done", *RUN)], [d.as_json]),
        Scene("metrics, reported", ["done/metrics.jsonl"], [("report", "done", *RUN)], [d.as_rows, d.lines]),
        Scene("settings, reported", ["done/config.toml"], [("report", "done", *RUN)], [d.as_toml]),
        Scene(
            "comparison", ["compared/compare.json", "compared/one/result.json", "compared/one/evaluation.json"],
            [("report", "compared")], [d.as_json], share=2,
        ),
        Scene("owner of a run", [f"run/{NAME}"], [("train", "--resume", "run", "--root", "data", *RUN)], [d.as_json]),
        Scene(
            "owner of a dataset", [f"more/.own{NAME}"], [(*again[:-1], "own", "--classes", "classes.txt")],
            [d.as_json],
        ),
        Scene(
            "dataset, prepared again", ["more/mine/dataset.toml"], [update, (*again, "--classes", "classes.txt")],
            [d.as_toml], share=2,
        ),
        Scene(
            "dataset, updated", [f"more/mine/{name}" for name in ("index.tsv", "sources.tsv", "classes.txt")],
            [update], [d.lines],
        ),
        Scene("unfinished dataset", [f"more/begun/{UNFINISHED}"], [_go_on], [d.lines]),
        Scene("features", ["data/shapes/pairs/features-*.f16"], [pick, pair]),
        Scene("marks of features", ["data/shapes/pairs/features-*.done"], [pick, pair]),
        Scene(
            "record of features, of before", ["before/shapes/pairs/features-*.json"], [(*pair, "--root", "before")],
            [d.as_json],
        ),
        Scene("pairs", ["data/shapes/pairs/*.safetensors"], [guided], [d.as_tensors]),
        Scene("list, picked from", ["lists/labeled.txt"], [(*pick, "-l", "lists/labeled.txt")], [d.lines]),
    ]  # fmt: skip


def build(root: Path) -> None:
    """One good file of each kind below `root`, where handed.py's are."""
    (root / "more").mkdir()
    names = ("--root", "more", "--name", "mine", "--classes", "classes.txt")
    _do(root, "prepare", "folder", "--labeled", "own/images", "--masks", "own/masks", *names)
    _do(root, "pair", "shapes", "--encoder", "tiny", "--weights", "none", *RUN)
    shutil.copytree(root / "data", root / "before")
    (marks,) = (root / "before" / "shapes" / "pairs").glob("features-*.done")
    count, width = len(marks.read_bytes()), marks.with_suffix(".f16").stat().st_size // 2
    marks.with_suffix(".json").write_text(json.dumps({"done": count, "count": count, "width": width // count}))
    marks.unlink()
    dead = {"pid": 2**22 + 1, "host": socket.gethostname(), "space": os.readlink("/proc/self/ns/pid"), "since": "then"}
    for lock in (root / "run" / NAME, root / "more" / f".own{NAME}"):
        lock.write_text(json.dumps(dead))
    for name in ("one", "two"):
        shutil.copytree(root / "done", root / "compared" / name)
    rows = [{"labeled": "all", "method": "supervised", "backbone": "tiny", "runs": 2, "asked": 2}]
    kept = {"rows": rows, "failed": {"compared/three": "error: no"}, "runs": ["one", "two"]}
    (root / "compared" / "compare.json").write_text(json.dumps(kept))
    shapes = load_dataset(root / "data", "shapes")
    with Journal(root / "more" / "begun", KEY) as journal:
        for record in shapes.labeled:
            os.write(journal._file, f"{record_line('train', record, journal.folder)}\n".encode())


def _do(root: Path, *words: str) -> None:
    """A command in `root`, in a process of its own: what threads it begins here would be lacking in forked ones."""
    child = os.fork()
    if child == 0:
        os.chdir(root)
        os._exit(main([*words]))
    assert os.waitpid(child, 0)[1] == 0, words


def _go_on() -> object:
    with Journal(Path("more/begun"), KEY) as journal:
        return journal.done
