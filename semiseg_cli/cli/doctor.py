"""`semiseg doctor`: does everything work here? Its output can be pasted into a bug report."""

from __future__ import annotations

from pathlib import Path
from textwrap import TextWrapper
from typing import Any

from semiseg_cli.cli import console, options
from semiseg_cli.core.errors import CheckFailed, counted


def doctor(
    root: options.Root = Path("data"),
    runs_root: options.RunsRoot = Path("runs"),
    json: options.Json = False,
) -> None:
    """Show versions, devices, disk, decoding speed and prepared data, and say what is wrong.

    It works where torch does not. Exits with 7 when something is wrong.
    """
    from semiseg_cli.stages.doctor import examine

    found = examine(root, runs_root)
    console.result("doctor", found, _text(found), json)
    if problems := found["problems"]:
        raise CheckFailed(
            f"{len(problems)} {'thing is' if len(problems) == 1 else 'things are'} wrong",
            why="\n".join(each["what"] for each in problems),
            fix="\n".join(each["fix"] for each in problems),
        )


def _text(found: dict[str, Any]) -> str:
    """The block for a bug report: a paragraph of at most 79 columns per subject."""
    libraries, cpu = found["libraries"], found["cpu"]
    packages = [f"{name} {version}" for name, version in found["packages"].items() if version]
    cuda = f"CUDA {libraries['cuda']}" if libraries["cuda"] else "CPU build"
    works = "work together" if libraries["fit"] else f"do not work together: {libraries['error']}"
    bf16 = "with" if cpu["bf16"] else "without"
    decode = found["decode"]
    counts = f"{counted(cpu['cores'], 'core')}, {counted(libraries['threads'], 'thread')}"
    rows = [
        ("semiseg", found["semiseg"] + (f" at commit {found['commit']}" if found["commit"] else "")),
        ("python", f"{found['python']}, {found['executable']}, {found['platform']}"),
        ("packages", ", ".join(packages)),
        ("torch", f"{libraries['torch']} ({cuda}) and torchvision {libraries['torchvision']} {works}"),
        ("cpu", f"{cpu['name']}, {counts}, {bf16} bfloat16 instructions"),
        *(("gpu", _device(device)) for device in libraries["devices"] or [None]),
        ("opencv", found["opencv"].get("error") or found["opencv"]["version"]),
        ("decode", decode.get("error") or f"{decode['image']} in {decode['ms']:.2f} ms on one core"),
        *(("disk", _disk(name, disk)) for name, disk in found["disk"].items()),
        *(("data", line) for line in _data(found["data"])),
        ("weights", ", ".join(found["weights"]) or "none in the cache"),
        *(("environment", f"{name}={value}") for name, value in found["environment"].items()),
    ]
    width = max(len(name) for name, _ in rows)
    wrap = TextWrapper(79, subsequent_indent=" " * (width + 2), break_long_words=False, break_on_hyphens=False)
    return "\n".join(wrap.fill(f"{name:<{width}}  {text}") for name, text in rows)


def _device(device: dict[str, Any] | None) -> str:
    if device is None:
        return "none that torch can use"
    memory = f"{device['memory_bytes'] / 2**30:.0f} GiB"
    free = f", {device['free_bytes'] / 2**30:.0f} free" if "free_bytes" in device else ""
    bf16 = "with" if device["bf16"] else "without"
    state = "works" if device["works"] else f"does not compute: {device['error']}"
    return f"{device['name']}, {memory}{free}, capability {device['capability']}, {bf16} bfloat16, {state}"


def _disk(name: str, disk: dict[str, Any]) -> str:
    return f"{disk['free_bytes'] / 1e9:.0f} GB free for {name}, {disk['path']}"


def _data(data: dict[str, Any]) -> list[str]:
    if "error" in data:
        return [data["error"]]
    lines = [
        f"{name}: {has['labeled']} labeled, {has['unlabeled']} unlabeled, {has['val']} val"
        + (f"; partitions {', '.join(has['splits'])}" if has["splits"] else "")
        for name, has in data.items()
    ]
    return lines or ["nothing is prepared (semiseg prepare --help)"]
