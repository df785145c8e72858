from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner

from p2pfl.cli import simulate as module
from p2pfl.sim import seeds
from p2pfl.sim.seeds import Outcome, SimulationSettings

SMALL = ["--nodes", "3", "--rounds", "2"]


app = Typer()
app.command()(module.simulate)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


def test_seeds_that_hold_are_counted_and_end_with_0() -> None:
    result = run(*SMALL, "--seeds", "3")
    assert result.exit_code == 0
    assert result.stdout.startswith("3 seeds, 9 rounds of 3 nodes in ")
    assert "; no violations" in result.stdout


def test_several_processes_do_the_same() -> None:
    assert "3 seeds, 9 rounds of 3 nodes" in run(*SMALL, "--seeds", "3", "--jobs", "2").stdout


def test_a_violation_is_shown_with_its_seed_its_trace_and_the_command_that_replays_it() -> None:
    result = run(*SMALL, "--seeds", "3", "--without", "bytes")
    assert result.exit_code == 1
    assert "seed 0: possession: " in result.stdout
    assert " node-1 " in result.stdout
    assert result.stdout.splitlines()[-1] == (
        "its whole trace: p2pfl simulate --nodes 3 --rounds 2 --without bytes --seed 0 --trace"
    )


def test_that_command_shows_the_whole_trace() -> None:
    result = run(*SMALL, "--without", "bytes", "--seed", "0", "--trace")
    assert result.exit_code == 1
    assert "starts" in result.stdout.splitlines()[0]
    assert result.stdout.splitlines()[-1].startswith("seed 0: possession: ")


def test_one_seed_that_holds_says_so() -> None:
    result = run(*SMALL, "--seed", "4", "--faults", "none")
    assert (result.exit_code, result.stdout) == (0, "seed 4: 3 rounds, every invariant held\n")


def test_the_command_names_every_setting_that_matters() -> None:
    setting = SimulationSettings(nodes=4, rounds=3, faults="lossy", codec=True, without="pins")
    assert module._command(setting, 7) == (
        "p2pfl simulate --nodes 4 --rounds 3 --faults lossy --codec --without pins --seed 7 --trace"
    )


@pytest.mark.parametrize(
    ("option", "known"), [("--faults", "none, network"), ("--without", "adoption, second")]
)
def test_an_unknown_name_is_refused_with_the_known_ones(option: str, known: str) -> None:
    error = run(option, "weather").exception
    assert f"{option} does not know 'weather'; choose one of {known}" in str(error)


def outcomes_then(interrupt: KeyboardInterrupt) -> Callable[..., Any]:
    def run_seeds(_setting: Any, _seeds: Any, _jobs: Any) -> Iterator[Any]:
        yield from ([Outcome(seed, 3, "")] for seed in range(10, 12))
        raise interrupt

    return run_seeds


def test_an_interrupt_says_how_far_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "run_seeds", outcomes_then(KeyboardInterrupt()))
    result = run(*SMALL, "--first", "10", "--seeds", "50")
    assert result.exit_code == 130
    assert result.stdout.startswith("2 of 50 seeds, 6 rounds of 3 nodes")
    assert result.stdout.endswith("interrupted: seeds 10 to 11 are done, all held\n")


def test_an_interrupt_before_anything_is_done_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_seeds(_setting: Any, _seeds: Any, _jobs: Any) -> Iterator[None]:
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr(seeds, "run_seeds", run_seeds)
    assert run(*SMALL).stdout.endswith("interrupted before the first seeds were done\n")


def test_it_stops_after_a_few_violations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        seeds,
        "run_seeds",
        lambda _setting, seeds, _jobs: ([Outcome(seed, 1, "progress: stuck")] for seed in seeds),
    )
    result = run(*SMALL, "--seeds", "100")
    assert result.stdout.startswith("5 of 100 seeds")
    assert "5 violations" in result.stdout


def test_neither_torch_nor_numpy_is_imported() -> None:
    code = (
        "import sys; from p2pfl.sim.seeds import SimulationSettings, run_seed; run_seed(SimulationSettings(nodes=3, rounds=1), 1); "
        "print(sorted({'torch', 'numpy', 'asyncio', 'sqlite3'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )
