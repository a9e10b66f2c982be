"""Text of others (names of files and classes, metadata) where it is shown: on terminals, in JSON, in Markdown.

A name may hold whatever a file system or a checkpoint takes: escape sequences that retitle or rewrite a terminal, signs
that turn the direction of writing, markup. All of it is shown as it is written, and does nothing.
"""

from __future__ import annotations

import re
from html import escape

# C0 without tab and line feed, DEL, C1, what turns the direction of writing, and halves of characters
ACTING = "\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
MARKDOWN = re.compile(r"([\\`*\[\]|~]|(?<![^\W_])_|_(?![^\W_]))")  # `_` within words means nothing


def printable(text: str) -> str:
    r"""Text in which control characters are seen: `\x1b`, `\u202e`. Lines stay lines."""
    return re.sub(f"[{ACTING}]", lambda found: _code(found[0]), text)


def one_line(text: str) -> str:
    """The same where a line ends what it stands in, such as a comment."""
    return printable(text).replace("\n", "\\n")


def printable_json(text: str) -> str:
    """JSON that reads back the same: JSON itself escapes no more than what is below the space."""
    return re.sub(f"[{ACTING}]", lambda found: f"\\u{ord(found[0]):04x}", text)


def markdown(text: str) -> str:
    """Text as words of Markdown, in a line: no HTML, link, code, emphasis or cell of a table."""
    words = " ".join(one_line(text.replace("\n", " ")).split())
    return MARKDOWN.sub(r"\\\1", escape(words, quote=False))


def code(text: str) -> str:
    """Text as code in a line of Markdown."""
    ticks = "`" * (_most_ticks(text) + 1)
    space = " " if text[:1] == "`" or text[-1:] == "`" else ""
    return f"{ticks}{space}{one_line(text)}{space}{ticks}"


def fenced(text: str, language: str = "") -> str:
    """Text as a block of code of Markdown."""
    fence = "`" * max(_most_ticks(text) + 1, 3)
    return f"{fence}{language}\n{printable(text)}\n{fence}"


def _most_ticks(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _code(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
