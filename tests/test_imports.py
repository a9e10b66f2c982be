"""Imports run one way: cli -> stages -> core.training -> core.methods -> core.ops. Read from the source."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "semiseg_cli"
FILES = sorted((ROOT / PACKAGE).rglob("*.py"))

# "" is the package itself, for its version
EVERYONE = (
    "", "core.commands", "core.errors", "core.escape", "core.files", "core.locks", "core.owner", "core.places",
    "core.types", "core.networks", "core.settings", "core.registry", "core.reading", "core.tensors", "core.web",
    "core.download",
)  # fmt: skip

# What a part of the package may import from it, besides EVERYONE. The longest part that fits a module counts.
ALLOWED = {
    "cli": (
        "cli", "stages", "core.config", "core.runs", "core.finding", "core.stopping",
        # for names and how they are written
        "core.methods", "core.models", "core.partitions", "core.data.again", "core.data.index", "core.data.kinds",
        "core.data.store", "core.data.swapped",
        "core.sources.codes", "core.sources.told",
        "core.inference.options", "core.inference.metrics",
    ),
    "__main__": ("cli",),
    "stages": ("stages", "core"),
    "core.training": (
        "core.training", "core.config", "core.methods", "core.models", "core.data", "core.partitions", "core.views",
        "core.ops", "core.inference", "core.machine",
    ),
    "core.inference": ("core.inference", "core.training.checkpoint", "core.models", "core.data", "core.ops"),
    "core.inference.options": (),
    "core.inference.metrics": (),
    "core.methods": ("core.methods", "core.ops"),
    "core.methods.stpg": ("core.methods", "core.ops"),
    "core.models": ("core.models", "core.ops"),
    "core.views": ("core.views", "core.ops"),
    "core.viz": ("core.viz",),
    "core.report": ("core.report", "core.viz.tiles"),
    "core.data": ("core.data", "core.ops.draws", "core.stopping"),
    "core.sources": ("core.sources", "core.data"),
    "core.partitions": ("core.partitions", "core.data"),
    "core.ops": ("core.ops",),
    "core.runs": ("core.runs", "core.config"),
    "core.finding": ("core.runs",),
    "core.config": ("core.config", "core.methods", "core.models.names"),
    "core.settings": (),
    "core.commands": (),
    "core.errors": (),
    "core.escape": (),
    "core.files": (),
    "core.beside": (),
    "core.machine": (),
    "core.locks": (),
    "core.owner": (),
    "core.places": (),
    "core.reading": (),
    "core.tensors": (),
    "core.web": (),
    "core.download": (),
    "core.registry": (),
    "core.stopping": (),
    "core.spread": (),
    "core.types": ("core.ops.processes",),
    "core.networks": (),
}  # fmt: skip

# Third-party packages that a part may import: these, or for parts not listed all but the command line's.
DEPENDENCIES = {
    "torch", "torchvision", "timm", "huggingface_hub", "numpy", "cv2", "PIL", "scipy", "safetensors", "yaml",
}  # fmt: skip
# extras of pyproject.toml: in stages alone, inside the function that needs them
OPTIONAL = {"sklearn", "tensorboard", "shapely", "onnx", "onnx_ir", "onnxruntime", "onnxscript"}
THIRD_PARTY = {
    "cli": {"typer", "rich"},
    "cli.launch": {"torch", "typer"},  # torchrun's own module, when processes are started
    "__main__": set[str](),
    "core.methods": {"torch", "numpy"},  # numpy for the tables of a paper's own view
    "core.methods.stpg": {"torch", "scipy"},  # the assignment problem
    "core.ops": {"torch", "numpy"},
    "core.types": {"torch", "numpy"},
    "core.data.transfer": {"obstore"},  # a program of its own
    "core.data.photos": {"numpy", "PIL", "cv2", "pillow_heif"},  # the last two inside functions: `load` needs neither
    "core.networks": {"torch"},
    "core.viz": {"numpy", "cv2", "PIL"},
    "core.report": {"PIL", "jinja2"},
    "core.config": set[str](),
    "core.settings": set[str](),
    "core.commands": set[str](),
    "core.errors": set[str](),
    "core.escape": set[str](),
    "core.files": set[str](),
    "core.beside": set[str](),
    "core.machine": set[str](),
    "core.locks": set[str](),
    "core.owner": set[str](),
    "core.places": set[str](),
    "core.reading": set[str](),
    "core.tensors": {"torch"},
    "core.web": set[str](),
    "core.registry": set[str](),
    "core.stopping": set[str](),
    "core.runs": set[str](),
    "core.inference.deploy": {"torch", "numpy"},
}

# Slow to import, so never when a command line starts: not at the top of these, though inside their functions.
HEAVY = {"torch", "torchvision", "numpy", "cv2", "scipy", "PIL", "safetensors", "timm", "huggingface_hub"}
HEAVY_PARTS = ("stages", "core.training", "core.inference", "core.data.index", "core.types", "core.networks")
LIGHT = (
    "cli", "__main__", "core.config", "core.settings", "core.errors", "core.runs", "core.finding",
    "core.inference.options", "core.inference.metrics",
)  # fmt: skip


class Import(NamedTuple):
    target: str
    line: int
    top: bool  # runs when the module is imported


def imports(tree: ast.Module) -> Iterator[Import]:
    """Every import of a file, except those that only type checkers see."""

    def walk(node: ast.AST, top: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, top) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield from (Import(_target(node.module or "", alias.name), node.lineno, top) for alias in node.names)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, top and not inside)

    return walk(tree, True)


def _target(module: str, name: str) -> str:
    """`from a import b` is a.b if that is a module of ours, else a."""
    path = ROOT / Path(*module.split("."), name)
    is_module = module.split(".")[0] == PACKAGE and (path.is_dir() or path.with_suffix(".py").exists())
    return f"{module}.{name}" if is_module else module


def within(module: str, part: str) -> bool:
    return module == part or module.startswith(f"{part}.")


def part_of(module: str, parts: Iterable[str]) -> str | None:
    fitting = [part for part in parts if within(module, part)]
    return max(fitting, key=len) if fitting else None


def ours(target: str) -> str | None:
    """The module within the package, e.g. core.errors; None for somebody else's."""
    return target.removeprefix(PACKAGE).removeprefix(".") if within(target, PACKAGE) else None


def allowed_package(package: str, module: str, top: bool) -> bool:
    part = part_of(module, THIRD_PARTY)
    known = DEPENDENCIES if part is None else THIRD_PARTY[part]
    return package in known or (package in OPTIONAL and within(module, "stages") and not top)


def violations(module: str, source: str) -> list[str]:
    part = part_of(module, ALLOWED)
    if part is None:
        return [f"{module} belongs to no part: give it a line in ALLOWED"] if module not in ("", "core") else []
    found = []
    for target, line, top in imports(ast.parse(source)):
        inner, package = ours(target), target.split(".")[0]
        if inner is not None:
            near = inner in EVERYONE or any(within(inner, allowed) for allowed in ALLOWED[part])
            if not near:
                found.append(f"{module}:{line} imports {target}: {part} may not")
        elif package not in sys.stdlib_module_names and not allowed_package(package, module, top):
            found.append(f"{module}:{line} imports {package}: {part} may not")
        slow = package in HEAVY or (inner is not None and part_of(inner, HEAVY_PARTS) and not part_of(inner, LIGHT))
        if top and slow and part in LIGHT:
            found.append(f"{module}:{line} imports {target} at its top: {part} starts with every command line")
    return found


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_of(path) or "semiseg_cli")
def test_imports_run_one_way(path: Path) -> None:
    assert violations(module_of(path), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        ("core.methods.new", "from semiseg_cli.core import models", "core.methods may not"),
        ("core.methods.new", "import cv2", "core.methods may not"),
        ("core.ops.new", "def f():\n    from semiseg_cli.core.methods.base import Method", "core.ops may not"),
        ("core.data.new", "from semiseg_cli.core.models import build_segmenter", "core.data may not"),
        ("core.training.new", "from semiseg_cli.stages.train import train", "core.training may not"),
        ("stages.new", "from semiseg_cli.cli import console", "stages may not"),
        ("cli.new", "import torch", "cli may not"),
        ("core.config.new", "import torch", "core.config may not"),
        ("cli.new", "from semiseg_cli.stages.train import train", "at its top"),
        ("cli.new", "from semiseg_cli.core.training.loop import fit", "cli may not"),
        ("core.unheard", "import os", "no part"),
        ("core.data.new", "import pandas", "core.data may not"),
        ("stages.new", "def f():\n    import monai", "stages may not"),
        ("stages.new", "import sklearn", "stages may not"),
        ("core.training.new", "import rich", "core.training may not"),
    ],
)
def test_a_violation_is_named(module: str, source: str, said: str) -> None:
    found = violations(module, source)
    assert found
    assert said in found[0]
    assert module in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("cli.new", "def run():\n    from semiseg_cli.stages.train import train"),
        ("cli.new", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("core.methods.new", "import torch\nfrom semiseg_cli.core.ops.losses import ohem"),
        ("stages.new", "import cv2\nfrom semiseg_cli.core.training.loop import fit"),
        ("stages.new", "def f():\n    import sklearn"),
    ],
)
def test_what_is_fine_is_left_alone(module: str, source: str) -> None:
    assert violations(module, source) == []
