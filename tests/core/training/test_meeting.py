"""Processes that cannot meet say so, and those that wait say for whom."""

from __future__ import annotations

import socket
import warnings
from datetime import timedelta

import pytest

from semiseg_cli.core.errors import DeviceError
from semiseg_cli.core.training import meeting

SHORT = timedelta(seconds=0.5)


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_machine_that_nobody_knows_is_named_at_once(second_of_two: pytest.MonkeyPatch) -> None:
    second_of_two.setenv("MASTER_ADDR", "node-7.invalid")  # a name that never is one (RFC 2606)
    with pytest.raises(DeviceError, match=r"process 1, on .*'node-7\.invalid'") as error:
        meeting.meet("gloo")
    assert "MASTER_ADDR=" in error.value.fix


def test_who_waits_says_for_whom_and_why_it_ends(second_of_two: pytest.MonkeyPatch) -> None:
    """Nobody listens at the port: PyTorch asks again until its time is up."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    second_of_two.setenv("MASTER_PORT", str(port))
    second_of_two.setattr(meeting, "QUIET", 0.05)
    start = meeting.dist.init_process_group
    second_of_two.setattr(meeting.dist, "init_process_group", lambda backend: start(backend, timeout=SHORT))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(DeviceError, match=f"meet at 127.0.0.1:{port}"):
            meeting.meet("gloo")
    assert [str(each.message) for each in told] == [f"still waiting for all 2 processes, at 127.0.0.1:{port}"]
