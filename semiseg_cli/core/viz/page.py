"""One HTML page with everything in it: the sheets embedded, no script, readable in light and dark."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from semiseg_cli.core.viz.sheets import Gallery

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1240px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; }
p { margin: .3rem 0 1rem; opacity: .8; }
img { max-width: 100%; height: auto; border-radius: 6px; border: 1px solid #8886; }
ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; }
li span { display: inline-block; width: 1em; height: 1em; border: 1px solid #888; margin-right: .4em;
  vertical-align: -.12em; }
figure { margin: 1.2rem 0; }
"""


def page(gallery: Gallery, sheets: Sequence[bytes]) -> str:
    """The page of a gallery; `sheets` are its sheets as PNG files."""
    title = escape(gallery.title)
    legend = gallery.legend
    keys = "".join(
        f'<li><span style="background: rgb({r}, {g}, {b})"></span>{escape(name)}</li>'
        for name, (r, g, b) in zip(legend.classes, legend.colours.tolist(), strict=True)
    )
    figures = "\n".join(
        f'<figure><img alt="{title}, sheet {number} of {len(sheets)}: {escape(", ".join(gallery.columns))}" '
        f'src="data:image/png;base64,{base64.b64encode(sheet).decode()}"></figure>'
        for number, sheet in enumerate(sheets, start=1)
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{title}</title>\n<style>{STYLE}</style>\n'
        f"</head>\n<body>\n<h1>{title}</h1>\n<p>{escape(gallery.subtitle)}</p>\n<ul>{keys}</ul>\n{figures}\n</body>\n</html>\n"
    )
