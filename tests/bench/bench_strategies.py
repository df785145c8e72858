"""Compare the aggregation strategies: time and memory over the files of a round, against the mean.

All aggregate the same files, in turns and with one thread, as a worker does. The files are in the page cache.
Peak memory is that of a process of its own for each strategy and number of updates, less what it had with the
code loaded, in models.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import torch

from p2pfl.learning import weights
from p2pfl.learning.aggregation import aggregate
from p2pfl.learning.strategies.registry import STRATEGIES
from p2pfl.schema import TensorSpec, canonical, file_bytes
from p2pfl.spec import RunSpec
from p2pfl.strategy_specs import control_slots, least_updates
from p2pfl.work import AggregatedModel, AggregationJob, WeightedUpdate
from tests.bench.command_line import Settings, run
from tests.bench.report import Figure
from tests.support.core import ballot
from tests.support.learning import make_spec

MODEL_MB = {True: 4, False: 44}
"""Size of a model of float32, by whether the bench is quick: the usual one has 11 M parameters."""

UPDATES = 10

LAYERS = 10

BUDGETS = {"median": 3.0, "multi-krum": 5.0}
"""Time of a strategy, in that of the mean."""

MEMORY_BUDGET = 4.0
"""Peak memory of an aggregation in models, however many updates there are."""


SAMPLE_SECONDS = 0.002
"""Time between two samples of the resident memory. The highest one that the system reports is that of the
imports."""


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the time of each strategy in that of the mean, and the peak memory of some."""
    torch.set_num_threads(1)
    counts = (UPDATES,) if settings.is_quick else (UPDATES, 20, 50)
    size = write(settings.folder, max(counts), MODEL_MB[settings.is_quick])
    turns = 2 if settings.is_quick else 7
    names = ["fedavg", *(name for name in strategy_names() if name != "fedavg")]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(turns + 1):
        for name in names:
            seconds[name].append(one(settings.folder, name, UPDATES))
    mean = statistics.median(seconds["fedavg"][1:])
    what = f"{UPDATES} updates of {size / 1e6:.0f} MB"
    yield Figure(f"the mean (fedavg) of {what}", mean, "s", note=f"median of {turns} turns")
    for name in names[1:]:
        pairs = list(zip(seconds[name], seconds["fedavg"], strict=True))[1:]  # the first turn warms up
        yield Figure(
            f"{name} against the mean",
            statistics.median(own / other for own, other in pairs),
            budget=None if settings.is_quick else BUDGETS.get(name),
            note=f"{statistics.median(seconds[name][1:]):.2f} s",
        )
    for name in ("fedavg", "median", "multi-krum", "bulyan", "centred-clipping"):
        for count in counts:
            yield Figure(
                f"peak memory of {name}, {count} updates",
                peak_bytes(settings.folder, name, count) / size,
                "models",
                budget=None if settings.is_quick else MEMORY_BUDGET,
            )


def strategy_names() -> list[str]:
    """Return the strategies that aggregate updates as they are, with the least numbers of updates for them."""
    specs = [make_spec(strategy=str(kind.__struct_config__.tag)) for kind in STRATEGIES if is_plain(kind)]
    return [
        str(spec.strategy.__struct_config__.tag) for spec in specs if least_updates(spec.strategy) <= UPDATES
    ]


def is_plain(kind: type[msgspec.Struct]) -> bool:
    """Return whether the strategy has defaults for all options, and updates without controls."""
    if kind.__struct_config__.tag == "own":
        return False
    return not control_slots(kind())  # type: ignore[arg-type]


def write(folder: Path, updates: int, megabytes: int) -> int:
    """Write a parent and *updates* near it; return the size of each file in bytes."""
    side = int((megabytes * 1e6 / 4 / LAYERS) ** 0.5)
    schema = canonical(TensorSpec(f"layer{place}.weight", "F32", (side, side)) for place in range(LAYERS))
    elements = sum(spec.elements for spec in schema)
    generator = torch.Generator().manual_seed(7)
    parent = 0.05 * torch.randn(elements, generator=generator)
    weights.write(folder / "parent", schema, [parent], durable=False)
    for number in range(updates):
        change = 0.01 * torch.randn(elements, generator=generator)
        weights.write(folder / f"u{number}", schema, [parent + change], durable=False)
    return file_bytes(schema)


def one(folder: Path, name: str, count: int) -> float:
    """Return the seconds of one aggregation of *count* updates with the strategy *name*."""
    job = job_of(make_spec(strategy=name), count)
    began = time.perf_counter()
    result = aggregate(job, folder, folder / "model", folder / "state")
    seconds = time.perf_counter() - began
    assert isinstance(result, AggregatedModel), result
    return seconds


def job_of(spec: RunSpec, count: int) -> AggregationJob:
    updates = tuple(WeightedUpdate(f"u{number}", 100 + number, steps=10, loss=1.0) for number in range(count))
    return AggregationJob("run", 1, ballot(1, "ada"), spec, "parent", updates)


def peak_bytes(folder: Path, name: str, count: int) -> int:
    """Return the peak memory of one aggregation in a new process, less that before it."""
    command = [sys.executable, "-m", "tests.bench.bench_strategies", "--one", str(folder), name, str(count)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def report_peak(folder: Path, name: str, count: int) -> None:
    """Print the peak memory of one aggregation in this process, less that before it."""
    torch.set_num_threads(1)
    torch.zeros(2, 2, dtype=torch.float64) @ torch.zeros(2, 2, dtype=torch.float64)  # loads the library
    process = psutil.Process()
    before = process.memory_info().rss
    samples = [before]
    is_done = threading.Event()

    def sample() -> None:
        while not is_done.wait(SAMPLE_SECONDS):
            samples.append(process.memory_info().rss)

    sampler = threading.Thread(target=sample)
    sampler.start()
    one(folder, name, count)
    is_done.set()
    sampler.join()
    print(max(samples) - before)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        report_peak(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        run("strategies", measure)
