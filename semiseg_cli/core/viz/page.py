"""One HTML page with everything in it: the sheets embedded, no script, readable in light and dark."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from semiseg_cli.core.viz.legend import Legend, names
from semiseg_cli.core.viz.sheets import ROWS, Gallery

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1240px; margin: 2rem auto; padding: 0 1rem;
  overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: 0; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 0; }
p { margin: .3rem 0 1rem; opacity: .8; }
img { max-width: 100%; height: auto; border-radius: 6px; border: 1px solid #8886; }
.colours { list-style: none; padding: 0; columns: 11rem; column-gap: 1.2rem; }
.colours li { break-inside: avoid; display: flex; align-items: baseline; }
.colours span { flex: none; width: 1em; height: 1em; border: 1px solid #888; margin-right: .4em; align-self: baseline;
  position: relative; top: .12em; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; }
figure { margin: 1.2rem 0; }
figcaption, summary { font-size: .9rem; opacity: .85; }
"""
Part = tuple[Gallery, Sequence[bytes]]  # with its sheets as PNG files


def page(parts: Sequence[Part], title: str = "") -> str:
    """The page of galleries, one below the other; title: of all, where they are several.

    The colours of the classes stand above the first of those that have the same.
    """
    if len(parts) == 1:
        title, body = parts[0][0].title, _part(*parts[0], "h1", "", _key(parts[0][0].legend))
    else:
        links = "".join(f'<li><a href="#part-{i}">{_text(each.title)}</a></li>' for i, (each, _) in enumerate(parts))
        body = f'<h1>{_text(title)}</h1>\n<nav aria-label="Pictures"><ul>{links}</ul></nav>\n'
        keys = [_key(gallery.legend) for gallery, _ in parts]
        told = [key if key not in keys[:i] else "" for i, key in enumerate(keys)]
        body += "\n".join(_part(*part, "h2", f"part-{i}", told[i]) for i, part in enumerate(parts))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{_text(title)}</title>\n<style>{STYLE}</style>\n'
        f"</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _key(legend: Legend) -> str:
    keys = "".join(
        f'<li><span style="background: rgb({r}, {g}, {b})"></span>{_text(_named(name, drawn))}</li>'
        for name, drawn, (r, g, b) in zip(legend.classes, names(legend), legend.colours.tolist(), strict=True)
    )
    return f'<ul class="colours" aria-label="Colours of the classes">{keys}</ul>\n'


def _part(gallery: Gallery, sheets: Sequence[bytes], heading: str, place: str, key: str) -> str:
    title = _text(gallery.title)
    figures = "\n".join(
        f'<figure><img alt="{title}, sheet {number} of {len(sheets)}: {_text(", ".join(gallery.columns))}" '
        f'src="data:image/png;base64,{base64.b64encode(sheet).decode()}">'
        f"<figcaption>{_captions(gallery, number)}</figcaption></figure>"
        for number, sheet in enumerate(sheets, start=1)
    )
    named = f' id="{place}"' if place else ""
    return (
        f"<section{named}>\n<{heading}>{title}</{heading}>\n<p>{_text(gallery.subtitle)}</p>\n"
        f"{key}{figures}\n</section>"
    )


def _captions(gallery: Gallery, number: int) -> str:
    """What the rows of a sheet are, in words."""
    rows = gallery.rows[(number - 1) * ROWS : number * ROWS]
    lines = "".join(f"<li>{_text(row.caption)}</li>" for row in rows)
    return f"<details><summary>The rows in words</summary><ol>{lines}</ol></details>"


def _named(name: str, drawn: str) -> str:
    """A name, with how the sheets have it where they cannot draw it."""
    return name if name == drawn else f"{drawn}: {name}"


def _text(text: str) -> str:
    return escape(text.encode("utf-8", "backslashreplace").decode("utf-8"))  # file names that are not UTF-8
