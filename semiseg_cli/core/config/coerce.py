"""From what was typed, or stands in a TOML file, to a value of a setting's type; and words for what is allowed.

A type is bool, int, float, str, a Literal, a tuple of one type, or Annotated of these with a range and words.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, get_args, get_origin

from semiseg_cli.core.settings import ranges

BOOLS = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)


def coerce(value: Any, annotation: Any) -> Any:
    """`value` (text from the command line, or what tomllib gives) as a value of `annotation`.

    Text may be a fraction ("2/3") for a float, "1e4" for an int and "0.5,2" for a tuple. Raises ValueError if it does
    not fit; `describe` tells what would. Ranges are checked when the settings are made.
    """
    kind, parts = get_origin(annotation) or annotation, get_args(annotation)
    if kind is Annotated:
        return coerce(value, parts[0])
    if kind is Literal:
        return _named(value, {str(choice): choice for choice in parts})
    if kind is tuple:
        items = _items(value)
        each = parts[:1] * len(items) if parts[-1] is Ellipsis else parts
        return tuple(coerce(item, part) for item, part in zip(items, each, strict=True))
    if kind is bool:
        return _named(str(value).lower(), BOOLS)
    return {int: _int, float: _float, str: _str}[kind](value)


def describe(annotation: Any) -> str:
    """What is allowed, in words that complete "it must be ..."."""
    kind, parts = get_origin(annotation) or annotation, get_args(annotation)
    if kind is Annotated:
        words = [str(each) for each in ranges(annotation)]
        return describe(parts[0]) + "".join(f" {each}" if each.startswith("in ") else f", {each}" for each in words)
    if kind is Literal:
        return " or ".join(map(str, parts))
    if kind is tuple and parts[-1] is Ellipsis:
        return f"{describe(parts[0])}: any number of them joined by commas"
    if kind is tuple:
        return f"{len(parts)} values joined by commas, each {describe(parts[0])}"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]


def spelled(annotation: Any) -> str:
    """A type as a table shows it: `float in [0, 1]`, `tuple[int >= 1, ...]`, `block | grid`."""
    kind, parts = get_origin(annotation) or annotation, get_args(annotation)
    if kind is Annotated:
        return " ".join([spelled(parts[0]), *(each.signs for each in ranges(annotation))])
    if kind is Literal:
        return " | ".join(map(str, parts))
    if kind is tuple:
        return f"tuple[{', '.join('...' if part is Ellipsis else spelled(part) for part in parts)}]"
    return str(kind.__name__)


def _named(value: Any, names: dict[str, Any]) -> Any:
    if str(value) not in names:
        raise ValueError(value)
    return names[str(value)]


def _items(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    if not isinstance(value, str):
        raise ValueError(value)
    inner = value.strip().strip("()[]").strip().removesuffix(",")
    return [item.strip() for item in inner.split(",")] if inner else []


def _int(value: Any) -> int:
    number = _float(value)  # 1e4
    if not number.is_integer():
        raise ValueError(value)
    return int(value) if str(value).strip().lstrip("+-").isdecimal() else int(number)  # all digits of a long one


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(value)
    top, _, bottom = str(value).partition("/")
    number = float(top) / (float(bottom or 1) or math.nan)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _str(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(value)
    return str(value)
