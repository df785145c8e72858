from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from p2pfl.cli import experiment
from p2pfl.errors import P2pflError, UserError, WorkerError
from p2pfl.exit_codes import ExitCode
from p2pfl.experiment.file import read_experiment
from p2pfl.learning.simulation.process import RoundDone, RunBegan, SimulationProcess
from p2pfl.learning.simulation.simulated import SimulatedRun
from tests.support.simulated import row

TEXT = """
[experiment]
model = "2nn"
clients = 4
rounds = 2
partition = "iid"
workers = 1
[grid]
strategy = ["fedavg", "median"]
seed = [1, 2]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "compare.toml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def run(*words: str, code: int = 0) -> str:
    """Return what `p2pfl experiment WORDS` prints; our own errors pass through, as they do to the main entry."""
    result = CliRunner().invoke(experiment.app, words)
    if isinstance(result.exception, P2pflError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


class Fake:
    """In place of the process that simulates: two rounds for each run."""

    asked: list[SimulatedRun]
    fails: BaseException | None = None

    def run(self, run: SimulatedRun) -> Iterator[RunBegan | RoundDone]:
        self.asked.append(run)
        yield RunBegan("accuracy", "max")
        if self.fails is not None and run.spec.seed == 2:
            raise self.fails
        yield RoundDone(row(1))
        yield RoundDone(row(2))

    def close(self) -> None:
        pass


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    made.asked = []
    monkeypatch.setattr(SimulationProcess, "run", lambda _, run: made.run(run))
    return made


def test_a_new_experiment_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    said = run("new", str(path))
    assert f"Next: `p2pfl experiment {path}`" in said
    text = path.read_text(encoding="utf-8")
    assert tomllib.loads(text)["experiment"]["clients"] == 20
    assert f"p2pfl experiment {path}" in text
    assert len(read_experiment(path).runs) == 24


def test_new_overwrites_nothing(file: Path) -> None:
    with pytest.raises(UserError, match=r"compare\.toml exists and is not overwritten"):
        run("new", str(file))
    with pytest.raises(UserError, match=r"does not end in \.toml"):
        run("new", str(file.with_suffix(".py")))


def test_a_file_is_run_and_run_again_without_work(file: Path, fake: Fake) -> None:
    said = run(str(file))
    assert said.count("run ") == 4
    assert "| fedavg   | 0.5200 ± 0.0000 | 0.5200 ± 0.0000 | 2    | 1.0     |" in said
    results = file.with_name("compare-results")
    assert {path.name for path in results.iterdir()} == {
        "runs", "table.md", "table.csv", "rounds.csv", "accuracy.png",
    }  # fmt: skip
    assert len(fake.asked) == 4
    assert "4 of 4 runs are finished already" in run("run", str(file))
    assert len(fake.asked) == 4


def test_changed_settings_are_run_and_the_others_are_kept(file: Path, fake: Fake) -> None:
    run(str(file), "--output", str(file.with_name("out")))
    file.write_text(TEXT.replace("rounds = 2", "rounds = 3"), encoding="utf-8")
    said = run(str(file), "--output", str(file.with_name("out")))
    assert len(fake.asked) == 8
    assert "4 runs of other settings are kept in" in said


def test_the_number_of_workers_changes_no_result(file: Path, fake: Fake) -> None:
    run(str(file), "--workers", "3")
    assert {asked.workers for asked in fake.asked} == {3}
    run(str(file), "--workers", "2")
    assert len(fake.asked) == 4


def test_the_address_of_a_cluster_chooses_ray_and_changes_no_result(file: Path, fake: Fake) -> None:
    run(str(file), "--ray-address", "10.0.0.1:6379")
    assert {(asked.engine, asked.ray_address) for asked in fake.asked} == {("ray", "10.0.0.1:6379")}
    run(str(file))
    assert len(fake.asked) == 4


def test_the_table_alone_runs_nothing(file: Path, fake: Fake) -> None:
    assert "no run is finished yet" in run(str(file), "--table")
    run(str(file))
    assert "| median   |" in run(str(file), "--table")
    assert len(fake.asked) == 4


def test_failed_runs_are_named_and_the_others_are_done(file: Path, fake: Fake) -> None:
    fake.fails = WorkerError("The process has ended.")
    said = run(str(file), code=ExitCode.FAILED)
    assert "failed: strategy=median, seed=2: The process has ended." in said
    assert "| median   | 0.5200        |" in said


def test_an_interrupted_experiment_shows_what_is_finished(file: Path, fake: Fake) -> None:
    fake.fails = KeyboardInterrupt()
    said = run(str(file), code=ExitCode.INTERRUPTED)
    assert "| fedavg   | 0.5200        |" in said
    assert (
        said.splitlines()[-1]
        == "interrupted; the same command goes on, and begins the run that was interrupted anew"
    )


def test_without_arguments_there_is_help() -> None:
    assert "Commands:" in CliRunner().invoke(experiment.app, []).output
    assert "--output DIR" in run("run", "--help")


def test_a_real_experiment_compares_its_settings(file: Path) -> None:
    said = run(str(file), "--track", f"csv:{file.with_name('values.csv')}")
    assert said.count("accuracy 0.") == 4
    assert file.with_name("values.csv").read_text().count(",accuracy,") == 8
