"""What runs come to side by side: rows of values, and these as titles and lines for terminal, Markdown and report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from semiseg_cli.core.spread import spread
from semiseg_cli.stages.study import Cell, result_of

BASELINE = "supervised"
WHAT = {"data": "dataset", "labeled": "labels", "backbone": "encoder"}  # keys of a row, beside its method
Row = dict[str, Any]


def grouped(cells: Sequence[Cell]) -> list[Row]:
    """A row per group of cells: mean and deviation over its finished runs, and what it gains on the baseline.

    The baseline is supervised training where it is among them, else the first method; the same encoder's where it has
    one. A gain is of pairs: runs on the same labels of the same dataset. Datasets have rows of their own: the mIoU of
    one says nothing beside that of another.
    """
    done = {cell: found for cell in cells if (found := result_of(cell)) and found.get("last")}
    titles = [cell.title for cell in cells]
    first = BASELINE if BASELINE in titles else titles[0]
    groups = {cell.group: [other for other in cells if other.group == cell.group] for cell in cells}
    return [_row(members, done, first) for members in groups.values()]


def _row(group: Sequence[Cell], done: dict[Cell, Any], first: str) -> Row:
    cells, (data, labeled, title, backbone) = [cell for cell in group if cell in done], group[0].group
    row: Row = {"data": data, "labeled": labeled, "method": title, "backbone": backbone}
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
        row["gain"] = _gained(gains, first)
    return row


def _rival(cell: Cell, done: dict[Cell, Any], first: str) -> Cell | None:
    """The baseline's run on the labels of `cell`, with its encoder if there is one."""
    found = [other for other in done if other.title == first and other.labels == cell.labels]
    return min(found, key=lambda other: other.backbone != cell.backbone, default=None)


def _gained(each: Sequence[float], over: str) -> Row:
    return asdict(spread(each)) | {"over": over, "each": list(each)}


def overall(rows: Sequence[Row]) -> list[Row]:
    """What a method gains over all datasets where it has pairs in several: of all of these pairs, with equal weight.

    By number of labels, where any dataset has several; else datasets may have one of their own each.
    """
    gains = [row for row in rows if row.get("gain", {}).get("each")]
    apart = len({(row.get("data"), row["labeled"]) for row in gains}) > len({row.get("data") for row in gains})
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in gains:
        found.setdefault((row["method"], row["backbone"], row["labeled"] * apart), []).append(row)
    return [
        {"datasets": len(members), "labeled": ", ".join(dict.fromkeys(row["labeled"] for row in members))}
        | {"method": method, "backbone": backbone}
        | {"gain": _gained([each for row in members for each in row["gain"]["each"]], members[0]["gain"]["over"])}
        for (method, backbone, _), members in found.items()
        if len(members) > 1
    ]


def cells_of(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Titles and lines of the result: of a comparison, or of a paper's rows. What all lines share is left out."""
    if "published" in rows[0]:
        return _published(rows)
    every = [*rows, *overall(rows)]
    columns = {
        "dataset": [f"{row['datasets']} datasets" if "datasets" in row else row.get("data", "") for row in every],
        "labels": [row["labeled"] for row in every],
        "method": [row["method"] for row in every],
        "encoder": [row["backbone"] for row in every],
        "last": [_spread(row.get("last")) for row in every],
        "best": [_spread(row.get("best")) for row in every],
        "gain (95 %)": [_gain(row) for row in every],
        "runs": [_count(row) for row in every],
        "min": [f"{row['seconds'] / 60:.1f}" if "seconds" in row else "" for row in every],
        "GiB": [f"{memory / 2**30:.1f}" if (memory := row.get("peak_memory_bytes")) else "" for row in every],
    }
    shown = [title for title, column in columns.items() if title not in WHAT.values() or len({*column}) > 1]
    return shown, [list(line) for line in zip(*(columns[title] for title in shown), strict=True)]


def _published(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    lines = [
        [row["row"], row["labeled"], _printed(row), _spread(row.get("last")), "; ".join(row["differs"])] for row in rows
    ]
    return ["row", "labels", "published", "here", "what differs"], lines


def _printed(row: Row) -> str:
    if row["published"] is None:
        return ""
    metric = str(row.get("metric", "mIoU"))
    return f"{row['published']:g}" + f" ({metric})" * (metric != "mIoU")


def _spread(found: Row | None) -> str:
    if found is None:
        return ""
    deviation = "" if found["deviation"] is None else f" ± {found['deviation']:.1f}"
    return f"{found['mean']:.1f}{deviation}"


def _gain(row: Row) -> str:
    gain = row.get("gain")
    if gain is None:
        return ""
    mean, half = gain["mean"], gain["half"]
    return f"{mean:+z.1f}" + ("" if half is None else f" ({mean - half:+z.1f} to {mean + half:+z.1f})")


def _count(row: Row) -> str:
    if "datasets" in row:
        return f"{row['gain']['count']} pairs"
    return str(row["runs"]) if row["runs"] == row["asked"] else f"{row['runs']}/{row['asked']}"


def explained(rows: Sequence[Row]) -> list[str]:
    """What the table's columns are, and what all of its lines share."""
    if "published" in rows[0]:
        return ["mIoU in percent, or what stands beside it; here: of the last step, ± is the deviation over runs."]
    lines = ["mIoU in percent of the last step and of the best one; ± is the deviation over runs."]
    if by := {row["best_by"] for row in rows if "best_by" in row}:
        lines.append(f"The best step is chosen by {', '.join(sorted(by))}.")
    over = {row["gain"]["over"] for row in rows if "gain" in row}
    if over:
        lines.append(f"gain: over {over.pop()} on the same labels, with the 95 % interval of the mean.")
    if overall(rows):
        lines.append("Of several datasets: the mean gain of all their pairs of runs; their mIoU has no common mean.")
    for key, word in WHAT.items():
        shared = {row.get(key) for row in rows}
        if len(shared) == 1 and (value := shared.pop()):
            lines.append(f"{word}: {value}")
    return lines
