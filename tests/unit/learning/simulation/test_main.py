from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from p2pfl.learning.simulation import main
from p2pfl.learning.simulation.process import RunAnswer, RunBegan, RunDone, RunFailed, order_line
from tests.support.simulated import quick_run
from tests.support.user_tasks import write_task

BROKEN = """
import torch
def model(): raise ValueError("no layers")
def data(): return torch.randn(40, 3), torch.arange(40) % 2
"""


def checked(run: Any) -> list[RunAnswer]:
    return answers(run, is_check=True)


def answers(run: Any, *, is_check: bool = False) -> list[RunAnswer]:
    sink = io.BytesIO()
    main.serve(order_line(run, is_check=is_check), sink)
    return [msgspec.json.decode(line, type=RunAnswer) for line in sink.getvalue().splitlines()]


def test_a_run_is_answered_by_its_rounds_and_its_end() -> None:
    began, *rounds, end = answers(quick_run(rounds=3))
    assert (began, end, len(rounds)) == (RunBegan("accuracy", "max"), RunDone(), 3)


def test_a_run_that_is_wrong_is_answered_by_the_reason() -> None:
    reason = "With 2000 clients and partition='iid': The task has 1437 training examples, too few for 2000 partitions"
    failed = answers(quick_run(clients=2000))[-1]
    assert isinstance(failed, RunFailed)
    assert (failed.reason.partition(";")[0], failed.is_users) == (reason, True)


def test_a_check_trains_nothing_and_finds_what_is_wrong(tmp_path: Path) -> None:
    assert checked(quick_run()) == [RunDone()]
    for run, words in (
        (quick_run(clients=2000), "too few for 2000 partitions"),
        (quick_run(personal=["nothing.*"]), "nothing"),
        (
            quick_run(task=write_task(tmp_path, BROKEN), model=None),
            "mine.py, line 2, in model(): ValueError: no layers",
        ),
    ):
        [failed] = checked(run)
        assert isinstance(failed, RunFailed)
        assert words in failed.reason


def test_an_order_that_cannot_be_read_is_answered_too() -> None:
    sink = io.BytesIO()
    main.serve(b'{"run": "{}"}', sink)
    answer = msgspec.json.decode(sink.getvalue(), type=RunAnswer)
    assert isinstance(answer, RunFailed)
    assert "ValidationError" in answer.reason


def test_an_error_nobody_foresaw_does_not_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> Iterator[Any]:
        raise ZeroDivisionError("why")

    monkeypatch.setattr("p2pfl.learning.simulation.rounds.Simulation.rounds", broken)
    assert answers(quick_run())[-1] == RunFailed(
        "The simulation failed with ZeroDivisionError: why", is_users=False
    )
