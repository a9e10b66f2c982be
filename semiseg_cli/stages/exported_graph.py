"""A network as a graph that runs without semiseg: by `torch.export`, as PyTorch's program (.pt2) or as ONNX.

`torch.export`, and the ONNX exporter on top of it, are what PyTorch recommends; TorchScript is deprecated. The graph
takes uint8 images (batch, height, width, 3) of any size, as `Predictor.seen` gives them, and holds normalisation, the
encoder's multiple and the softmax. It is traced once, at sizes where every branch on sizes takes its general side, and
then tried at others: what is written agrees with the network.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import config as fx_config

from semiseg_cli.core.errors import CheckpointError, UsageError
from semiseg_cli.core.files import whole
from semiseg_cli.core.models.segmenter import Segmenter

INPUT, OUTPUTS = "image", ("labels", "probabilities")
TOLERANCE = 1e-3  # of a probability
TRIED = ((1, 97, 129), (2, 64, 96), (1, 75, 53), (3, 40, 112))  # batch, height, width

Arrays = tuple[NDArray[np.uint8], NDArray[np.float32]]
Run = Callable[[NDArray[np.uint8]], Arrays]


class Applied(nn.Module):
    """What is traced. half: weights are kept as float16, and computed with as float32."""

    def __init__(self, net: Segmenter, mean: Any, std: Any, half: bool) -> None:
        super().__init__()
        self.net = net.requires_grad_(False).eval()
        self.mean, self.std = (nn.Buffer(torch.tensor(x, dtype=torch.float32)[:, None, None]) for x in (mean, std))
        for parameter in net.parameters() if half else ():
            if parameter.ndim > 1:
                parameter.data = parameter.data.half()

    def forward(self, image_BHW3: Tensor) -> tuple[Tensor, Tensor]:
        """Classes, uint8 (B, H, W), and probabilities, float32 (B, K, H, W)."""
        image_B3HW = (image_BHW3.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        weights = {name: tensor.float() for name, tensor in self.net.named_parameters()}
        logits_BKHW = functional_call(self.net, weights, (image_B3HW,))
        return logits_BKHW.argmax(1).to(torch.uint8), logits_BKHW.softmax(1)


def require_onnx() -> Any:
    """The runtime that tries what is written. Raises UsageError where a package that ONNX needs is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        what = f"ONNX needs {error.name}, which is not installed"
        raise UsageError(what, fix="pip install 'semiseg[onnx]'") from error
    return onnxruntime


def write_graph(path: Path, net: Segmenter, meta: dict[str, Any], *, half: bool) -> float:
    """Write the network as `path`, .onnx or .pt2; returns the largest difference of a probability from the network's.

    net: is changed where `half`. Raises CheckpointError for a network that cannot be exported for sizes that vary, or
    not faithfully, and where the file cannot be written.
    """
    applied = Applied(net, meta["normalise"]["mean"], meta["normalise"]["std"], half)
    with _naming(meta), _quiet():
        program = _traced(applied, net.multiple)
        with whole(path) as new:
            if path.suffix == ".onnx":
                _write_onnx(new, program, meta)
                difference = largest_difference(applied, running_onnx(new))
            else:
                content = BytesIO()  # by name it would warn of a name without .pt2
                torch.export.save(program, content, extra_files={"semiseg.json": json.dumps(meta)})
                new.write_bytes(content.getvalue())
                difference = largest_difference(applied, running_pt2(new))
            if not difference <= TOLERANCE:
                raise ValueError(f"its probabilities differ by up to {difference:.2g}")
    return difference


def largest_difference(applied: Applied, run: Run) -> float:
    """The largest difference of a probability that a graph makes at the sizes that are tried. Images are noise."""
    rng, largest = np.random.default_rng(0), 0.0
    for size in TRIED:
        image_BHW3 = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        with torch.no_grad():
            _, expected = applied(torch.from_numpy(image_BHW3))
        largest = max(largest, float(np.abs(run(image_BHW3)[1] - expected.numpy()).max()))
    return largest


def running_onnx(path: Path) -> Run:
    """The graph of a file, on a CPU."""
    session = require_onnx().InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])

    def run(image_BHW3: NDArray[np.uint8]) -> Arrays:
        labels, probabilities = session.run(list(OUTPUTS), {INPUT: image_BHW3})
        return labels, probabilities

    return run


def running_pt2(path: Path) -> Run:
    """The same of PyTorch's program, without the guards, which would hold it to sizes like those it was traced at."""
    with path.open("rb") as file:
        program = torch.export.load(file).module(check_guards=False)

    def run(image_BHW3: NDArray[np.uint8]) -> Arrays:
        labels, probabilities = program(torch.from_numpy(image_BHW3))
        return labels.numpy(), probabilities.numpy()

    return run


def _traced(applied: Applied, multiple: int) -> torch.export.ExportedProgram:
    """The program for every batch, height and width.

    Sides of 32 n need a border wherever maps are enlarged, and sides of no multiple need the resizing to one.
    """
    sides = (64, 96) if multiple == 1 else (4 * multiple + 1, 6 * multiple + 1)
    example = torch.zeros(2, *sides, 3, dtype=torch.uint8)
    free = torch.export.Dim.DYNAMIC
    with torch.no_grad():
        program = torch.export.export(applied, (example,), dynamic_shapes=({0: free, 1: free, 2: free},), strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def _write_onnx(path: Path, program: torch.export.ExportedProgram, meta: dict[str, Any]) -> None:
    """path: of a new file. The metadata of the checkpoint are its `semiseg`, as in a safetensors file."""
    import onnx_ir

    with torch.no_grad():
        exported: Any = torch.onnx.export(
            program, (), dynamo=True, verbose=False, input_names=[INPUT], output_names=list(OUTPUTS)
        )
    model = exported.model
    for value in (x for node in model.graph.all_nodes() for x in node.outputs):
        value.metadata_props.clear()
        if not value.is_graph_output():
            value.shape = None  # in symbols that only the exporter knows
    for node in model.graph.all_nodes():
        node.metadata_props.clear()  # paths of this machine
    batch, height, width = "batch", "height", "width"
    (image,), (labels, probabilities) = model.graph.inputs, model.graph.outputs
    image.shape, labels.shape = onnx_ir.Shape([batch, height, width, 3]), onnx_ir.Shape([batch, height, width])
    probabilities.shape = onnx_ir.Shape([batch, meta["model"]["classes"], height, width])
    model.producer_name, model.producer_version = "semiseg", meta["version"]
    model.metadata_props.clear()
    model.metadata_props["semiseg"] = json.dumps(meta)
    onnx_ir.save(model, path)


@contextmanager
def _naming(meta: dict[str, Any]) -> Iterator[None]:
    """Whatever exporters raise is an error about this network."""
    try:
        yield
    except (OSError, CheckpointError, UsageError, MemoryError):
        raise
    except Exception as error:
        name = f"{meta['model']['backbone']} with {meta['model']['decoder']}"
        why = next(iter(str(error).splitlines()), type(error).__name__)[:300]
        fix = "without --onnx and --pt2: safetensors, which semiseg_cli.load reads"
        raise CheckpointError(f"{name} cannot be exported for images of any size", why=why, fix=fix) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """What exporters warn of is their own business, and so is where each node is from, a fifth of their time."""
    told = getattr(fx_config, "do_not_emit_stack_traces", False)
    fx_config.do_not_emit_stack_traces = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        fx_config.do_not_emit_stack_traces = told
