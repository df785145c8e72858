from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from p2pfl.errors import UserError, WorkerError
from p2pfl.learning.simulation import process
from p2pfl.learning.simulation.process import RoundDone, RunBegan, SimulationProcess
from tests.support.simulated import quick_run
from tests.support.user_tasks import write_task

DYING = """
import os, torch
from torch import nn
print("on standard output")
def model(): return nn.Linear(3, 2)
def data(): return torch.randn(40, 3), torch.arange(40) % 2
def loss(outputs, targets):
    if outputs.requires_grad:
        os._exit(3)
    return nn.functional.cross_entropy(outputs, targets)
"""


def test_one_process_runs_one_run_after_another_and_survives_wrong_ones(tmp_path: Path) -> None:
    simulator = SimulationProcess()
    try:
        began, *rounds = list(simulator.run(quick_run()))
        assert began == RunBegan("accuracy", "max")
        assert [one.row.round for one in rounds if isinstance(one, RoundDone)] == [1, 2]
        missing = msgspec.structs.replace(
            quick_run(), places=msgspec.structs.replace(quick_run().places, root=tmp_path)
        )
        task = msgspec.structs.replace(missing.spec.task, name="mnist")
        wrong = msgspec.structs.replace(missing, spec=msgspec.structs.replace(missing.spec, task=task))
        with pytest.raises(UserError, match="data of the task 'mnist' are not on this device"):
            list(simulator.run(wrong))
        simulator.check(quick_run())
        with pytest.raises(UserError, match="data of the task 'mnist' are not on this device"):
            simulator.check(wrong)
        again = list(simulator.run(quick_run()))
        assert isinstance(again[-1], RoundDone)
        assert isinstance(rounds[-1], RoundDone)
        assert again[-1].row.digest == rounds[-1].row.digest
    finally:
        simulator.close()
    simulator.close()


def test_rounds_that_nobody_reads_do_not_get_into_the_next_run() -> None:
    simulator = SimulationProcess()
    try:
        abandoned = simulator.run(quick_run(rounds=3))
        next(abandoned)
        began, *rounds = list(simulator.run(quick_run(rounds=1)))
        assert (began, len(rounds)) == (RunBegan("accuracy", "max"), 1)
    finally:
        simulator.close()


def test_a_process_that_ends_is_an_error_and_the_next_run_has_another_one(tmp_path: Path) -> None:
    simulator = SimulationProcess()
    dying = quick_run(task=write_task(tmp_path, DYING), model=None)
    try:
        with pytest.raises(WorkerError, match=r"has ended \(exit code 3\), perhaps for lack of memory"):
            list(simulator.run(dying))
        assert len(list(simulator.run(quick_run(rounds=1)))) == 2
    finally:
        simulator.close()


def test_a_process_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MODULE", "tests.support.endless")
    monkeypatch.setattr(process, "CLOSE_SECONDS", 0.01)
    simulator = SimulationProcess()
    rounds = simulator.run(quick_run())
    assert next(rounds) == RunBegan("accuracy", "max")
    simulator.close()
