from __future__ import annotations

from pathlib import Path

from p2pfl.experiment.file import read_experiment
from p2pfl.experiment.results import FinishedRun
from tests.bench.results.fedsgd import rounds_to_target, table
from tests.support.simulated import row

EXPERIMENT = """
[experiment]
task = "digits"
until = "accuracy=0.9"
[grid]
partition = ["iid"]
epochs = [1, 5]
batch_size = [1000, 10]
lr = [0.1, 0.3]
"""

ROUNDS = {("1", "1000", "0.1"): 90, ("1", "1000", "0.3"): 60, ("5", "10", "0.1"): 5, ("5", "10", "0.3"): 6}
"""Rounds to the target by epochs, batch size and learning rate; the others do not reach it."""


def finished(folder: Path) -> list[FinishedRun]:
    path = folder / "experiment.toml"
    path.write_text(EXPERIMENT, encoding="utf-8")
    runs = []
    for planned in read_experiment(path).runs:
        chosen = planned.settings
        count = ROUNDS.get((chosen["epochs"], chosen["batch_size"], chosen["lr"]), 0)
        values = [0.5] * (count - 1) + [0.95] if count else [0.5]
        rows = (row(number, metrics={"accuracy": one}) for number, one in enumerate(values, 1))
        runs.append(FinishedRun(planned, "accuracy", "max", tuple(rows)))
    return runs


def test_the_round_that_reaches_the_target_counts(tmp_path: Path) -> None:
    runs = finished(tmp_path)
    assert rounds_to_target(runs[0]) == 90
    assert rounds_to_target(runs[2]) is None


def test_the_table_has_the_best_learning_rate_and_the_factor_over_fedsgd(tmp_path: Path) -> None:
    lines = table(finished(tmp_path)).splitlines()
    assert "| FedSGD | 1 | inf | 60 (1.0x), lr 0.3 |" in lines
    assert "| FedAvg | 5 | 10 | 5 (12.0x), lr 0.1 |" in lines
    assert "| FedAvg | 5 | inf | not reached |" in lines
