"""A command as Typer has it, but for two things: what is given and no option would take is refused (a second value of
an option of one, words after it, or an empty word), and paragraphs of its help are as wide as the terminal."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Sequence
from copy import copy
from typing import Any

from typer.core import TyperCommand, TyperOption

from semiseg_cli.core.errors import UsageError


class Command(TyperCommand):
    """A command that loses no word: one that Typer would pass over or explain without a remedy is refused."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.help:  # Typer breaks all but the first paragraph where the docstring does
            self.help = re.sub(r"(?<!\n)\n(?=\S)", " ", inspect.cleandoc(self.help))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:  # which completion does
            given, extra = self._given(ctx, args)
            for option, values in given:
                if len(set(values)) > 1 and not option.multiple:
                    raise _twice(option.opts[0], values)
            if any("" in values for _, values in given) or "" in args:
                raise _empty(next((each.opts[0] for each, values in given if "" in values), ctx.command_path))
            if extra and not ctx.allow_extra_args:
                raise _extra(ctx.command_path, args, extra, given)
        return super().parse_args(ctx, args)

    def _given(self, ctx: Any, args: Sequence[str]) -> tuple[list[tuple[TyperOption, list[str]]], list[str]]:
        """The options that take values, with all values that each is given; and the words that are left over."""
        parser = type(self.make_parser(ctx))(ctx)
        options = list[TyperOption]()
        for param in self.get_params(ctx):
            every = copy(param)
            valued = isinstance(param, TyperOption) and param.nargs == 1 and not (param.is_flag or param.count)
            if valued and isinstance(param, TyperOption) and isinstance(every, TyperOption):
                every.multiple = True
                options.append(param)
            every.add_to_parser(parser, ctx)
        values, extra, _ = parser.parse_args(args=list(args))
        return [(each, values[each.name]) for each in options if each.name in values], extra


def _twice(option: str, values: Sequence[str]) -> UsageError:
    different = list(dict.fromkeys(values))
    return UsageError(
        f"{option} is given {len(values)} times: {' and '.join(different)}",
        why="it takes one value, and the others would be lost",
        fix=f"keep one: {', or '.join(f'{option} {shlex.quote(value)}' for value in different)}",
    )


def _empty(where: str) -> UsageError:
    """Of a path it would be the working directory, which nobody named."""
    why = "a variable of the shell that is not set leaves one"
    return UsageError(f"{where} is given an empty word", why=why, fix="name what is meant; . is the folder you are in")


def _extra(
    name: str, args: Sequence[str], extra: Sequence[str], given: Sequence[tuple[TyperOption, Sequence[str]]]
) -> UsageError:
    """The error of words that belong to nothing: most often they follow the value of an option."""
    words, place = " ".join(extra), max(list(args).index(extra[0]), 2)
    before = args[place - 2 : place]
    for option, values in given:
        if before[0] in (*option.opts, *option.secondary_opts) and before[1] in values:
            one = f"{before[0]} {shlex.quote(f'{before[1]} {words}')} if this is one name with spaces"
            each = " ".join(f"{before[0]} {shlex.quote(word)}" for word in (before[1], *extra))
            other = f"{each} for several" if option.multiple else f"{before[0]} {shlex.quote(before[1])} alone"
            what = f"{before[0]} takes one value, and {before[1]} is followed by {words}"
            return UsageError(what, fix=f"{one}; else {other}")
    return UsageError(f"{name} does not understand: {words}", why="it takes no more words", fix=f"{name} --help")
