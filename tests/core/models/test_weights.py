"""Encoder weights from files and, with a server that is a folder, from torchvision's download."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from serve import serving

from semiseg_cli.core.download import Published
from semiseg_cli.core.errors import CheckpointError, UsageError
from semiseg_cli.core.models import BACKBONES, build_encoder, build_segmenter, load_encoder, published, starts_random
from semiseg_cli.core.networks import Origin

LICENCE = "licence: unknown (weights.safetensors), published weights of mobilenet_v2: bsd-3-clause"


def make(backbone: str = "mobilenet_v2", **options):
    return build_segmenter(backbone, "deeplabv3plus", 3, **options)


def classifier_state(name: str = "mobilenet_v2") -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torchvision.models.get_model(name, weights=None).state_dict()


@pytest.fixture
def state():
    return classifier_state()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "weights.safetensors"


def unchanged(net) -> bool:
    return all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), make().state_dict().values(), strict=True))


def test_a_classifiers_file_in_half_precision(state, file):
    save_file({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, file)
    net = make()
    line = load_encoder(net.encoder, "mobilenet_v2", str(file))
    for name, tensor in net.encoder.state_dict().items():
        assert tensor.dtype == state[name].dtype
        expected = state[name].half().float() if tensor.is_floating_point() else state[name]
        assert torch.equal(tensor, expected)
    assert line == f"encoder mobilenet_v2: 306 tensors from {file}; its features.18.*, classifier.* left out; {LICENCE}"


def test_counters_may_be_absent_and_that_is_said(state, file):
    save_file({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, file)
    assert "lacks num_batches_tracked" in load_encoder(make().encoder, "mobilenet_v2", str(file))


def rename(state):
    return {k.replace("features.0.0.", "features.0.stem."): v for k, v in state.items()}


def drop(state):
    return {k: v for k, v in state.items() if not k.startswith("features.3.")}


def add(state):
    return {**state, "neck.weight": torch.zeros(1)}


def reshape(state):
    return {**state, "features.0.0.weight": torch.zeros(32, 4, 3, 3)}


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (rename, r"1 missing: features\.0\.0\.weight; 1 unexpected: features\.0\.stem\.weight"),
        (drop, r"15 missing: features\.3\..* and 11 more"),
        (add, r"1 unexpected: neck\.weight"),
        (reshape, r"1 of another shape: features\.0\.0\.weight \(32, 4, 3, 3\) instead of \(32, 3, 3, 3\)"),
        (lambda state: classifier_state("resnet18"), r"missing: .*unexpected: .* and \d+ more"),
        (lambda state: {"fc.weight": torch.zeros(2)}, r"255 missing: .*; 1 unexpected: fc\.weight"),
    ],
    ids=["renamed", "missing", "unexpected", "shape", "resnet18", "classifier only"],
)
def test_weights_that_do_not_fit(state, file, spoil, why):
    save_file(spoil(state), file)
    net = make()
    with pytest.raises(CheckpointError, match=f"{re.escape(str(file))} does not fit mobilenet_v2") as caught:
        load_encoder(net.encoder, "mobilenet_v2", str(file))
    assert re.search(why, caught.value.why)
    assert "torchvision's mobilenet_v2" in caught.value.fix
    assert unchanged(net)


def test_unreadable_files(state, file, tmp_path):
    save_file(state, file)
    truncated, foreign = tmp_path / "truncated.safetensors", tmp_path / "weights.pth"
    truncated.write_bytes(file.read_bytes()[:100_000])
    torch.save(state, foreign)
    for path in (truncated, foreign):
        with pytest.raises(CheckpointError, match=f"{re.escape(str(path))} cannot be read as safetensors"):
            load_encoder(make().encoder, "mobilenet_v2", str(path))
    for path in (tmp_path, tmp_path / "absent.safetensors"):
        with pytest.raises(CheckpointError, match=f"no weights file {re.escape(str(path))}|holds no checkpoint"):
            load_encoder(make().encoder, "mobilenet_v2", str(path))


def test_a_semiseg_checkpoint_gives_its_encoder(file):
    trained, net = make("tiny", seed=5), make("tiny")
    save_file(trained.state_dict(), file, {"semiseg": json.dumps({"model": {"backbone": "tiny"}})})
    head = net.decoder.classifier.weight.clone()
    load_encoder(net.encoder, "tiny", str(file))
    assert torch.equal(net.encoder.conv1.weight, trained.encoder.conv1.weight)
    assert torch.equal(net.decoder.classifier.weight, head)
    with pytest.raises(CheckpointError, match="checkpoint of tiny, not of resnet18") as caught:
        load_encoder(net.encoder, "resnet18", str(file))
    assert caught.value.fix == f"semiseg train -b tiny, or semiseg pair --encoder {file}"


@pytest.mark.parametrize("text", ["not json", "{}", '{"model": null}'])
def test_a_checkpoint_with_foreign_metadata(file, text):
    save_file({"encoder.a": torch.zeros(1)}, file, {"semiseg": text})
    with pytest.raises(CheckpointError, match="does not say which backbone"):
        load_encoder(make("tiny").encoder, "tiny", str(file))


def test_from_scratch():
    net = make()
    assert load_encoder(net.encoder, "mobilenet_v2", "none") == "encoder mobilenet_v2: from scratch"
    assert unchanged(net)
    assert "there are no weights for it" in load_encoder(make("tiny").encoder, "tiny", "auto")


def test_a_network_of_timms_without_weights_starts_random():
    name = "timm:efficientnet_b0_gn"  # timm has no file for it
    assert [starts_random(name, weights) for weights in ("auto", "none", "imagenet", "a.safetensors")] == [
        True, True, False, False,
    ]  # fmt: skip
    encoder = build_encoder("timm:efficientnet_b0_gn")
    assert load_encoder(encoder, name, "auto").endswith(f"{name}: from scratch, there are no weights for it")
    with pytest.raises(CheckpointError, match="nobody has published weights for timm:efficientnet_b0_gn"):
        load_encoder(encoder, name, "imagenet")
    assert not starts_random("timm:resnet18", "auto")
    for wrong in ("timm:resnet18.no_such_tag", "timm:no_such_network"):
        with pytest.raises(UsageError, match=r"timm .* has no"):
            starts_random(wrong, "auto")


@pytest.mark.parametrize(
    ("backbone", "metadata", "licence"),
    [
        ("tiny", {}, "unknown (weights.safetensors)"),
        ("tiny", {"license": "cc-by-4.0"}, "cc-by-4.0"),
        ("resnet18", {}, "unknown (weights.safetensors), published weights of resnet18: bsd-3-clause"),
        ("dinov3_s", {"format": "pt"}, "dinov3-license"),
    ],
)
def test_a_file_has_the_licence_that_it_states_or_an_unknown_one(file, backbone, metadata, licence):
    encoder = build_encoder(backbone)
    save_file(encoder.state_dict() if backbone != "dinov3_s" else timm_state(), file, metadata)
    assert load_encoder(encoder, backbone, str(file)).endswith(f"; licence: {licence}")
    assert encoder.origin == Origin("weights.safetensors", licence)


def timm_state() -> dict[str, torch.Tensor]:
    return timm.create_model("vit_small_patch16_dinov3").state_dict()


def test_nobody_has_weights_for_tiny():
    with pytest.raises(CheckpointError, match="nobody has published weights for tiny") as caught:
        load_encoder(make("tiny").encoder, "tiny", "imagenet")
    assert caught.value.fix == "`--weights none`"


@pytest.mark.parametrize("backbone", [name for name, of in BACKBONES.items() if of.torchvision])
def test_urls_carry_a_hash(backbone):
    there = published.TORCHVISION[backbone]
    assert there.urls == (torchvision.models.get_model_weights(backbone).IMAGENET1K_V1.url,)
    assert re.fullmatch(r"[0-9a-f]{64}", there.sha256)
    assert there.name == f"{backbone}-{there.sha256[:8]}.pth"
    assert there.urls[0].startswith("https://download.pytorch.org/")


@pytest.fixture
def server(tmp_path, monkeypatch, state) -> Iterator[Path]:
    """torchvision's file, on a server; an empty cache."""
    pickled = tmp_path / "server" / "pickled"
    pickled.parent.mkdir()
    torch.save(state, pickled)
    digest = hashlib.sha256(pickled.read_bytes()).hexdigest()
    served = pickled.rename(pickled.with_name(f"mobilenet_v2-{digest[:8]}.pth"))
    with serving(served.parent) as address:
        there = Published(served.name, served.stat().st_size, digest, (f"{address}/{served.name}",))
        monkeypatch.setitem(published.TORCHVISION, "mobilenet_v2", there)
        monkeypatch.setenv("SEMISEG_CACHE", str(tmp_path / "cache"))
        yield served


def test_a_download_is_announced_converted_and_kept(server, tmp_path, state):
    notes, url = [], published.torchvision_url("mobilenet_v2")
    net = make()
    line = load_encoder(net.encoder, "mobilenet_v2", "auto", note=notes.append)
    cached = tmp_path / "cache" / "weights" / f"{server.stem}.safetensors"
    left_out = "its features.18.*, classifier.* left out"
    assert line == f"encoder mobilenet_v2: 306 tensors from {cached}; {left_out}; licence: bsd-3-clause"
    assert net.encoder.origin == Origin(f"torchvision {url}", "bsd-3-clause")
    assert notes == [f"downloading ImageNet weights of mobilenet_v2 (14 MB) from {url} to {cached}"]
    assert list(cached.parent.iterdir()) == [cached]  # no pickle stays
    assert load_file(cached).keys() == state.keys()
    assert torch.equal(net.encoder.features[0][0].weight, state["features.0.0.weight"])

    server.unlink()
    load_encoder(make().encoder, "mobilenet_v2", "imagenet", note=notes.append)
    assert len(notes) == 1


def test_a_download_whose_digest_begins_alike(server, tmp_path, monkeypatch):
    """Eight digits of a sha256 are no check."""
    there = published.TORCHVISION["mobilenet_v2"]
    monkeypatch.setitem(published.TORCHVISION, "mobilenet_v2", replace(there, sha256=there.sha256[:8] + "0" * 56))
    with pytest.raises(CheckpointError, match="cannot download") as caught:
        load_encoder(make().encoder, "mobilenet_v2", "imagenet")
    assert f"its sha256 is {there.sha256} instead of {there.sha256[:8]}0000" in caught.value.why
    assert list((tmp_path / "cache" / "weights").iterdir()) == []


def test_a_download_goes_on_where_it_stopped(server, tmp_path):
    cache = tmp_path / "cache" / "weights"
    cache.mkdir(parents=True)
    (cache / f"{server.name}.part").write_bytes(server.read_bytes()[:1000])
    load_encoder(make().encoder, "mobilenet_v2", "imagenet")
    assert [path.name for path in cache.iterdir()] == [f"{server.stem}.safetensors"]


def test_a_download_that_is_not_what_its_name_says(server, tmp_path):
    data = bytearray(server.read_bytes())
    data[len(data) // 2] ^= 1
    server.write_bytes(data)
    with pytest.raises(CheckpointError, match="cannot download") as caught:
        load_encoder(make().encoder, "mobilenet_v2", "imagenet")
    assert "sha256" in caught.value.why
    assert list((tmp_path / "cache" / "weights").iterdir()) == []


def test_offline(server):
    server.unlink()
    with pytest.raises(CheckpointError, match="cannot download") as caught:
        load_encoder(make().encoder, "mobilenet_v2", "auto")
    assert "`--weights FILE`" in caught.value.fix
    assert "`--weights none`" in caught.value.fix
