"""The public UniMatch's step as it is stated here, on a checkout that is made up: a network of one convolution."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import published
from benchmarks.published import network, published_loss, published_step, random_batch

RESNET = """
from torch import nn
def resnet101(pretrained=False, replace_stride_with_dilation=None):
    assert not pretrained, "its weights would be read from a file"
    assert replace_stride_with_dilation == [False, False, True]
    return nn.Conv2d(3, 4, 1)
"""
DEEPLAB = """
import model.backbone.resnet as resnet
from torch import nn
class DeepLabV3Plus(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        dilated = cfg["replace_stride_with_dilation"]
        self.backbone = resnet.__dict__[cfg["backbone"]](pretrained=True, replace_stride_with_dilation=dilated)
        self.classifier, self.calls = nn.Conv2d(4, cfg["nclass"], 1), []
    def forward(self, x, need_fp=False):
        self.calls.append((len(x), self.training, need_fp))
        out = self.classifier(self.backbone(x))
        return (out, 2 * out) if need_fp else out
"""
CPU = torch.device("cpu")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in (("backbone/resnet.py", RESNET), ("semseg/deeplabv3plus.py", DEEPLAB)):
        file = tmp_path / "model" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


def taught(logits: Tensor, weak: Tensor, ignore: Tensor, tau: float) -> Tensor:
    """The mean over what is not padding of the cross-entropy where the weak view is sure."""
    conf, hard = weak.softmax(1).max(1)
    each = -logits.log_softmax(1).gather(1, hard[:, None])[:, 0]
    return (each * (conf >= tau))[ignore != 255].sum() / (ignore != 255).sum()


def test_the_loss_is_the_papers(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "THRESHOLD", tau := 0.08)
    torch.manual_seed(0)
    net = network(checkout, "resnet101")
    data = random_batch(3, 17, CPU, torch.contiguous_format)
    before = {name: tensor.clone() for name, tensor in data.items()}
    loss = published_loss(net, data)
    assert net.calls == [(3, False, False), (6, True, True), (6, True, False)]

    def plain(name: str) -> Tensor:
        return net.classifier(net.backbone(before[name]))

    with torch.no_grad():
        expected = F.cross_entropy(plain("labeled"), before["label"]) / 2
        expected += taught(2 * plain("weak"), plain("weak"), before["ignore"], tau) / 4
        for view in ("1", "2"):
            box = before[f"box{view}"] == 1
            mixed, weak = (
                torch.where(box[:, None], plain(other), plain(own))
                for own, other in ((f"strong{view}", f"strong{view}_mix"), ("weak", "weak_mix"))
            )
            ignore = torch.where(box, before["ignore_mix"], before["ignore"])
            expected += taught(mixed, weak, ignore, tau) / 8
            assert 0 < box.float().mean() < 1
    assert 0.1 < (plain("weak").softmax(1).max(1)[0] >= tau).float().mean() < 0.9  # the threshold decides
    torch.testing.assert_close(loss, expected)


def test_a_step_trains_every_weight(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nets: list[nn.Module] = []
    monkeypatch.setattr(published, "network", lambda *where: nets.append(network(*where)) or nets[0])
    step = published_step(checkout, backbone="resnet101", batch=2, crop=17, bf16=False, device=CPU)
    before = [p.clone() for p in nets[0].parameters()]
    step()
    assert all(not torch.equal(p, old) for p, old in zip(nets[0].parameters(), before, strict=True))


def test_its_modules_are_forgotten_and_a_folder_without_them_is_refused(checkout: Path, tmp_path: Path) -> None:
    path = list(sys.path)
    network(checkout, "resnet101")
    assert sys.path == path
    assert not any(name.split(".")[0] == "model" for name in sys.modules)
    with pytest.raises(FileNotFoundError, match="no checkout"):
        network(tmp_path / "elsewhere", "resnet101")
