"""The document as a table: plain text, a line a row, as wide as it is."""

from __future__ import annotations

from benchmarks.parts import Found

HEAD = ("step", "images/s", "ms", "min", "max", "GiB", "TFLOP", "TFLOP/s", "of peak")


def table(document: Found) -> str:
    """Tests and trainings as lines, steps as a table; what failed or was left out says why in its place."""
    parts, machine = document["parts"], document["machine"]
    steps = [part for part in parts if part["kind"] == "step"]
    head = f"{machine['device']}, torch {machine['torch']}, commit {machine['commit']}"
    lines = [head, *(line(part) for part in parts if part["kind"] in ("tests", "peak")), ""]
    lines += [*aligned([list(HEAD), *(cells(part) for part in steps)]), ""] if steps else []
    lines += [line(part) for part in parts if part["kind"] == "training"]
    return "\n".join(lines).rstrip()


def line(part: Found) -> str:
    return f"{part['name']}: {part['said'] if part['state'] == 'done' else reason(part)}"


def reason(part: Found) -> str:
    return f"{part['state']}: {part['why']}"


def cells(part: Found) -> list[str]:
    if part["state"] != "done":
        return [part["name"], reason(part)]
    tflop, ms = part["gflop_per_step"] / 1000, part["step_ms"]
    share = part["share_of_peak"]
    return [
        part["name"], f"{part['images_per_second']:.1f}", f"{ms:.1f}", f"{part['step']['min']:.1f}",
        f"{part['step']['max']:.1f}", f"{part['peak_memory_bytes'] / 2**30:.2f}", f"{tflop:.2f}",
        f"{1000 * tflop / ms:.1f}", "-" if share is None else f"{share:.1%}",
    ]  # fmt: skip


def aligned(rows: list[list[str]]) -> list[str]:
    """Names to the left, numbers to the right; a row of two cells is a name and a remark."""
    full = [row for row in rows if len(row) > 2]
    widths = [max(len(row[i]) for row in full) for i in range(len(full[0]))]
    widths[0] = max(len(row[0]) for row in rows)

    def joined(row: list[str]) -> str:
        if len(row) == 2:
            return f"{row[0]:<{widths[0]}}  {row[1]}"
        numbers = (f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        return "  ".join([f"{row[0]:<{widths[0]}}", *numbers])

    return [joined(row) for row in rows]
