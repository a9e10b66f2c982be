"""What runs come to side by side: rows of values, and these as titles and lines for terminal, Markdown and report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from semiseg_cli.core.spread import spread
from semiseg_cli.stages.study import Cell, result_of

BASELINE = "supervised"


def grouped(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """A row per group of cells: mean and deviation over its finished runs, and what it gains on the baseline.

    The baseline is supervised training where it is among them, else the first method; the same encoder's where it has
    one. A gain is of pairs: runs on the same labels of the same dataset.
    """
    done = {cell: found for cell in cells if (found := result_of(cell.run)) and found.get("last")}
    titles = [cell.title for cell in cells]
    first = BASELINE if BASELINE in titles else titles[0]
    groups = {cell.group: [other for other in cells if other.group == cell.group] for cell in cells}
    return [_row(members, done, first) for members in groups.values()]


def _row(group: Sequence[Cell], done: dict[Cell, Any], first: str) -> dict[str, Any]:
    cells, (labeled, title, backbone) = [cell for cell in group if cell in done], group[0].group
    row: dict[str, Any] = {"labeled": labeled, "method": title, "backbone": backbone}
    row |= {"runs": len(cells), "asked": len(group)}
    if not cells:
        return row
    for key in ("last", "best"):
        row[key] = asdict(spread([done[cell][key]["miou"] for cell in cells]))
    if (by := {done[cell].get("best_by", "miou") for cell in cells}) != {"miou"}:
        row["best_by"] = ", ".join(sorted(by))
    row["seconds"] = sum(done[cell]["seconds"] for cell in cells) / len(cells)
    row["peak_memory_bytes"] = max((done[cell].get("peak_memory_bytes") or 0 for cell in cells), default=0) or None
    row["each"] = [
        {"data": cell.data, "seed": cell.seed, "run": str(cell.run), "last": done[cell]["last"]["miou"]}
        for cell in cells
    ]
    pairs = [(cell, rival) for cell in cells if (rival := _rival(cell, done, first))]
    if title != first and pairs:
        gains = [done[cell]["last"]["miou"] - done[rival]["last"]["miou"] for cell, rival in pairs]
        row["gain"] = asdict(spread(gains)) | {"over": first, "each": gains}
    return row


def _rival(cell: Cell, done: dict[Cell, Any], first: str) -> Cell | None:
    """The baseline's run on the labels of `cell`, with its encoder if there is one."""
    found = [other for other in done if other.title == first and other.labels == cell.labels]
    return min(found, key=lambda other: other.backbone != cell.backbone, default=None)


def cells_of(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Titles and lines of the result: of a comparison, or of a paper's rows. What all lines share is left out."""
    if "published" in rows[0]:
        return _published(rows)
    columns = {
        "labels": [row["labeled"] for row in rows],
        "method": [row["method"] for row in rows],
        "encoder": [row["backbone"] for row in rows],
        "last": [_spread(row.get("last")) for row in rows],
        "best": [_spread(row.get("best")) for row in rows],
        "gain (95 %)": [_gain(row) for row in rows],
        "runs": [str(row["runs"]) if row["runs"] == row["asked"] else f"{row['runs']}/{row['asked']}" for row in rows],
        "min": [f"{row['seconds'] / 60:.1f}" if "seconds" in row else "" for row in rows],
        "GiB": [f"{(row.get('peak_memory_bytes') or 0) / 2**30:.1f}".replace("0.0", "") for row in rows],
    }
    shown = [title for title, column in columns.items() if title not in ("labels", "encoder") or len({*column}) > 1]
    return shown, [list(line) for line in zip(*(columns[title] for title in shown), strict=True)]


def _published(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    lines = [
        [row["row"], row["labeled"], f"{row['published'] or '':}", _spread(row.get("last")), "; ".join(row["differs"])]
        for row in rows
    ]
    return ["row", "labels", "published", "here", "what differs"], lines


def _spread(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    deviation = "" if found["deviation"] is None else f" ± {found['deviation']:.1f}"
    return f"{found['mean']:.1f}{deviation}"


def _gain(row: dict[str, Any]) -> str:
    gain = row.get("gain")
    if gain is None:
        return ""
    mean, half = gain["mean"], gain["half"]
    return f"{mean:+.1f}" + ("" if half is None else f" ({mean - half:+.1f} to {mean + half:+.1f})")


def explained(rows: list[dict[str, Any]]) -> list[str]:
    """What the table's columns are, and what all of its lines share."""
    lines = ["mIoU in percent of the last step and of the best one; ± is the deviation over runs."]
    if by := {row["best_by"] for row in rows if "best_by" in row}:
        lines.append(f"The best step is chosen by {', '.join(sorted(by))}.")
    over = {row["gain"]["over"] for row in rows if "gain" in row}
    if over:
        lines.append(f"gain: over {over.pop()} on the same labels, with the 95 % interval of the mean.")
    shared = {key: {row.get(key) for row in rows} for key in ("labeled", "backbone")}
    for key, word in (("labeled", "labels"), ("backbone", "encoder")):
        if len(shared[key]) == 1 and (value := shared[key].pop()):
            lines.append(f"{word}: {value}")
    return lines
