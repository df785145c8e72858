"""Devices whose frozen parameters differ train one model: all but one of them pull those of the run."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pfl import events
from tests.support.processes import PRIVATE, Fleet, Process, digests, fleet

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.xdist_group("frozen")]

TASK = """\
import torch
from torch import nn

def model():
    torch.manual_seed(SEED)
    body = nn.Linear(4, 20_000).requires_grad_(False)
    return nn.Sequential(body, nn.Tanh(), nn.Linear(20_000, 2))

def data():
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(3))
    return x, (x[:, 0] > 0).long()

"""

TOOK = re.compile(r"took 0\.4 MB of frozen parameters from (ada|ben|cleo)")


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path) as opened:
        opened.common = (*PRIVATE, "--min-nodes=2", "--rounds=10000")
        yield opened


def task_of(folder: Path, name: str, seed: int) -> str:
    """Write a task file whose frozen layer follows from *seed*; return the option that names it."""
    file = folder / "tasks" / name / "task.py"
    file.parent.mkdir(parents=True)
    file.write_text(f"{TASK}SEED = {seed}\n", encoding="utf-8")
    return f"--task={file}"


def frozen_of(nodes: Fleet, name: str) -> bytes:
    """Return the frozen tensors in the data directory of node *name*, which has one file of them."""
    [path] = (nodes.folder / name / "frozen").iterdir()
    return path.read_bytes()


async def trains(process: Process) -> None:
    """Wait for a round in which the update of *process* counts."""
    await process.until(
        events.Committed, lambda event: any(one.name == process.name for one in event.updates)
    )


async def test_frozen_parameters_that_differ_are_pulled_once_also_by_a_late_device(
    nodes: Fleet, tmp_path: Path
) -> None:
    tasks = {name: task_of(tmp_path, name, seed) for seed, name in enumerate(("ada", "ben", "cleo"))}
    ada = await nodes.start("ada", tasks["ada"])
    ben = await nodes.start("ben", tasks["ben"], peers=[ada])
    await trains(ada)
    await trains(ben)
    assert sum(bool(TOOK.search(one.output)) for one in (ada, ben)) == 1
    cleo = await nodes.start("cleo", tasks["cleo"], peers=[ada])
    await trains(cleo)
    assert len(TOOK.findall(cleo.output)) == 1
    assert frozen_of(nodes, "ada") == frozen_of(nodes, "ben") == frozen_of(nodes, "cleo")
    cleo.end()
    again = await nodes.start("cleo", tasks["cleo"], peers=[ada])
    await trains(again)
    assert not TOOK.search(again.output), "they are on its disk"
    for process in (ada, ben, again):
        process.end()
    assert all(len(found) == 1 for found in digests(nodes.rounds()).values())
    nodes.check()
