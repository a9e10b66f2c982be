"""What a run directory says, read at once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from semiseg_cli.core import runs
from semiseg_cli.core.config.names import Flat
from semiseg_cli.core.errors import CheckpointError
from semiseg_cli.core.inference.metrics import HEADLINE, quality
from semiseg_cli.core.reading import read_json, shaped
from semiseg_cli.core.runs.log import read_metrics
from semiseg_cli.core.runs.results import earlier_results, read_evaluation, read_partition, read_result
from semiseg_cli.stages.apart import trained_by
from semiseg_cli.stages.runs import Settings

Row = dict[str, Any]
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Recorded:
    """A run, finished or not. What an earlier version did not write is empty."""

    run: Path
    config: Flat
    origins: dict[str, str]
    rows: list[Row]
    result: dict[str, Any]
    environment: dict[str, Any]
    partition: dict[str, Any]
    evaluation: dict[str, Any]
    earlier: list[dict[str, Any]]  # results from before the run went on for longer

    @classmethod
    def of(cls, run: Path) -> Recorded:
        """Raises UsageError for what is no run, CheckpointError for one whose files are damaged."""
        config, environment = runs.read_config(run), run / "environment.json"
        try:
            shaped(config, Settings)
            told = read_json(environment) if environment.exists() else {}
            shaped(told, dict[str, Any], "environment.json")
        except (OSError, ValueError) as error:
            raise CheckpointError(f"the run {run} cannot be read", why=str(error)) from error
        return cls(
            run,
            config,
            runs.read_origins(run),
            read_metrics(run),
            read_result(run) if runs.is_finished(run) else {},
            told,
            read_partition(run),
            read_evaluation(run),
            earlier_results(run),
        )

    @property
    def title(self) -> str:
        """What trains: the method with its plug-ins, or a probe."""
        return trained_by(self.config, self.result)

    @property
    def steps(self) -> int:
        return int(self.config["train.steps"])

    @property
    def step(self) -> int:
        """The last that is known of."""
        return int(self.result["steps"]) if self.result else int(max((row["step"] for row in self.rows), default=0))

    @cached_property
    def evaluations(self) -> list[Row]:
        return [row for row in self.rows if HEADLINE.name in row]

    @property
    def last(self) -> Row | None:
        return self.evaluations[-1] if self.evaluations else None

    @property
    def best_by(self) -> str:
        """What the best evaluation is chosen by."""
        return str(self.config.get("train.best_by", HEADLINE.name))

    @property
    def best(self) -> Row | None:
        return max(self.evaluations, key=lambda row: quality(row, self.best_by), default=None)

    @property
    def classes(self) -> list[str]:
        return list(self.evaluation.get("classes") or (self.last or {}).get("iou", {}))

    def curve(self, name: str, factor: float = 1.0) -> Points:
        """A number of the log over steps."""
        return [(row["step"], factor * row[name]) for row in self.rows if isinstance(row.get(name), int | float)]

    def by_class(self, names: Iterable[str]) -> dict[str, Points]:
        """The first of these that the log has by class, over steps: a curve for each class."""
        for name in names:
            found = [(row["step"], row[name]) for row in self.rows if isinstance(row.get(name), dict)]
            if found:
                return {each: [(step, _number(value.get(each))) for step, value in found] for each in found[0][1]}
        return {}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0
