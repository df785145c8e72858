from __future__ import annotations

import time

import pytest

from p2pfl.learning.commands import TrainJobProgress
from p2pfl.learning.pacer import Pacer, TrainingStoppedError


def test_progress_is_reported_a_few_times_a_second_and_not_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reports: list[TrainJobProgress] = []
    clock = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock) * 0.1)
    pacer = Pacer(1, reports.append, lambda: False)  # the clock shows 0.0
    for done in range(1, 11):
        pacer(done, 10)
    assert [progress.done for progress in reports] == [2, 5, 8]
    assert [progress.predicted for progress in reports] == [pytest.approx(1.0)] * 3


@pytest.mark.parametrize(("total", "reported"), [(1, []), (2, []), (3, [2]), (9, [2])])
def test_a_short_training_is_reported_once_or_only_answered(
    monkeypatch: pytest.MonkeyPatch, total: int, reported: list[int]
) -> None:
    reports: list[TrainJobProgress] = []
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    pacer = Pacer(1, reports.append, lambda: False)
    for done in range(1, total + 1):
        pacer(done, total)
    assert [progress.done for progress in reports] == reported


def test_a_slow_first_batch_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[TrainJobProgress] = []
    clock = iter([0.0, 5.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    Pacer(1, reports.append, lambda: False)(1, 4)
    assert reports == [TrainJobProgress(1, 1, 4, 20.0)]


def test_a_stopped_training_ends_after_the_batch() -> None:
    with pytest.raises(TrainingStoppedError):
        Pacer(1, lambda _: None, lambda: True)(1, 4)
