"""Programs that run Ray for a simulation: however they end, nothing of it stays."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from p2pfl.learning.simulation.process import RoundDone, SimulationProcess
from tests.support.simulated import QUICK, quick_run
from tests.support.source import ROOT

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.xdist_group("ray")]

ENDLESS = """
import p2pfl
p2pfl.simulate(**{options}, engine="ray", progress=lambda row: print(row.round, flush=True))
"""


@contextmanager
def descendants_of(pid: int) -> Iterator[None]:
    """Claim that Ray and its processes are there now, and have ended after the block."""
    processes = psutil.Process(pid).children(recursive=True)
    assert {"raylet", "gcs_server"} <= {one.name() for one in processes}
    yield
    assert psutil.wait_procs(processes, 60)[1] == []


@pytest.mark.nightly
def test_an_interrupted_program_ends_its_ray() -> None:
    source = ENDLESS.format(options={**QUICK, "rounds": 100_000})
    program = [sys.executable, "-c", source]
    with subprocess.Popen(
        program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        with descendants_of(process.pid):
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
    assert errors.splitlines()[-1] == "KeyboardInterrupt"


def test_an_experiment_that_is_left_ends_its_ray() -> None:
    simulator = SimulationProcess()
    answers = simulator.run(quick_run(rounds=100_000, engine="ray"))
    while not isinstance(next(answers), RoundDone):
        pass
    started = [
        one for one in psutil.Process().children() if "p2pfl.learning.simulation.main" in one.cmdline()
    ]
    with descendants_of(started[0].pid):
        simulator.close()
