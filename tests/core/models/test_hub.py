"""Weights from a hub that is a thread of this process: found, downloaded, kept, refused, and absent."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub.constants as constants
import pytest
import timm
import torch
from safetensors.torch import save

from semiseg_cli.core.errors import CheckpointError
from semiseg_cli.core.models import build_encoder, hub, load_encoder, to_download
from semiseg_cli.core.networks import Origin

NAME, REPO = "timm:test_efficientnet", "timm/test_efficientnet.r160_in1k"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves one file; counts what it was asked for. status: of its answers; code: of the error, in the hub's words."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.content, self.tag = b"", ""
        self.status, self.code, self.asked, self.break_after = 200, "", list[tuple[str, str, str]](), 0

    def serve(self, content: bytes) -> None:
        self.content, self.tag = content, hashlib.sha256(content).hexdigest()


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *args: object) -> None: ...

    def do_HEAD(self) -> None:
        self.reply()

    def do_GET(self) -> None:
        self.reply()

    def reply(self) -> None:
        hub, whole = self.server, self.server.content
        begin = int((re.findall(r"bytes=(\d+)-", self.headers.get("Range") or "") or ["0"])[0])
        hub.asked.append((self.command, self.path, str(begin)))
        if hub.status != 200:
            self.send_response(hub.status)
            self.send_header("X-Error-Code", hub.code)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        part = whole[begin:]
        self.send_response(206 if begin else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hub.tag}"')
        self.send_header("Accept-Ranges", "bytes")
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(whole) - 1}/{len(whole)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if self.command == "GET":
            if hub.break_after and not begin:
                self.wfile.write(part[: hub.break_after])
                self.wfile.flush()
                self.connection.close()
                return
            self.wfile.write(part)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    served = Hub()
    Thread(target=served.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{served.server_port}")
    monkeypatch.setenv("SEMISEG_CACHE", str(tmp_path / "before"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield served
    served.shutdown()
    served.server_close()


def weights() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return timm.create_model("test_efficientnet").state_dict()


def test_a_model_is_announced_downloaded_and_kept(server: Hub, tmp_path: Path) -> None:
    state = weights()
    server.serve(save(state))
    address = f"http://127.0.0.1:{server.server_port}/{REPO}/resolve/main/model.safetensors"
    assert to_download(NAME, "auto") == f"weights of {NAME} (of unknown size) from {address}"
    encoder, notes = build_encoder(NAME), list[str]()
    line = load_encoder(encoder, NAME, "auto", note=notes.append)
    size = f"{len(server.content) / 1e6:.0f} MB"
    assert notes == [f"downloading model.safetensors of {REPO} ({size}) from {address} to {tmp_path / 'hub'}"]
    assert line.endswith("net.classifier.*, net.conv_head.* left out; licence: apache-2.0")
    assert encoder.origin == Origin(f"{REPO}@{COMMIT[:12]}", "apache-2.0")
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, state[name.removeprefix("net.")])

    asked = len(server.asked)
    server.status = 500
    load_encoder(build_encoder(NAME), NAME, "imagenet", note=notes.append)
    assert to_download(NAME, "auto") == ""
    assert (len(server.asked), len(notes)) == (asked, 1)  # nobody is asked for what is there


def test_a_broken_download_goes_on_where_it_stopped(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    server.serve(save(weights()))
    server.break_after = 100_000
    load_encoder(build_encoder(NAME), NAME, "auto")
    assert [begin for method, _, begin in server.asked if method == "GET"] == ["0", "100000"]


def test_a_file_that_is_not_what_its_tag_says_is_not_kept(server: Hub) -> None:
    server.serve(save(weights()))
    server.tag = "0" * 64
    with pytest.raises(CheckpointError, match=f"cannot download model.safetensors of {REPO}") as caught:
        load_encoder(build_encoder(NAME), NAME, "auto")
    assert "its sha256 is" in caught.value.why
    assert hub.cached(REPO, "model.safetensors") is None


@pytest.mark.parametrize(
    ("status", "code", "what", "fix"),
    [
        (403, "GatedRepo", "is gated: its terms are to be accepted first", "hf auth login"),
        (401, "GatedRepo", "is gated: its terms are to be accepted first", "hf auth login"),
        (404, "EntryNotFound", "there is no http", "--weights FILE"),
        (404, "RepoNotFound", "there is no http", "--weights FILE"),
        (503, "", "cannot download model.safetensors", "--weights FILE"),
    ],
)
def test_what_the_hub_refuses(server: Hub, status: int, code: str, what: str, fix: str) -> None:
    server.status, server.code = status, code
    began = time.monotonic()
    with pytest.raises(CheckpointError, match=what) as caught:
        load_encoder(build_encoder(NAME), NAME, "auto")
    assert fix in caught.value.fix
    assert time.monotonic() - began < 3
    assert [method for method, _, _ in server.asked] == ["HEAD"]  # no retries


def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


def hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a name server does not answer, for less than the seconds that are promised."""
    assert hub.SECONDS < 3
    monkeypatch.setattr(hub, "SECONDS", 0.3)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda *args, **kwargs: time.sleep(20))


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize(
    ("cut", "why"),
    [(unreachable, "refused"), (hanging, "no answer within"), (offline, "HF_HUB_OFFLINE is set")],
    ids=["unreachable", "hanging", "offline"],
)
def test_without_network(
    server: Hub, monkeypatch: pytest.MonkeyPatch, cut: Callable[[pytest.MonkeyPatch], None], why: str, tmp_path: Path
) -> None:
    cut(monkeypatch)
    with torch.device("meta"):
        encoder = build_encoder("dinov2_s")
    began = time.monotonic()
    repo = "timm/vit_small_patch14_dinov2.lvd142m"
    with pytest.raises(CheckpointError) as caught:
        load_encoder(encoder, "dinov2_s", "auto")
    assert time.monotonic() - began < 3
    assert caught.value.what == f"cannot download model.safetensors of {repo} (about 88 MB)"
    assert why in caught.value.why
    assert f"`--weights FILE` with that file, from {hub.address(repo, 'model.safetensors')}" in caught.value.fix
    assert str(tmp_path / "hub") in caught.value.fix
    assert not server.asked


def test_dinov3_is_brought_by_who_accepted_its_terms(server: Hub) -> None:
    assert to_download("dinov3_s", "auto") == ""
    with torch.device("meta"):
        encoder = build_encoder("dinov3_s")
    with pytest.raises(CheckpointError, match="DINOv3 License is to be accepted") as caught:
        load_encoder(encoder, "dinov3_s", "auto")
    assert "timm/vit_small_patch16_dinov3.lvd1689m" in caught.value.fix
    assert not server.asked


def test_a_resnet_downloaded_by_an_earlier_version_is_used(server: Hub, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    encoder = build_encoder("resnet18")
    path = tmp_path / "before" / "weights" / "resnet18-f37072fd.safetensors"
    path.parent.mkdir(parents=True)
    save_file(encoder.state_dict() | {"fc.weight": torch.zeros(1000, 512)}, path)
    assert to_download("resnet18", "auto") == ""
    line = load_encoder(encoder, "resnet18", "auto")
    assert line.endswith(f"from {path}; its fc.* left out; licence: bsd-3-clause")
    assert encoder.origin == Origin("torchvision resnet18-f37072fd", "bsd-3-clause")
    assert not server.asked


@pytest.mark.parametrize("tag", ["", "0" * 40, "5e2f-33"])
def test_a_mirror_that_does_not_say_the_sha256_is_not_believed(server: Hub, tmp_path: Path, tag: str) -> None:
    server.serve(save(weights()))
    server.tag = tag
    with pytest.raises(CheckpointError, match="cannot download") as caught:
        load_encoder(build_encoder(NAME), NAME, "auto")
    assert "size and the sha256" in caught.value.why or "etag" in caught.value.why.lower()
    assert "`--weights FILE`" in caught.value.fix
    assert "GET" not in [method for method, _, _ in server.asked], "it was downloaded"


def test_a_hub_without_https_is_not_asked(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.example.org")
    with pytest.raises(CheckpointError, match="cannot download") as caught:
        load_encoder(build_encoder(NAME), NAME, "auto")
    assert "only https is taken" in caught.value.why
    assert server.asked == []
