"""What the methods say of themselves, read from their source: describing them imports neither torch nor a method."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any, ClassVar, get_origin

from semiseg_cli.core import settings
from semiseg_cli.core.config.coerce import spelled
from semiseg_cli.core.errors import UsageError, did_you_mean
from semiseg_cli.core.methods import METHODS
from semiseg_cli.core.methods.plugins import PLUGINS

_HERE = "semiseg_cli.core.methods."
NEEDS = {
    "unlabeled": "unlabeled images",
    "second": "a second weak view of the unlabeled images",
    "paired": "the labeled image most like each unlabeled one (semiseg pair)",
}


@dataclass(frozen=True)
class Setting:
    """A setting. `allowed`: its type with its range, or its choices joined by |."""

    name: str
    allowed: str
    default: Any
    meaning: str

    @classmethod
    def of(cls, name: str, hint: Any, default: Any) -> Setting:
        return cls(name, spelled(hint), default, str(hint.__metadata__[-1]))


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
    """A method or a plug-in. Raises UsageError with a hint for a name that is neither in METHODS nor in PLUGINS."""
    if name not in METHODS | PLUGINS:
        raise UsageError(f"there is no method '{name}'", fix=did_you_mean(name, METHODS | PLUGINS))
    module, attribute = (METHODS | PLUGINS)[name].split(":")
    tree, method = _source(module), _lineage(module, attribute)
    paper, _, text = (ast.get_docstring(tree) or "").partition("\n\n")
    own = _assigned(method, "Settings")
    needs, may_need = _needs(method)
    changes = _assigned(method, "defaults")
    return Description(
        name=name,
        paper=" ".join(paper.split()),
        text=text,
        needs=needs,
        may_need=may_need,
        settings=tuple(_settings(_lineage(module, own.id))) if isinstance(own, ast.Name) else (),
        changes=ast.literal_eval(changes) if changes else {},
    )


def _source(module: str) -> ast.Module:
    package, _, file = module.rpartition(".")
    return ast.parse((resources.files(package) / f"{file}.py").read_text("utf-8"))


def _lineage(module: str, name: str) -> list[ast.ClassDef]:
    """A class and those it is built on, itself first, as far as they are methods, plug-ins or their settings."""
    tree = _source(module)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            named = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
            bases = [base.id for base in named if isinstance(base, ast.Name)]
            return [node, *(each for base in bases for each in _lineage(module, base))]
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            return _lineage(node.module, name) if node.module and node.module.startswith(_HERE) else []
    return []


def _settings(cls: list[ast.ClassDef]) -> Iterator[Setting]:
    """The fields `name: Doc[type, "meaning"] = default` of a settings class; one that stands again keeps its place."""
    found: dict[str, Setting] = {}
    for node in (node for each in reversed(cls) for node in each.body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            hint = _type(node.annotation)
            if get_origin(hint) is not ClassVar:
                found[node.target.id] = Setting.of(node.target.id, hint, _value(node.value))
    yield from found.values()


def _value(node: ast.expr) -> Any:
    """A literal, or a quotient of two."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return _value(node.left) / _value(node.right)
    return ast.literal_eval(node)


def _type(node: ast.expr) -> Any:
    """The type that an annotation means, which is written in the words of core/settings.py."""
    return eval(compile(ast.Expression(node), "annotation", "eval"), dict(vars(settings)))


def _needs(method: list[ast.ClassDef]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What `inputs` names of NEEDS in every one of the sets it may return, and what in some only."""
    body = (node for each in method for node in each.body)
    inputs = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == "inputs"]
    if not inputs:
        return (), ()  # a plug-in
    sets = [ast.literal_eval(node) & NEEDS.keys() for node in ast.walk(inputs[0]) if isinstance(node, ast.Set)]
    always = set.intersection(*sets) if sets else set[str]()
    return tuple(sorted(always)), tuple(sorted(set[str]().union(*sets) - always))


def _assigned(cls: list[ast.ClassDef], name: str) -> ast.expr | None:
    """What a class, or the nearest one it is built on, assigns to one of its attributes."""
    for node in (node for each in cls for node in each.body):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return node.value
    return None
