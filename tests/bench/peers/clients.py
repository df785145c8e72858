"""Bench of simulations of many clients: ours, Flower's with Ray, and Apple's pfl, in turns in one run.

The task is the one that Microsoft's FLUTE compares itself on: 1,000 clients, 10 of them in each of 100 rounds,
logistic regression (784 inputs, 10 classes), 60 examples a client, one epoch in batches of 10. The data are
synthetic with a fixed seed, and all programs read the same files. Nobody evaluates before the last round. The
accuracy of each one's last model shows that all did the same work.

How the others are set up: Flower's clients train with a plain loop of torch, as ours and pfl's do; one client
has one processor, so there are as many of Ray's actors as ours has processes. It is measured with numpy in
place of torch too, whose step takes less time for such a model: this is nearly what Flower's engine takes for
itself. pfl has one process (several need Horovod), and examples that are tensors cut into batches once; ours
is compared with it both with one process and with as many as there are processors, and also where it trains
several clients at once (`vectorised`). *Clients a second* are those of all rounds but the first; *all* is the
time of the whole process, which includes imports, and reading and dividing the data. *Processor time* is less
sensitive than speed to what else runs on the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tests.bench.command_line import Settings, parser, report_on
from tests.bench.peers.prepare import python_of
from tests.bench.peers.world import QUIET
from tests.bench.report import Figure
from tests.support.source import ROOT

PROGRAMS = Path(__file__).with_name("programs")

TASK = {
    "clients": 1000,
    "sample": 10,
    "rounds": 100,
    "examples": 60,
    "inputs": 784,
    "classes": 10,
    "epochs": 1,
    "batch": 10,
    "lr": 0.03,
}

TEST_EXAMPLES = 2000

SEED = 7
"""Of the data."""

QUICK_ROUNDS = 10

TURNS = 3

LOOK_SECONDS = 0.1
"""Time between two looks at the processor time."""

LIMIT_SECONDS = 300.0
"""Time limit of one simulation."""


@dataclass(frozen=True)
class Simulator:
    """A program to measure."""

    name: str
    environment: str
    """Name of its virtual environment, made by `prepare`; empty: the Python of this process."""
    program: str
    processes: int
    """Processes that train."""
    uses_torch: bool = True
    vectorised: bool = False
    """Whether several clients are trained at once."""


@dataclass(frozen=True)
class Turn:
    """One simulation."""

    speed: float
    """Clients a second."""
    processor_ms: float
    """Processor time of all processes for a client, in the same rounds."""
    seconds: float
    """Of the whole process."""
    accuracy: float
    """Of the last model, on the test examples."""


CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

SIMULATORS = (
    Simulator("ours", "", "p2pfl_clients.py", CORES),
    Simulator("ours, one process", "", "p2pfl_clients.py", 1),
    Simulator("ours, vectorised", "", "p2pfl_clients.py", CORES, vectorised=True),
    Simulator("ours, vectorised, one process", "", "p2pfl_clients.py", 1, vectorised=True),
    Simulator("pfl", "pfl", "pfl_clients.py", 1),
    Simulator("Flower", "flower_simulation", "flower_clients.py", CORES),
    Simulator("Flower, numpy", "flower_simulation", "flower_clients.py", CORES, uses_torch=False),
    Simulator("Flower, older interface", "flower_simulation", "flower_legacy_clients.py", CORES),
)

RATIOS = (
    ("ours", "Flower", 10.0),
    ("ours", "Flower, numpy", 10.0),
    ("ours", "Flower, older interface", 10.0),
    ("ours", "pfl", 1.0),
    ("ours, one process", "pfl", 1.0),
    ("ours, vectorised", "Flower", 10.0),
    ("ours, vectorised", "Flower, older interface", 10.0),
    ("ours, vectorised", "ours", 1.5),
    ("ours, vectorised, one process", "ours, one process", 1.5),
)
"""Which speed is divided by which, and the budget."""


def main() -> None:
    """Parse the command line and run the bench."""
    options = parser(__doc__.partition("\n")[0])
    options.add_argument("--turns", type=int, default=TURNS, help="simulations of each: %(default)s")
    options.add_argument("--venv", type=Path, required=True, metavar="DIR", help="what prepare made")
    chosen = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended by SIGTERM."))
    pythons = {
        one.name: python_of(chosen.venv.absolute(), one.environment)
        if one.environment
        else Path(sys.executable)
        for one in SIMULATORS
    }

    def measure(settings: Settings) -> Iterator[Figure]:
        write_data(settings.folder)
        rounds = QUICK_ROUNDS if settings.is_quick else TASK["rounds"]
        turns: dict[str, list[Turn]] = {one.name: [] for one in SIMULATORS}
        for number in range(1 if settings.is_quick else chosen.turns):
            for one in SIMULATORS:
                folder = settings.folder / f"{number}{SIMULATORS.index(one)}"  # short: Ray has sockets in it
                turns[one.name].append(simulate(one, pythons[one.name], folder, settings.folder, int(rounds)))
        yield from figures(turns)

    report_on("peers.clients", measure, is_quick=chosen.quick, json=chosen.json)


def figures(turns: dict[str, list[Turn]]) -> Iterator[Figure]:
    """Yield the medians of *turns*, and the ratios of speeds within a turn."""
    for name, found in turns.items():
        speeds = [one.speed for one in found]
        note = (
            f"{min(speeds):.0f} to {max(speeds):.0f} in {len(found)} turns; accuracy {found[-1].accuracy:.3f}"
        )
        yield Figure(f"simulated clients, {name}", statistics.median(speeds), "a second", note=note)
        used = statistics.median(one.processor_ms for one in found)
        yield Figure(f"processor time of a client, {name}", used, "ms")
        seconds = statistics.median(one.seconds for one in found)
        yield Figure(f"the whole process, {name}", seconds, "s")
    for one, other, budget in RATIOS:
        ratios = [ours.speed / theirs.speed for ours, theirs in zip(turns[one], turns[other], strict=True)]
        note = f"{min(ratios):.2f} to {max(ratios):.2f}"
        yield Figure(f"speed, {one} / {other}", statistics.median(ratios), "", budget, ">=", note)
        pairs = zip(turns[other], turns[one], strict=True)
        used = statistics.median(theirs.processor_ms / ours.processor_ms for theirs, ours in pairs)
        yield Figure(f"processor time, {other} / {one}", used, note="medians of the turns")


def write_data(folder: Path) -> None:
    """Write the examples: random inputs, and as class the largest of ten noisy linear scores."""
    generator = np.random.default_rng(SEED)
    inputs, classes = int(TASK["inputs"]), int(TASK["classes"])
    truth = generator.standard_normal((inputs, classes), dtype=np.float32)
    for what, count in ("train", int(TASK["clients"] * TASK["examples"])), ("test", TEST_EXAMPLES):
        x = generator.standard_normal((count, inputs), dtype=np.float32)
        noise = 5 * generator.standard_normal((count, classes), dtype=np.float32)
        np.save(folder / f"{what}_x.npy", x)
        np.save(folder / f"{what}_y.npy", (x @ truth + noise).argmax(1))


def simulate(simulator: Simulator, python: Path, folder: Path, data: Path, rounds: int) -> Turn:
    """Run *simulator* once with its files in *folder*; end everything that it has started."""
    folder.mkdir()
    settings: dict[str, Any] = {
        **TASK,
        "rounds": rounds,
        "processes": simulator.processes,
        "uses_torch": simulator.uses_torch,
        "vectorised": simulator.vectorised,
        "data": str(data),
        "marks": str(folder / "marks"),
        "accuracy": str(folder / "accuracy"),
    }
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    began = time.monotonic()
    with (folder / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [python, PROGRAMS / simulator.program, folder / "settings.json"],
            cwd=folder,
            env=_environment(simulator, python, folder),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        used = ProcessorTimes(process.pid)
        try:
            while (code := process.poll()) is None and time.monotonic() - began < LIMIT_SECONDS:
                used.look()
                time.sleep(LOOK_SECONDS)
            seconds = time.monotonic() - began
        finally:
            used.end()
            process.wait()
    if code is None:
        raise RuntimeError(f"{simulator.name} took longer than {LIMIT_SECONDS:g} s.")
    if code:
        tail = (folder / "log").read_text(encoding="utf-8", errors="replace")[-1500:]
        raise RuntimeError(f"{simulator.name} ended with exit code {code}: {tail}")
    marks = [json.loads(one)["at"] for one in (folder / "marks").read_text(encoding="utf-8").splitlines()]
    marks = marks[-rounds:]  # Flower also marks the model before the first round
    clients = TASK["sample"] * (len(marks) - 1)
    processor = used.at(marks[-1]) - used.at(marks[0])
    value = float((folder / "accuracy").read_text(encoding="utf-8"))
    return Turn(clients / (marks[-1] - marks[0]), 1000 * processor / clients, seconds, value)


class ProcessorTimes:
    """Processor time of a process and its descendants, looked at from time to time."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._processes: dict[int, psutil.Process] = {pid: self._root}
        self._used: dict[int, float] = {}
        self._looks: list[tuple[float, float]] = [(time.monotonic(), 0.0)]

    def look(self) -> None:
        """Add what was used since the last look. A process that has ended keeps its last value."""
        with contextlib.suppress(psutil.Error):
            self._processes |= {one.pid: one for one in self._root.children(recursive=True)}
        for pid, process in self._processes.items():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                self._used[pid] = times.user + times.system
        self._looks.append((time.monotonic(), sum(self._used.values())))

    def at(self, moment: float) -> float:
        """Return the seconds that were used until *moment*, on the monotonic clock."""
        moments, used = zip(*self._looks, strict=True)
        return float(np.interp(moment, moments, used))

    def end(self) -> None:
        """Kill all processes that were seen."""
        for process in self._processes.values():
            with contextlib.suppress(psutil.Error):
                process.kill()


def _environment(simulator: Simulator, python: Path, folder: Path) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    own = {"PATH": path, "HOME": str(folder), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    if not simulator.environment:
        own["PYTHONPATH"] = str(ROOT)
    return ours | QUIET | own


if __name__ == "__main__":
    main()
