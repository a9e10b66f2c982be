"""What `semiseg export --onnx` writes beside the network itself: ONNX Runtime's probabilities and PyTorch's, on a CPU.

    python -m benchmarks.onnx [NETWORK...]

A NETWORK is a checkpoint or run, or ENCODER/DECODER[=WEIGHTS], which nobody trained: its encoder's weights from a file
or random, batch norms that know the images here, a classifier scaled so that classes differ from place to place. Each
is written with float32 and with float16 weights, and compared at four sizes of images. A line for each:

    MB         of the file
    graph      the largest difference of a probability from the network whose weights it holds
    float32    the same from the network with float32 weights
    labels     share of pixels with another label than float32's, in percent
    seconds    that writing took, which includes a comparison of its own at other sizes
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from semiseg_cli import __version__
from semiseg_cli.core.files import network_of
from semiseg_cli.core.models import build_segmenter, load_encoder
from semiseg_cli.core.models.segmenter import Segmenter
from semiseg_cli.core.training.checkpoint import load_network
from semiseg_cli.stages.exported_graph import running_onnx, write_graph

NETWORKS = (
    "resnet50/deeplabv3plus", "efficientnet_lite0/deeplabv3plus", "mobilenet_v2/mlp", "convnext_t/upernet",
    "swin_t/upernet", "dinov2_s/dpt",
)  # fmt: skip
SIZES = ((1, 96, 128), (1, 113, 97), (2, 160, 120), (1, 200, 144))  # batch, height, width
CLASSES = 5
SPREAD = 2.0  # of a class's logits over the image, of a network that was not trained
Images = Sequence[NDArray[np.uint8]]
TITLES = ("network", "weights", "MB", "graph", "float32", "labels", "seconds")


def image(batch: int, height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Patches of colour, with noise on them: uint8 (batch, height, width, 3)."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, -(-height // 16), -(-width // 16), generator=rng)
    noise = 0.05 * torch.randn(batch, 3, height, width, generator=rng)
    fine = F.interpolate(coarse, (height, width), mode="bilinear") + noise
    return (255 * fine.clamp(0, 1)).byte().permute(0, 2, 3, 1).numpy()


def normalised(image_BHW3: NDArray[np.uint8], meta: dict[str, Any]) -> Tensor:
    mean, std = (torch.tensor(meta["normalise"][key])[:, None, None] for key in ("mean", "std"))
    return (torch.from_numpy(image_BHW3).permute(0, 3, 1, 2).float() / 255 - mean) / std


def opened(name: str) -> tuple[Segmenter, dict[str, Any]]:
    """A network, ready to use, and the metadata that its graph needs."""
    if Path(name).exists():
        return load_network(network_of(Path(name)))
    kinds, _, weights = name.partition("=")
    backbone, _, decoder = kinds.partition("/")
    net = build_segmenter(backbone, decoder, CLASSES)
    load_encoder(net.encoder, backbone, weights or "none")
    meta = {
        "version": __version__,
        "model": {"backbone": backbone, "decoder": decoder, "classes": CLASSES},
        "normalise": {"mean": list(net.encoder.mean), "std": list(net.encoder.std)},
    }
    _settle(net, normalised(image(4, 128, 160, seed=99), meta), norms=not weights)
    return net, meta


@torch.no_grad()
def _settle(net: Segmenter, image_B3HW: Tensor, norms: bool) -> None:
    """As a trained network is: batch norms know the images, and logits differ."""
    part: nn.Module = net if norms else net.decoder
    for module in part.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = 1.0
            module.train()
    net(image_B3HW)
    logits_BKHW, last = net.eval()(image_B3HW), net.decoder.classifier
    scale_K = SPREAD / logits_BKHW.std((0, 2, 3))
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    last.bias.copy_((last.bias - logits_BKHW.mean((0, 2, 3))) * scale_K)
    last.weight.mul_(scale_K[:, None, None, None])


@torch.no_grad()
def probabilities(net: Segmenter, meta: dict[str, Any], images: Images) -> list[NDArray[np.float32]]:
    return [net(normalised(each, meta)).softmax(1).numpy() for each in images]


def compared(name: str, half: bool, folder: Path) -> list[str]:
    """The line of a network with float32 weights, or with float16."""
    net, meta = opened(name)
    images = [image(*size, seed=k) for k, size in enumerate(SIZES)]
    exact, file, begun = probabilities(net, meta, images), folder / "net.onnx", time.process_time()
    write_graph(file, net, meta, half=half)
    seconds = time.process_time() - begun
    held, run = probabilities(net.float(), meta, images), running_onnx(file)
    found = [run(each) for each in images]
    graph, apart = (
        max(float(np.abs(ours - theirs).max()) for (_, ours), theirs in zip(found, those, strict=True))
        for those in (held, exact)
    )
    other = np.concatenate([(labels != p.argmax(1)).ravel() for (labels, _), p in zip(found, exact, strict=True)])
    title = f"{meta['model']['backbone']}, {meta['model']['decoder']}"
    kind = "trained" if Path(name).exists() else "of its encoder" if "=" in name else "random"
    return [
        title, f"{kind}, float{16 if half else 32}", f"{file.stat().st_size / 1e6:.1f}", f"{graph:.1e}",
        f"{apart:.1e}", f"{100 * other.mean():.2f}", f"{seconds:.0f}",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", default=NETWORKS)
    names = parser.parse_args().networks
    for line in (TITLES, ["---"] * len(TITLES)):
        print(f"| {' | '.join(line)} |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            for half in (False, True):
                print(f"| {' | '.join(compared(name, half, Path(folder)))} |", flush=True)


if __name__ == "__main__":
    main()
