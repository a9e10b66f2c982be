"""What the methods say of themselves, read from their source: describing them imports neither torch nor a method."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

from semiseg_cli.core.errors import UsageError, did_you_mean
from semiseg_cli.core.methods import METHODS

NEEDS = {
    "unlabeled": "unlabeled images",
    "second": "a second weak view of the unlabeled images",
    "paired": "the labeled image most like each unlabeled one (semiseg pair)",
}


@dataclass(frozen=True)
class Setting:
    """A `method.*` setting. `allowed`: its type, or its choices joined by |."""

    name: str
    allowed: str
    default: Any
    meaning: str


@dataclass(frozen=True)
class Description:
    """A method. `paper`: the first paragraph of its file, `text` the others. `needs`: what it takes beside labeled
    images in any case, `may_need`: with some of its settings. `changes`: what it changes in a run's configuration.
    """

    name: str
    paper: str
    text: str
    needs: tuple[str, ...]
    may_need: tuple[str, ...]
    settings: tuple[Setting, ...]
    changes: dict[str, Any]


def describe_method(name: str) -> Description:
    """Raises UsageError with a hint for a name that is not in METHODS."""
    if name not in METHODS:
        raise UsageError(f"there is no method '{name}'", fix=did_you_mean(name, METHODS))
    module, attribute = METHODS[name].split(":")
    package, _, file = module.rpartition(".")
    tree = ast.parse((resources.files(package) / f"{file}.py").read_text("utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    method = classes[attribute]
    paper, _, text = (ast.get_docstring(tree) or "").partition("\n\n")
    settings = _assigned(method, "Settings")
    needs, may_need = _needs(method)
    changes = _assigned(method, "defaults")
    return Description(
        name=name,
        paper=" ".join(paper.split()),
        text=text,
        needs=needs,
        may_need=may_need,
        settings=tuple(_settings(classes[settings.id])) if isinstance(settings, ast.Name) else (),
        changes=ast.literal_eval(changes) if changes else {},
    )


def _settings(cls: ast.ClassDef) -> Iterator[Setting]:
    """The fields `name: Doc[type, "meaning"] = default` of a settings class."""
    for node in cls.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            assert isinstance(node.annotation, ast.Subscript), f"{cls.name}.{node.target.id} is no Doc[...]"
            assert isinstance(node.annotation.slice, ast.Tuple)
            kind, meaning = node.annotation.slice.elts
            yield Setting(node.target.id, _allowed(kind), ast.literal_eval(node.value), ast.literal_eval(meaning))


def _allowed(kind: ast.expr) -> str:
    if isinstance(kind, ast.Subscript) and ast.unparse(kind.value) == "Literal":
        choices = kind.slice.elts if isinstance(kind.slice, ast.Tuple) else [kind.slice]
        return " | ".join(str(ast.literal_eval(choice)) for choice in choices)
    return ast.unparse(kind)


def _needs(method: ast.ClassDef) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What `inputs` names in every one of the sets it may return, and what in some only."""
    inputs = [node for node in method.body if isinstance(node, ast.FunctionDef) and node.name == "inputs"]
    if not inputs:
        return ("unlabeled",), ()  # what the base class says
    sets = [ast.literal_eval(node) for node in ast.walk(inputs[0]) if isinstance(node, ast.Set)]
    always = set.intersection(*sets) if sets else set[str]()
    return tuple(sorted(always)), tuple(sorted(set[str]().union(*sets) - always))


def _assigned(cls: ast.ClassDef, name: str) -> ast.expr | None:
    """What a class assigns to one of its attributes."""
    for node in cls.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return node.value
    return None
