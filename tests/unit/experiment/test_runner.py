from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfl.errors import WorkerError
from p2pfl.experiment.file import ExperimentPlan, PlannedRun
from p2pfl.experiment.results import ResultFolder, ResultsUnwritableError, digest_of_run
from p2pfl.experiment.runner import ExperimentRunner, curve_metrics, curves_of, write_outputs
from p2pfl.learning.simulation.process import RoundDone, RunBegan
from p2pfl.learning.simulation.simulated import SimulatedRun
from tests.support.experiments import finished, planned
from tests.support.simulated import row

RUNS = (planned(1, strategy="fedavg"), planned(2, strategy="fedavg"), planned(1, strategy="median"))


def plan(*runs: PlannedRun) -> ExperimentPlan:
    return ExperimentPlan(Path("compare.toml"), ("strategy", "seed"), runs or RUNS)


class Simulator:
    """Has two rounds for each run, and fails for the seeds in *bad*."""

    def __init__(self, *bad: int) -> None:
        self.bad = bad
        self.asked: list[SimulatedRun] = []

    def run(self, run: SimulatedRun, /) -> Iterator[RunBegan | RoundDone]:
        self.asked.append(run)
        yield RunBegan("accuracy", "max")
        yield RoundDone(row(1))
        if run.spec.seed in self.bad:
            raise WorkerError("The process has ended.")
        yield RoundDone(row(2))


class Lines:
    """Keeps what is shown."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.shown: list[str] = []

    def say(self, line: str, /) -> None:
        self.said.append(line)

    def show(self, text: str, /) -> None:
        self.shown.append(text)


def test_finished_runs_are_skipped_and_failed_ones_are_tried_again(tmp_path: Path) -> None:
    folder, lines = ResultFolder(tmp_path), Lines()
    outcome = ExperimentRunner(plan(), folder, lines).run(Simulator(2))
    assert [one.planned for one in outcome.finished] == [RUNS[0], RUNS[2]]
    assert outcome.failed == ((RUNS[1], "The process has ended."),)
    assert lines.said == [
        "run 1 of 3  strategy=fedavg, seed=1: accuracy 0.5200 (best 0.5200), 1 s",
        "run 2 of 3  strategy=fedavg, seed=2: failed: The process has ended.",
        "run 3 of 3  strategy=median, seed=1: accuracy 0.5200 (best 0.5200), 1 s",
    ]
    again, lines = Simulator(), Lines()
    outcome = ExperimentRunner(plan(), folder, lines).run(again)
    assert (again.asked, len(outcome.finished), outcome.failed) == ([RUNS[1].run], 3, ())
    assert lines.said[0] == "2 of 3 runs are finished already"
    assert lines.said[1].startswith("run 3 of 3  strategy=fedavg, seed=2: ")


def test_the_time_left_is_that_of_all_runs(tmp_path: Path) -> None:
    ticks, lines = iter([0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]), Lines()
    ExperimentRunner(plan(), ResultFolder(tmp_path), lines, clock=lambda: next(ticks)).run(Simulator())
    assert lines.shown[1:3] == [
        "run 1 of 3  strategy=fedavg, seed=1: round 1 of 2, accuracy 0.5100; 50 s left for all",
        "run 1 of 3  strategy=fedavg, seed=1: round 2 of 2, accuracy 0.5200; 40 s left for all",
    ]


def test_results_that_cannot_be_written_end_the_experiment(tmp_path: Path) -> None:
    folder = ResultFolder(tmp_path)
    (tmp_path / "runs" / f"{digest_of_run(RUNS[0].run)}.jsonl").mkdir()
    with pytest.raises(ResultsUnwritableError):
        ExperimentRunner(plan(), folder, Lines()).run(Simulator())


def test_rounds_are_tracked(tmp_path: Path) -> None:
    target = tmp_path / "values.csv"
    ExperimentRunner(plan(), ResultFolder(tmp_path), Lines(), track=[f"csv:{target}"]).run(Simulator())
    lines = csv.DictReader(target.read_text().splitlines())
    values = [line for line in lines if line["name"] == "accuracy"]
    assert [(line["run"], line["round"]) for line in values] == [
        (digest_of_run(one.run), str(number)) for one in RUNS for number in (1, 2)
    ]


def test_tables_and_curves_are_written(tmp_path: Path) -> None:
    runs = [
        finished(0.5, 0.6, strategy="fedavg"),
        finished(0.4, metrics={"backdoor": 0.1}, strategy="median"),
    ]
    lines = write_outputs(plan(), tmp_path, runs)
    assert lines == [f"table.md, table.csv, rounds.csv, accuracy.png, backdoor.png in {tmp_path}"]
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "| median" in (tmp_path / "table.md").read_text()


def test_without_matplotlib_there_are_no_curves_and_a_line_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    lines = write_outputs(plan(), tmp_path, [finished(0.5, strategy="fedavg")])
    assert lines[0] == f"table.md, table.csv, rounds.csv in {tmp_path}"
    assert "pip install 'p2pfl-lan[plots]'" in lines[1]


def test_a_curve_is_the_mean_over_the_seeds() -> None:
    runs = [finished(0.5, 0.6, seed=1, strategy="fedavg"), finished(0.7, seed=2, strategy="fedavg")]
    [curve] = curves_of(runs, "accuracy")
    assert curve.label == "fedavg"
    assert [(number, round(mean, 3), round(spread, 3)) for number, mean, spread in curve.points] == [
        (1, 0.6, 0.141), (2, 0.6, 0.0),
    ]  # fmt: skip
    assert curve_metrics(runs) == ["accuracy"]
    assert curve_metrics([]) == []
