from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from p2pfl.learning.simulation import main
from p2pfl.learning.simulation.process import RunAnswer, RunBegan, RunDone, RunFailed
from tests.support.simulated import quick_run


def answers(run: Any) -> list[RunAnswer]:
    sink = io.BytesIO()
    main.serve(run, sink)
    return [msgspec.json.decode(line, type=RunAnswer) for line in sink.getvalue().splitlines()]


def test_a_run_is_answered_by_its_rounds_and_its_end() -> None:
    began, *rounds, end = answers(quick_run(rounds=3))
    assert (began, end, len(rounds)) == (RunBegan("accuracy", "max"), RunDone(), 3)


def test_a_run_that_is_wrong_is_answered_by_the_reason() -> None:
    reason = "The task has 1437 training examples, which cannot be divided into 2000 partitions"
    failed = answers(quick_run(clients=2000))[-1]
    assert isinstance(failed, RunFailed)
    assert (failed.reason.partition(";")[0], failed.is_users) == (reason, True)


def test_an_error_nobody_foresaw_does_not_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> Iterator[Any]:
        raise ZeroDivisionError("why")

    monkeypatch.setattr("p2pfl.learning.simulation.rounds.Simulation.rounds", broken)
    assert answers(quick_run())[-1] == RunFailed(
        "The simulation failed with ZeroDivisionError: why", is_users=False
    )
