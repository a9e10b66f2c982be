"""Whether torch and torchvision work, as one JSON line: `python -m semiseg_cli.stages.fitness`.

A process of its own, because libraries that do not fit together can end the process that imports them.
"""

from __future__ import annotations

import json
from typing import Any


def fitness() -> dict[str, Any]:
    """Versions, a call that needs both libraries, and what the devices are. Errors are told, never raised."""
    found: dict[str, Any] = {"torch": None, "torchvision": None, "fit": False, "error": "", "devices": []}
    try:
        import torch

        found |= {"torch": torch.__version__, "cuda": torch.version.cuda, "threads": torch.get_num_threads()}
        import torchvision

        found["torchvision"] = torchvision.__version__
        boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]])
        found["fit"] = torchvision.ops.nms(boxes, torch.tensor([0.5, 0.9]), 0.5).tolist() == [1]
        found["devices"] = [_device(torch, index) for index in range(torch.cuda.device_count())]
    except Exception as error:
        found["error"] = f"{type(error).__name__}: {error}"
    return found


def _device(torch: Any, index: int) -> dict[str, Any]:
    """Name, memory, and bf16 of a CUDA device; a product computed on it shows whether it works."""
    properties = torch.cuda.get_device_properties(index)
    device: dict[str, Any] = {"name": properties.name, "memory_bytes": properties.total_memory, "error": ""}
    device["capability"] = f"{properties.major}.{properties.minor}"
    device["bf16"] = properties.major >= 8
    try:
        device["free_bytes"] = torch.cuda.mem_get_info(index)[0]
        ones = torch.ones(8, 8, device=f"cuda:{index}", dtype=torch.bfloat16 if device["bf16"] else torch.float32)
        device["works"] = (ones @ ones).sum().item() == 512
    except Exception as error:
        device |= {"works": False, "error": f"{type(error).__name__}: {error}"}
    return device


if __name__ == "__main__":
    print(json.dumps(fitness()))
