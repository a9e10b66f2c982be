"""Options that several commands have mean one thing and are declared once."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
import typer.main
from rich.text import Text

from semiseg_cli.cli import app, options
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.inference.options import Inference

OWN = {  # these are of the command, or of another thing, where they stand again
    "--out", "--seed", "--steps", "--batch", "--data", "--labeled", "--weights", "--method", "--balance", "--masks",
    "--backbone", "--unlabeled", "--val", "--source", "--archive", "--long-side",
}  # fmt: skip


def declared() -> dict[str, dict[str, Any]]:
    """Help texts of every option by its long name, by command."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)

    def walk(command: Any, path: str) -> None:
        for name, below in getattr(command, "commands", {}).items():
            walk(below, f"{path} {name}")
        for option in command.params:
            for name in option.opts:
                if name.startswith("--"):
                    found[name][path] = option.help

    walk(typer.main.get_command(app), "semiseg")
    return found


def test_an_option_says_the_same_wherever_it_stands() -> None:
    several = {name: texts for name, texts in declared().items() if len(texts) > 1 and name not in OWN}
    assert {"--json", "--root", "--runs-root", "--device", "--set", "--window", "--scales", "--flip"} <= set(several)
    differ = {name: texts for name, texts in several.items() if len(set(texts.values())) > 1}
    assert differ == {}


def test_prediction_options_become_one_value() -> None:
    found = options.inference("801", "0.75, 1,5/4", True, "2/3", 4)
    assert found == Inference(window="801", stride=2 / 3, batch=4, scales=(0.75, 1.0, 1.25), flip=True)
    assert options.inference("auto", "1", False) == Inference()


@pytest.mark.parametrize(("scales", "stride"), [("1,,2", ""), ("big", ""), ("", ""), ("1", "two"), ("1", "1/0")])
def test_numbers_that_are_none(scales: str, stride: str) -> None:
    with pytest.raises(UsageError, match=r"--(scales|stride): '.*' is not a number"):
        options.inference("auto", scales, False, stride)


def test_no_help_loses_a_word_in_brackets() -> None:
    for option, commands in declared().items():
        for command, text in commands.items():
            shown = Text.from_markup(text or "").plain
            assert shown == (text or "").replace("\\[", "["), (command, option)
