"""Finds in a step what would keep it from being captured: whatever passes between host and device."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from semiseg_cli.core.views.tables import place_in_code

WAITS = {
    "_local_scalar_dense", "is_nonzero", "equal", "nonzero", "nonzero_static", "masked_select", "_unique", "_unique2",
    "unique_dim", "unique_consecutive", "unique_dim_consecutive", "allclose", "_linalg_check_errors",
}  # fmt: skip
SELECTS = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
TORCH = str(Path(torch.__file__).parent)
# SyncBatchNorm selects by a mask, but not while a graph is captured
EXEMPT = str(Path("torch", "nn", "modules", "_functions.py"))


class Watch(TorchDispatchMode):
    """Within it, operators run as ever. `found`: in a line each, those that a captured step may not have."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        why = _reason(func, args, kwargs)
        frames = list(_frames(sys._getframe(1))) if why else []
        if why and not (frames and frames[0].f_code.co_filename.endswith(EXEMPT)):
            self.found.append(f"{_place(frames)} {why} ({func.overloadpacket.__name__})")
        return func(*args, **kwargs)


def _reason(func: Any, args: Any, kwargs: Any) -> str:
    """What is wrong with a call of an operator; "" if nothing is."""
    name, tensors = func.overloadpacket.__name__, [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    repeats = name == "repeat_interleave" and func._overloadname == "Tensor" and kwargs.get("output_size") is None
    counts = name == "bincount" and tensors[0].is_cuda  # for the largest; the confusion matrix has it on a CPU alone
    if name in WAITS or repeats or counts or (name in SELECTS and _by_mask(args[1])):
        return "has the host wait for what a tensor holds"
    if name == "lift_fresh":
        return "makes a tensor of numbers that the host has"
    devices = {tensor.device.type for tensor in tensors}
    if kwargs.get("device") is not None and tensors:
        devices.add(torch.device(kwargs["device"]).type)
    return "moves a tensor between host and device" if len(devices) > 1 else ""


def _by_mask(indices: Any) -> bool:
    return any(isinstance(x, Tensor) and x.dtype in (torch.bool, torch.uint8) for x in indices)


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        if frame.f_code.co_filename != __file__:
            yield frame
        frame = frame.f_back


def _place(frames: list[FrameType]) -> str:
    """Where the innermost code outside PyTorch is; backward passes of CUDA run in threads without any."""
    own = next((frame for frame in frames if not frame.f_code.co_filename.startswith(TORCH)), None)
    return place_in_code(own) if own else "the backward pass"
