"""What a user can hand in, one good file of each kind, and the command that reads it."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from benchmarks import annotated, damages, kept
from benchmarks.damages import Damage
from benchmarks.scene import RUN, Call, Scene
from semiseg_cli.cli import main
from semiseg_cli.core import models
from semiseg_cli.core.config.layers import resolve
from semiseg_cli.core.sources.archives import unpack
from semiseg_cli.core.sources.sbd import read_mat
from semiseg_cli.stages.prepare import prepare_shapes
from semiseg_cli.stages.train import train

OWN = ("prepare", "folder", "--labeled", "own/images", "--masks", "own/masks", "--name", "own")
ARCHIVES = ("tar", "tar.gz", "tar.xz", "zip")
PHOTOS = ("jpg", "png", "tif", "webp", "bmp", "gif", "pgm")


def scenes() -> list[Scene]:
    best, state, data = "run/best.safetensors", "run/resume/state.safetensors", "data/shapes"
    predict: tuple[str, ...] = ("predict", best, "photos/a.png", "-o", "out", *RUN)
    resume: tuple[str, ...] = ("train", "--resume", "run", "--root", "data", *RUN)
    learn: tuple[str, ...] = ("train", "-d", "shapes", "-b", "tiny", "-m", "supervised", "-o", "new")
    learn += ("--weights", "none")
    for setting in ("steps=1", "batch=2", "crop=33", "workers=0"):
        learn += ("-s", f"train.{setting}")
    d, evaluate = damages, ("eval", "run", "--save", "out", *RUN)
    return [
        Scene(
            "checkpoint", [best], [predict, predict, ("export", best, "-o", "out.safetensors"), evaluate],
            [d.as_tensors],
        ),
        Scene("resume state", [state], [resume], [d.as_tensors]),
        Scene("weights", ["weights.safetensors"], [_weights], [d.as_tensors]),
        Scene("config.toml of a run", ["run/config.toml"], [resume, ("runs", "--runs-root", ".")], [d.as_toml]),
        Scene("metrics.jsonl", ["run/metrics.jsonl"], [resume, ("runs", "--runs-root", ".")], [d.as_rows, d.lines]),
        Scene(
            "JSON of a run", [f"done/{name}.json" for name in ("partition", "environment", "result")],
            [("runs", "--runs-root", "."), ("train", "--resume", "done"), ("eval", "done", *RUN)], [d.as_json],
        ),
        Scene("dataset.toml", [f"{data}/dataset.toml"], [("check", "shapes"), evaluate, (*learn, *RUN)], [d.as_toml]),
        Scene("index.tsv", [f"{data}/index.tsv"], [("check", "shapes"), evaluate, (*learn, *RUN)], [d.lines], share=2),
        Scene(
            "index.safetensors", [f"{data}/index.safetensors"],
            [("check", "shapes"), ("split", "shapes", "--import", "lists"), evaluate], [d.as_tensors],
        ),
        Scene(
            "image of a dataset", [f"{data}/images/val_0000.png", f"{data}/masks/val_0000.png"],
            [("check", "shapes"), evaluate], [d.sized],
        ),
        Scene("settings", ["settings.toml"], [("config", "show", "-c", "settings.toml")], [d.as_toml]),
        Scene(
            "list", ["lists/labeled.txt", "lists/unlabeled.txt"],
            [("split", "shapes", "--import", "lists"), (*learn, "--labeled", "lists/labeled.txt", *RUN)], [d.lines],
        ),
        *(
            Scene(f"classes, {end}", [f"classes.{end}"], [(*OWN, "--classes", f"classes.{end}")], [damage])
            for end, damage in (("json", d.as_json), ("csv", d.lines), ("yaml", d.lines), ("txt", d.lines))
        ),
        *(
            Scene(f"photo, {end}", [file], [("predict", best, file, "-o", "out", *RUN)], [d.sized])
            for end, file in ((end, f"photos/p.{end}") for end in PHOTOS)
        ),
        Scene(
            "mask", ["own/masks/a.png", "own/masks/b.png"], [(*OWN, "--classes", "classes.txt")], [d.sized], share=2
        ),
        *(Scene(f"archive, {end}", [f"own.{end}"], [_Unpack(end)], [_archive(end)]) for end in ARCHIVES),
        Scene("SBD label", ["label.mat"], [_mat]),
        *annotated.scenes(),
        *kept.scenes(),
    ]  # fmt: skip


def build(root: Path) -> None:
    """One good file of each kind below `root`."""
    prepare_shapes(root / "data", labeled=3, unlabeled=3, val=2, size=48)
    quick = {
        "method.name": "supervised", "data.name": "shapes", "model.backbone": "tiny", "model.weights": "none",
        "train.steps": 2, "train.batch": 2, "train.crop": 33, "train.lr": 0.01, "train.save_every": 2,
        "train.eval_every": 2, "train.log_every": 1, "train.workers": 0, "eval.window": "none",
    }  # fmt: skip
    train(
        resolve([("a", quick)]), data_root=root / "data", runs_root=root / "runs", out=root / "done", device="cpu"
    )
    shutil.copytree(root / "done", root / "run")
    (root / "run" / "result.json").unlink()
    config = root / "run" / "config.toml"
    config.write_text(config.read_text().replace("steps = 2 ", "steps = 3 "))
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8))
    for folder in ("photos", "own/images", "own/masks", "lists"):
        (root / folder).mkdir(parents=True)
    photo.save(root / "photos" / "a.png")
    for end in PHOTOS:
        photo.convert("L" if end == "pgm" else "RGB").save(root / "photos" / f"p.{end}")
    for name in "abc":
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)).save(root / "own" / "images" / f"{name}.png")
        Image.fromarray(rng.integers(0, 3, (48, 64), np.uint8)).save(root / "own" / "masks" / f"{name}.png")
    names = ["sky", "tree", "road"]
    (root / "classes.txt").write_text("\n".join(names))
    (root / "classes.csv").write_text("name,value\n" + "".join(f"{name},{k}\n" for k, name in enumerate(names)))
    (root / "classes.json").write_text(json.dumps({"names": names, "palette": [[0, 0, 9], [0, 9, 0], [9, 0, 0]]}))
    (root / "classes.yaml").write_text("names:\n" + "".join(f"  {k}: {name}\n" for k, name in enumerate(names)))
    settings = '[train]\nsteps = 7\nlr = 0.1\nscale = [0.5, 2.0]\n[model]\nbackbone = "tiny"\n'
    (root / "settings.toml").write_text(settings)
    (root / "lists" / "labeled.txt").write_text("train_0000\ntrain_0001\n")
    (root / "lists" / "unlabeled.txt").write_text("train_0003\ntrain_0004\n")
    shutil.copy(root / "run" / "best.safetensors", root / "weights.safetensors")
    savemat(root / "label.mat", {"GTcls": np.array([[(np.eye(30, dtype=np.uint8),)]], [("Segmentation", object)])})
    files = {f"images/{name}.png": (root / "own" / "images" / f"{name}.png").read_bytes() for name in "abc"}
    for end in ARCHIVES:
        (root / f"own.{end}").write_bytes(packed(end, files))
    annotated.build(root)
    kept.build(root)


def packed(end: str, files: dict[str, bytes], **odd: Any) -> bytes:
    """An archive. odd: attributes of each tar member."""
    out = io.BytesIO()
    if end == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return out.getvalue()
    with tarfile.open(fileobj=out, mode=f"w:{end[4:]}") as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            for key, value in odd.items():
                setattr(entry, key, value)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def _archive(end: str) -> Damage:
    """A whole archive that does harm: names that lead out, links, and much in little."""

    def harm(data: bytes, draw: Any) -> bytes:
        names = ["../outside", "/tmp/semiseg-outside", "..\\outside", "a/../../outside", "C:/outside", "\x1b[31m.png"]
        names.append("x" * 300 + ".png")
        kind = draw.randrange(4 if end != "zip" else 3)
        if kind == 0:
            return packed(end, {draw.choice(names): b"x", "images/a.png": b"y"})
        if kind == 1:
            return packed(end, {"images/a.png": bytes(draw.choice([10, 100]) << 20)})
        if kind == 2:
            return packed(end, {f"images/{k}.png": b"" for k in range(draw.choice([0, 20_000]))})
        return packed(end, {"images/a.png": b""}, type=draw.choice([b"2", b"1", b"3", b"6"]), linkname="../../outside")

    return harm


@dataclass(frozen=True)
class _Unpack:
    end: str

    def __call__(self) -> object:
        return unpack(Path(f"own.{self.end}"), Path("out"), lambda name: True)


def _mat() -> object:
    return read_mat(Path("label.mat"))


def _weights() -> object:
    encoder = models.build_encoder("tiny")
    return models.load_encoder(encoder, "tiny", "weights.safetensors")


def act(reads: tuple[str, ...] | Call) -> int:
    """Do it, as the command line does; the exit code."""
    if isinstance(reads, tuple):
        return main(list(reads))
    from semiseg_cli.cli import failure

    try:
        reads()
    except Exception as error:
        return failure.report(error)
    return 0
