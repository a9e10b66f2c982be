"""Results of a run that are damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from semiseg_cli.core.errors import CheckpointError
from semiseg_cli.core.runs.results import read_evaluation, read_partition, read_result


@pytest.mark.parametrize("text", ["[]", '{"name": 3}', "{", "[" * 100_000, '{"labeled": "x"}'])
def test_damaged_files_of_a_run_are_named(tmp_path: Path, text: str) -> None:
    readers = {"partition": read_partition, "result": read_result, "evaluation": read_evaluation}
    for name, read in readers.items():
        (tmp_path / f"{name}.json").write_text(text)
        with pytest.raises(CheckpointError, match=rf"{name}\.json is damaged"):
            read(tmp_path)


def test_an_evaluation_has_an_entry_for_each_class(tmp_path: Path) -> None:
    found = {"step": 1, "classes": ["a", "b"], "palette": [], "frequency": [9.0, 1.0], "images": {}}
    (tmp_path / "evaluation.json").write_text(json.dumps(found | {"confusion": [[1, 0], [0]]}))
    with pytest.raises(CheckpointError, match="is damaged") as caught:
        read_evaluation(tmp_path)
    assert caught.value.why == "its lists do not have an entry for each class"
    assert caught.value.fix == f"rm {tmp_path / 'evaluation.json'}"
