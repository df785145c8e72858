from __future__ import annotations

import csv
from pathlib import Path

import pytest

from p2pfl.errors import UserError
from p2pfl.experiment.tracked import TrackedSimulation, measurements
from tests.support.simulated import quick_run, row


def test_each_finite_value_of_a_round_is_written(tmp_path: Path) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    with TrackedSimulation(f"csv:{first}, csv:{second}", quick_run(), "run") as tracked:
        tracked.write(row(1))
        tracked.write(row(2, metrics={"accuracy": float("nan")}))
    lines = list(csv.DictReader(first.read_text().splitlines()))
    assert [(line["round"], line["name"], line["value"]) for line in lines[:5]] == [
        ("1", "accuracy", "0.51"), ("1", "loss", "1"), ("1", "training_loss", "2"), ("1", "updates", "2"),
        ("1", "seconds", "0.5"),
    ]  # fmt: skip
    assert {line["node"] for line in lines} == {""}
    assert "accuracy" not in [line["name"] for line in lines[5:]]
    assert second.read_text().count("\n") == first.read_text().count("\n")


def test_nothing_is_tracked_without_targets() -> None:
    with TrackedSimulation((), quick_run(), "run") as tracked:
        tracked.write(row())
    assert len(list(measurements(row()))) == 5


def test_a_target_of_another_form_is_refused() -> None:
    with pytest.raises(UserError, match="--track is 'paper', and csv:FILE"):
        TrackedSimulation(["paper"], quick_run(), "run")
