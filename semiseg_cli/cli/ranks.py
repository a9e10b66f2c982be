"""Which of several processes this is: as torchrun says it (RANK, WORLD_SIZE, ...), or srun."""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping


def is_main() -> bool:
    """Whether this process talks: the only one, or the first of those that torchrun or SLURM started."""
    return int(os.environ.get("RANK", "0")) == 0


def joined() -> bool:
    """Whether this process was started as one of several."""
    return "WORLD_SIZE" in os.environ


def adopt(environ: MutableMapping[str, str] = os.environ) -> None:
    """Say what srun says in torchrun's words, where srun started several of this program and torchrun none.

    A batch script by itself is no step of several tasks. The first machine of the step is where the processes meet.
    """
    size = int(environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if "WORLD_SIZE" in environ or size < 2:
        return
    own = any(name in environ for name in ("SLURM_GPUS_PER_TASK", "SLURM_TRES_PER_TASK"))  # then it sees those alone
    job, step = (int(environ.get(name, "0")) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    environ.update(
        WORLD_SIZE=str(size),
        RANK=environ["SLURM_PROCID"],
        LOCAL_RANK="0" if own else environ["SLURM_LOCALID"],
        MASTER_ADDR=environ.get("MASTER_ADDR", first_host(environ["SLURM_STEP_NODELIST"])),
        MASTER_PORT=environ.get("MASTER_PORT", str(20000 + (17 * job + step) % 10000)),
    )


def first_host(nodes: str) -> str:
    """The first machine of SLURM's list.

    >>> first_host("gpu[03-04,9],login")
    'gpu03'
    """
    found = re.match(r"([^\[,]*)(?:\[(\w+)[^\]]*\])?([^\[,]*)", nodes)
    assert found is not None
    return "".join(part or "" for part in found.groups())
