"""The example in docs/gpus.md: `predict` on two local workers of an engine that knows nothing of torch.distributed."""

from __future__ import annotations

import re
import shutil
from functools import partial
from pathlib import Path

import pytest
from fake_small import known

from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.stages.predict import predict_images
from semiseg_cli.stages.probe import probe, settings_of

distributed = pytest.importorskip("distributed", reason="Dask is not installed: pip install distributed")
PAGE = Path(__file__).parents[2] / "docs" / "gpus.md"


def test_two_workers_predict_what_one_command_does(
    shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dask import distributed as engine

    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(shapes_root, "data")
    Path("more").mkdir()
    for number, record in enumerate(load_dataset(Path("data"), "shapes").train[:5]):
        shutil.copy(record.image, f"more/p{number}.jpg")
    Path("more/p3.jpg").write_bytes(b"no photo")
    here = {"data_root": Path("data"), "runs_root": Path("runs"), "out": Path("run"), "device": "cpu"}
    small = {"data.name": "shapes", "model.backbone": "small", "model.weights": "none", "train.steps": 1}
    local = partial(engine.Client, processes=False, dashboard_address=None)  # two workers of this process
    monkeypatch.setattr(engine, "Client", local)
    with known():
        probe(settings_of(small), **here)
        shutil.copy("run/last.safetensors", "best.safetensors")
        predict_images(Path("best.safetensors"), [Path("more")], out=Path("alone"), overlay=False, device="cpu")
        exec(code.replace(", 200\n", ", 2\n"), {"__name__": "__main__"})
    assert capsys.readouterr().out.splitlines()[-1] == "5 photos, of which 1 cannot be read"
    assert sorted(path.name for path in Path("predicted").iterdir()) == ["00000", "00001", "00002"]
    labels = {path.name: path.read_bytes() for path in Path("predicted").glob("*/labels/*.png")}
    assert labels == {path.name: path.read_bytes() for path in Path("alone/labels").iterdir()}
    assert len(labels) == 4
