from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from p2pfl.errors import TaskError, UserError, WorkerError
from p2pfl.experiment.file import ExperimentPlan, PlannedRun
from p2pfl.experiment.results import ResultFolder, ResultsUnwritableError, digest_of_run
from p2pfl.experiment.runner import ExperimentRunner, curve_metrics, curves_of, summary_text, write_outputs
from p2pfl.learning.simulation.process import RoundDone, RunBegan
from p2pfl.learning.simulation.simulated import SimulatedRun
from tests.support.experiments import finished, planned
from tests.support.simulated import quick_run, row

RUNS = (planned(1, strategy="fedavg"), planned(2, strategy="fedavg"), planned(1, strategy="median"))


def plan(*runs: PlannedRun) -> ExperimentPlan:
    return ExperimentPlan(Path("compare.toml"), ("strategy", "seed"), runs or RUNS)


class Simulator:
    """Has two rounds for each run, and fails for the seeds in *bad*."""

    def __init__(self, *bad: int, impossible: Sequence[str] = ()) -> None:
        self.bad = bad
        self.impossible = impossible
        self.checked: list[SimulatedRun] = []
        self.asked: list[SimulatedRun] = []

    def check(self, run: SimulatedRun, /) -> None:
        self.checked.append(run)
        if run.partition in self.impossible:
            raise TaskError("The task has too few examples.")

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


def test_an_impossible_run_is_found_before_the_first_one(tmp_path: Path) -> None:
    parts = [planned(seed, partition=name) for name in ("iid", "shards:9999") for seed in (1, 2)]
    simulator = Simulator(impossible=["shards:9999"])
    with pytest.raises(
        UserError,
        match=r"^compare\.toml: the run with partition=shards:9999, seed=1 is impossible: The task has too few",
    ):
        ExperimentRunner(plan(*parts), ResultFolder(tmp_path), Lines()).run(simulator)
    assert ([one.partition for one in simulator.checked], simulator.asked) == (["iid", "shards:9999"], [])


def test_runs_that_differ_in_numbers_only_are_checked_once_and_a_single_run_is_not(tmp_path: Path) -> None:
    simulator = Simulator()
    ExperimentRunner(plan(), ResultFolder(tmp_path / "a"), Lines()).run(simulator)
    assert (simulator.checked, len(simulator.asked)) == ([RUNS[0].run], 3)
    simulator = Simulator()
    ExperimentRunner(plan(RUNS[0]), ResultFolder(tmp_path / "b"), Lines()).run(simulator)
    assert (simulator.checked, len(simulator.asked)) == ([], 1)


def test_a_check_that_breaks_leaves_the_verdict_to_the_run(tmp_path: Path) -> None:
    class Breaking(Simulator):
        def check(self, run: SimulatedRun, /) -> None:
            raise WorkerError("The process has ended.")

    lines = Lines()
    outcome = ExperimentRunner(plan(), ResultFolder(tmp_path), lines).run(Breaking())
    assert lines.said[0] == "the check of strategy=fedavg, seed=1 failed: The process has ended."
    assert len(outcome.finished) == 3


def test_results_that_somebody_takes_away_end_the_experiment(tmp_path: Path) -> None:
    class Removing(Simulator):
        def run(self, run: SimulatedRun, /) -> Iterator[RunBegan | RoundDone]:
            yield from super().run(run)
            for path in (tmp_path / "runs").iterdir():
                path.unlink()

    with pytest.raises(ResultsUnwritableError, match=r"results of strategy=fedavg, seed=1 are gone from"):
        ExperimentRunner(plan(), ResultFolder(tmp_path), Lines()).run(Removing())


def test_the_time_left_is_that_of_all_runs(tmp_path: Path) -> None:
    ticks, lines = iter([0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]), Lines()  # the first when training begins
    ExperimentRunner(plan(), ResultFolder(tmp_path), lines, clock=lambda: next(ticks)).run(Simulator())
    assert lines.shown[2:4] == [
        "run 1 of 3, 50 s left in all: round 1 of 2, accuracy 0.5100  strategy=fedavg, seed=1",
        "run 1 of 3, 40 s left in all: round 2 of 2, accuracy 0.5200  strategy=fedavg, seed=1",
    ]


def test_results_that_cannot_be_written_end_the_experiment(tmp_path: Path) -> None:
    folder = ResultFolder(tmp_path)
    (tmp_path / "runs" / f"{digest_of_run(RUNS[0].run)}.jsonl").mkdir()
    with pytest.raises(ResultsUnwritableError):
        ExperimentRunner(plan(), folder, Lines()).run(Simulator())


def test_runs_with_one_file_are_refused(tmp_path: Path) -> None:
    twice = [PlannedRun({"workers": str(count)}, quick_run(workers=count)) for count in (1, 2)]
    simulator = Simulator()
    with pytest.raises(
        UserError, match=r"the runs with workers=1 and workers=2 differ only in what computes them"
    ):
        ExperimentRunner(plan(*twice), ResultFolder(tmp_path), Lines()).run(simulator)
    assert simulator.asked == []


def test_what_cannot_be_tracked_is_found_before_the_first_run(tmp_path: Path) -> None:
    for target, words in (("foo:bar", "--track is 'foo:bar'"), (f"csv:{tmp_path}", "cannot be written")):
        simulator = Simulator()
        with pytest.raises(UserError, match=words):
            ExperimentRunner(plan(), ResultFolder(tmp_path), Lines(), track=[target]).run(simulator)
        assert simulator.asked == []


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
    lines = write_outputs(plan(), ResultFolder(tmp_path), runs)
    assert lines == [f"table.md, table.csv, rounds.csv, accuracy.png, backdoor.png in {tmp_path}"]
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "| median" in (tmp_path / "table.md").read_text()


def test_without_matplotlib_there_are_no_curves_and_a_line_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    lines = write_outputs(plan(), ResultFolder(tmp_path), [finished(0.5, strategy="fedavg")])
    assert lines[0] == f"table.md, table.csv, rounds.csv in {tmp_path}"
    assert "pip install 'p2pfl-lan[plots]'" in lines[1]


def test_curves_of_other_settings_are_removed(tmp_path: Path) -> None:
    folder = ResultFolder(tmp_path)
    list(folder.write(RUNS[0], "accuracy", "max", [row(1)]))
    for name in ("accuracy.png", "backdoor.png", "mine.png"):
        (tmp_path / name).write_bytes(b"old")
    write_outputs(plan(), folder, [])
    assert {path.name for path in tmp_path.glob("*.png")} == {"backdoor.png", "mine.png"}, "not ours"
    attacked = PlannedRun({}, quick_run(attackers=1, attack="backdoor"))
    list(folder.write(attacked, "accuracy", "max", [row(1)]))
    write_outputs(plan(), folder, [])
    assert {path.name for path in tmp_path.glob("*.png")} == {"mine.png"}


def test_a_run_whose_rounds_have_no_new_model_says_so_and_why(tmp_path: Path) -> None:
    class Stuck(Simulator):
        def run(self, run: SimulatedRun, /) -> Iterator[RunBegan | RoundDone]:
            yield RunBegan("accuracy", "max")
            yield RoundDone(row(1))
            yield RoundDone(row(2, note="2 updates, and krum needs 5"))

    lines = Lines()
    ExperimentRunner(plan(RUNS[0]), ResultFolder(tmp_path), lines).run(Stuck())
    assert lines.said == [
        "run 1 of 1  strategy=fedavg, seed=1: accuracy 0.5200 (best 0.5200), 1 s; no new model in 1 of 2 rounds: "
        "2 updates, and krum needs 5"
    ]


def test_the_table_says_what_all_runs_have_in_common_and_how_many_are_missing() -> None:
    text = summary_text(plan(), [finished(0.5, strategy="fedavg"), finished(0.4, strategy="median")])
    assert text.splitlines()[-3:] == [
        "2 of 3 runs are finished.",
        "",
        "All runs: digits, model 2nn, 4 clients, iid, 2 rounds, 1 local epoch, batches of 64, learning rate 0.05, "
        "momentum 0.9.",
    ]
    assert summary_text(plan(), []).splitlines() == [
        "no run is finished yet",
        "",
        "0 of 3 runs are finished.",
    ]


def test_a_curve_is_the_mean_over_the_seeds() -> None:
    runs = [finished(0.5, 0.6, seed=1, strategy="fedavg"), finished(0.7, seed=2, strategy="fedavg")]
    [curve] = curves_of(runs, "accuracy")
    [clean] = curves_of([finished(0.5, strategy="median", attack="none")], "accuracy")
    assert clean.label == "median, no attack"
    assert curve.label == "fedavg"
    assert [(number, round(mean, 3), round(spread, 3)) for number, mean, spread in curve.points] == [
        (1, 0.6, 0.141), (2, 0.6, 0.0),
    ]  # fmt: skip
    assert curve_metrics(runs) == ["accuracy"]
    assert curve_metrics([]) == []
