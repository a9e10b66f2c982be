"""The log of a run: what a crash cut short, where a run goes on, and damage that is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from semiseg_cli.core.errors import CheckpointError
from semiseg_cli.core.runs.log import append_metrics, numbers, read_metrics, truncate_metrics


def test_metrics_are_truncated_to_where_a_run_goes_on(tmp_path: Path) -> None:
    for step in (1, 2, 2, 3):
        append_metrics(tmp_path, {"step": step, "loss": 0.5})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # a crash cut it short
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 2, 3]
    truncate_metrics(tmp_path, 3, 0)
    append_metrics(tmp_path, {"step": 2, "miou": 9.0, "best_miou": 9.0})
    truncate_metrics(tmp_path, 2, 2)
    assert read_metrics(tmp_path)[-1] == {"step": 2, "miou": 9.0, "best_miou": 9.0}
    truncate_metrics(tmp_path, 2, 1)  # the state at this step knows nothing of that evaluation
    append_metrics(tmp_path, {"step": 3})
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 2, 3]
    assert read_metrics(tmp_path)[-1] == {"step": 3}
    assert read_metrics(tmp_path / "absent") == []


@pytest.mark.parametrize(
    ("lines", "number", "said"),
    [
        (['{"step": 1}', "", '{"step": 2}'], 2, "Expecting value"),
        (['{"step": 1, "lo', '{"step": 2}'], 1, "Unterminated"),
        (['{"step": 1}', "[]"], 2, "not a table"), (['{"step": "1"}'], 1, "step is '1'"), (["{}"], 1, "lacks 'step'"),
        (['{"step": 1}', "[" * 100_000], 2, "deeply"), (["1" * 5000], 1, "digit"), (["\0"], 1, "Expecting value"),
    ],
)  # fmt: skip
def test_a_torn_line_of_the_log_is_named(tmp_path: Path, lines: list[str], number: int, said: str) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text("\n".join([*lines, ""]))
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl is damaged") as caught:
        read_metrics(tmp_path)
    assert caught.value.why.startswith(f"line {number}: ")
    assert said in caught.value.why
    assert caught.value.fix == f"sed -i {number}d {log}"


def test_the_numbers_of_a_line() -> None:
    row = {"step": 3, "loss": 0.5, "note": "none", "iou": {"sky": 80.0, "road": None}}
    assert list(numbers(row)) == [("step", 3), ("loss", 0.5), ("iou/sky", 80.0)]
