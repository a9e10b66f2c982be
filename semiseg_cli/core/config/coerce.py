"""From what was typed, or stands in a TOML file, to a value of a setting's type; and words for what is allowed."""

from __future__ import annotations

import math
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from semiseg_cli.core.settings import limits

TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def coerce(value: Any, annotation: Any) -> Any:
    """`value` (text from the command line, or what tomllib gives) as a value of `annotation`.

    Knows int, float, bool, str, Literal, tuple[...], `X | None` and Annotated of these. Text may be a fraction
    ("2/3") for a float and "0.5,2" for a tuple. Raises ValueError if it does not fit; `describe` tells what would.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return coerce(value, arguments[0])
    if origin is Literal:
        return _choice(value, arguments)
    if origin is tuple:
        return _tuple(value, arguments)
    if origin in (Union, types.UnionType):
        return _optional(value, arguments)
    return {bool: _bool, int: _int, float: _float, str: _str}[annotation](value)


def describe(annotation: Any) -> str:
    """What is allowed, in words that complete "it must be ..."."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe(arguments[0])
    if origin is Literal:
        return " or ".join(str(choice) for choice in arguments)
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"{describe(arguments[0])}, any number of them joined by commas"
    if origin is tuple:
        return f"{len(arguments)} values joined by commas, each {describe(arguments[0])}"
    if origin in (Union, types.UnionType):
        return " or ".join("none" if part is type(None) else describe(part) for part in arguments)
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[annotation]


def spelled(annotation: Any) -> str:
    """A type as a table shows it: `float in [0, 1]`, `int, 1 or more`, `block | grid`."""
    range_ = limits(annotation)
    return f"{_named(annotation)}{' ' if range_.startswith('in') else ', '}{range_}" if range_ else _named(annotation)


def _named(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _named(arguments[0])
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin is tuple:
        return f"tuple[{', '.join(map(_named, arguments))}]"
    return "..." if annotation is Ellipsis else getattr(annotation, "__name__", str(annotation))


def _choice(value: Any, choices: tuple[Any, ...]) -> Any:
    for choice in choices:
        if str(choice) == str(value):
            return choice
    raise ValueError(value)


def _tuple(value: Any, parts: tuple[Any, ...]) -> tuple[Any, ...]:
    if isinstance(value, str):
        inner = value.strip().strip("()[]").strip().removesuffix(",")
        value = [item.strip() for item in inner.split(",")] if inner else []
    if not isinstance(value, list | tuple):
        raise ValueError(value)
    if parts[-1] is Ellipsis:
        parts = (parts[0],) * len(value)
    return tuple(coerce(item, part) for item, part in zip(value, parts, strict=True))


def _optional(value: Any, parts: tuple[Any, ...]) -> Any:
    if type(None) in parts and (value is None or value == "none"):
        return None
    for part in parts:
        if part is not type(None):
            try:
                return coerce(value, part)
            except ValueError:
                continue
    raise ValueError(value)


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = value.lower() if isinstance(value, str) else ""
    if word not in TRUE + FALSE:
        raise ValueError(value)
    return word in TRUE


def _int(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lstrip("+-").isdecimal():
        return int(value)
    number = _float(value)  # 1e4
    if not number.is_integer():
        raise ValueError(value)
    return int(number)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(value)
    try:
        top, _, bottom = value.partition("/") if isinstance(value, str) else (value, "", "")
        number = float(top) / float(bottom or 1)
    except (ZeroDivisionError, OverflowError) as error:
        raise ValueError(value) from error
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _str(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(value)
    return str(value)
