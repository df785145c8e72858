"""Runs an experiment: what is finished is skipped, what is new is simulated, and its tables are written."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import msgspec

from p2pfl.cards import metric_text
from p2pfl.errors import P2pflError, UserError
from p2pfl.experiment.describe import describe_common, describe_sizes
from p2pfl.experiment.file import ExperimentPlan, PlannedRun
from p2pfl.experiment.progress import duration
from p2pfl.experiment.results import (
    FinishedRun,
    ResultFolder,
    ResultsUnwritableError,
    digest_of_run,
    unwritable,
)
from p2pfl.experiment.table import group_rows, rounds_csv, table_csv, table_text
from p2pfl.experiment.tracked import TrackedSimulation
from p2pfl.learning.simulation.attack_specs import BACKDOOR
from p2pfl.learning.simulation.process import RoundDone, RunBegan
from p2pfl.learning.simulation.simulated import SimulatedRound, SimulatedRun, representative
from p2pfl.paths import shown
from p2pfl.report.figures import Curve, curves_png
from p2pfl.tracking.targets import open_tracker, parse_target


class Simulator(Protocol):
    """Runs simulations: `p2pfl.learning.simulation.process.SimulationProcess`."""

    def run(self, run: SimulatedRun, /) -> Iterator[RunBegan | RoundDone]:
        """Simulate *run*; yield a `RunBegan` and its rounds."""

    def check(self, run: SimulatedRun, /) -> None:
        """Find out whether *run* is possible, without training."""


class ExperimentScreen(Protocol):
    """Shows people how far an experiment is."""

    def say(self, line: str, /) -> None:
        """Print a line that stays."""

    def show(self, text: str, /) -> None:
        """Show a text that the next one replaces."""


class ExperimentOutcome(msgspec.Struct, frozen=True):
    """What became of the runs of an experiment."""

    finished: tuple[FinishedRun, ...]
    """In the order of the plan."""
    failed: tuple[tuple[PlannedRun, str], ...]
    """Runs without a result, and why."""


class ExperimentRunner:
    """Runs the runs of a plan that are not finished, one after another."""

    def __init__(
        self,
        plan: ExperimentPlan,
        folder: ResultFolder,
        screen: ExperimentScreen,
        *,
        track: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep results in *folder*; write the rounds to the places *track* too."""
        self._plan = plan
        self._folder = folder
        self._screen = screen
        self._track = track
        self._clock = clock
        self._began: float | None = None
        """When the first round began; before it, data are read and processes started, once."""
        self._rounds_done = 0
        """Rounds since the start, also of runs that have ended early or failed."""
        self._rounds_all = 0

    def run(self, simulator: Simulator) -> ExperimentOutcome:
        """Do all runs that are not finished.

        Raises:
            UserError: a run is impossible with the data that there are, or results or what is tracked cannot
                be written.
        """
        self._refuse_equal()
        for text in self._track:
            open_tracker(parse_target(text)).close()
        done = {one.label: self._folder.read(one) for one in self._plan.runs}
        finished = {label: found for label, found in done.items() if found is not None}
        waiting = [one for one in self._plan.runs if one.label not in finished]
        if finished:
            self._screen.say(f"{len(finished)} of {len(self._plan.runs)} runs are finished already")
        self._check(simulator, waiting)
        self._rounds_all = sum(one.run.spec.rounds for one in waiting)
        failed = []
        for number, planned in enumerate(waiting, start=len(finished) + 1):
            place = f"run {number} of {len(self._plan.runs)}"
            due = self._rounds_done + planned.run.spec.rounds
            try:
                self._simulate(simulator, planned, place)
            except ResultsUnwritableError:
                raise
            except P2pflError as error:
                failed.append((planned, str(error)))
                self._screen.say(f"{place}  {planned.label}: failed: {error}")
                continue
            finally:
                self._rounds_done = due
            found = self._folder.read(planned)
            if found is None:
                raise ResultsUnwritableError(
                    f"The results of {planned.label} are gone from {shown(self._folder.folder)}, which "
                    "somebody has changed; start the same command again."
                )
            finished[planned.label] = found
            self._screen.say(f"{place}  {planned.label}: {_summary(found)}")
        ordered = tuple(finished[one.label] for one in self._plan.runs if one.label in finished)
        return ExperimentOutcome(ordered, tuple(failed))

    def _refuse_equal(self) -> None:
        """Refuse runs that have one file for their results.

        Raises:
            UserError: there are two.
        """
        known: dict[str, str] = {}
        for one in self._plan.runs:
            before = known.setdefault(digest_of_run(one.run), one.label)
            if before != one.label:
                raise UserError(
                    f"{shown(self._plan.path)}, [grid]: the runs with {before} and {one.label} "
                    "differ only in what computes them, so their results are the same; leave one out."
                )

    def _check(self, simulator: Simulator, waiting: Sequence[PlannedRun]) -> None:
        """Refuse the experiment before its first run if a later one is impossible."""
        kinds: dict[str, PlannedRun] = {}
        for one in waiting:
            kinds.setdefault(representative(one.run).to_text(), one)
        if len(waiting) == 1:  # it finds it out at once itself
            return
        for number, planned in enumerate(kinds.values(), start=1):
            self._screen.show(f"checking {number} of {len(kinds)}: reading data")
            try:
                simulator.check(planned.run)
            except UserError as error:
                raise UserError(
                    f"{shown(self._plan.path)}: the run with {planned.label} is impossible: {error}"
                ) from error
            except P2pflError as error:  # perhaps the run has more memory later, and it is named if it fails
                self._screen.say(f"the check of {planned.label} failed: {error}")

    def _simulate(self, simulator: Simulator, planned: PlannedRun, place: str) -> None:
        self._screen.show(f"{place}, reading data  {planned.label}")
        answers = simulator.run(planned.run)
        began = next(answers)
        assert isinstance(began, RunBegan)
        if self._began is None:
            self._began = self._clock()
        rows = (answer.row for answer in answers if isinstance(answer, RoundDone))
        with TrackedSimulation(self._track, planned.run, digest_of_run(planned.run)) as tracked:
            for row in self._folder.write(planned, began.primary, began.direction, rows):
                tracked.write(row)
                self._rounds_done += 1
                self._screen.show(f"{place}, {self._progress(planned, row, began.primary)}  {planned.label}")

    def _progress(self, planned: PlannedRun, row: SimulatedRound, primary: str) -> str:
        assert self._began is not None
        left = (self._clock() - self._began) / self._rounds_done * (self._rounds_all - self._rounds_done)
        value = f", {primary} {metric_text(row.metrics[primary])}" if primary in row.metrics else ""
        return f"{duration(left)} left in all: round {row.round} of {planned.run.spec.rounds}{value}"


def _summary(run: FinishedRun) -> str:
    last = f"{run.primary} {metric_text(run.last)}" if run.last is not None else "not evaluated"
    best = f" (best {metric_text(run.best)})" if run.best is not None else ""
    stayed = run.unchanged
    why = f"; no new model in {len(stayed)} of {len(run.rows)} rounds: {stayed[-1].note}" if stayed else ""
    return f"{last}{best}, {duration(run.seconds)}{why}"


def summary_text(plan: ExperimentPlan, finished: Sequence[FinishedRun]) -> str:
    """Return the table of the *finished* runs of *plan*, and below it what they have in common."""
    text = table_text(group_rows(finished))
    if len(finished) < len(plan.runs):
        text += f"\n{len(finished)} of {len(plan.runs)} runs are finished.\n"
    if not finished:
        return text
    runs = [one.run for one in plan.runs]
    sizes = describe_sizes(runs, plan.varied)
    return f"{text}\nAll runs: {describe_common(runs)}{'; ' if sizes else ''}{sizes}.\n"


def write_outputs(plan: ExperimentPlan, results: ResultFolder, finished: Sequence[FinishedRun]) -> list[str]:
    """Write tables and curves of the *finished* runs to *results*; return lines that say what is where.

    Raises:
        UserError: they cannot be written.
    """
    folder = results.folder
    files: dict[str, bytes] = {
        "table.md": summary_text(plan, finished).encode(),
        "table.csv": table_csv(group_rows(finished)).encode(),
        "rounds.csv": rounds_csv(finished).encode(),
    }
    lines = []
    stale: set[str] = set()
    try:
        for name in curve_metrics(finished):
            files[f"{name}.png"] = curves_png(curves_of(finished, name), name, plan.path.stem)
        stale = {f"{metric}.png" for metric in results.metrics()} - files.keys()
    except UserError as error:  # matplotlib is not installed
        lines.append(f"no curves: {error}")
    try:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        for name in stale:
            (folder / name).unlink(missing_ok=True)  # curves of other settings
    except OSError as error:
        raise unwritable(folder, error) from error
    return [f"{', '.join(files)} in {shown(folder)}", *lines]


def curve_metrics(finished: Sequence[FinishedRun]) -> list[str]:
    """Return the metrics of which curves are drawn: the primary one, and that of a backdoor."""
    if not finished:
        return []
    measured = {name for run in finished for row in run.rows for name in row.metrics}
    return [name for name in (finished[0].primary, BACKDOOR) if name in measured]


def curves_of(finished: Sequence[FinishedRun], metric: str) -> list[Curve]:
    """Return a curve of *metric* for each setting, over the seeds."""
    groups: dict[tuple[tuple[str, str], ...], dict[int, list[float]]] = {}
    for run in finished:
        rounds = groups.setdefault(run.planned.group, {})
        for row in run.rows:
            if metric in row.metrics:
                rounds.setdefault(row.round, []).append(row.metrics[metric])
    return [
        Curve(
            ", ".join(f"no {name}" if value == "none" else value for name, value in group) or metric,
            [
                (number, statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0)
                for number, values in sorted(rounds.items())
            ],
        )
        for group, rounds in groups.items()
        if rounds
    ]
