"""Bench of the time from process start to the first round: ours and Flower's older engine, in turns in one run.

Both ways are measured: no member imports torch, and every member does. Both programs import the same build of
torch, from the environment of this process. Ours is described in `tests.bench.bench_first_round`, Flower's in
`tests.bench.peers.flower_legacy`.
"""

from __future__ import annotations

import importlib.util
import signal
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.bench import bench_first_round
from tests.bench.bench_first_round import Start
from tests.bench.command_line import Settings, parser, report_on
from tests.bench.peers import figures, flower_legacy
from tests.bench.peers.measuring import MEMORY_GB
from tests.bench.peers.prepare import python_of
from tests.bench.peers.world import world
from tests.bench.report import FIRST_ROUND, Figure
from tests.bench.synthetic import SMALLEST

TURNS = 5

QUICK_TURNS = 2

WAYS = {False: "numpy", True: "torch"}
"""What the members import."""


def main() -> None:
    """Parse the command line and run the bench."""
    options = parser(__doc__.partition("\n")[0])
    options.add_argument("--turns", type=int, default=TURNS, help="starts of each: %(default)s")
    options.add_argument("--venv", type=Path, required=True, metavar="DIR", help="what prepare made")
    chosen = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended by SIGTERM."))  # ends what was started too
    python = python_of(chosen.venv.absolute(), "flower")
    turns = min(chosen.turns, QUICK_TURNS) if chosen.quick else chosen.turns

    def measure(settings: Settings) -> Iterator[Figure]:
        found: dict[tuple[str, bool], list[Start]] = {}
        for turn in range(turns):
            for has_torch, way in WAYS.items():
                folder = settings.folder / f"{turn}-{way}"
                folder.mkdir()
                ours = bench_first_round.first_round(folder / "ours", has_torch=has_torch)
                found.setdefault(("p2pfl", has_torch), []).append(ours)
                flowers = of_flower(folder / "flower", python, has_torch=has_torch)
                found.setdefault(("Flower", has_torch), []).append(flowers)
        yield from compared(found)

    report_on("peers.first_round", measure, is_quick=chosen.quick, json=chosen.json)


def compared(found: dict[tuple[str, bool], list[Start]]) -> Iterator[Figure]:
    """Yield the medians of the turns, and those of the ratios within a turn."""
    for has_torch, way in WAYS.items():
        ours, flowers = found["p2pfl", has_torch], found["Flower", has_torch]
        for name, starts in (("p2pfl", ours), ("Flower", flowers)):
            yield from bench_first_round.figures(f"{FIRST_ROUND}, {name}, {way}", starts)
        turns = list(zip(ours, flowers, strict=True))
        ratios = [one.seconds / other.seconds for one, other in turns]
        note = f"{min(ratios):.2f} to {max(ratios):.2f}"
        what = f"{FIRST_ROUND}, p2pfl / Flower, {way}"
        yield Figure(what, statistics.median(ratios), budget=1.0, note=note)
        used = [one.processor_seconds / other.processor_seconds for one, other in turns]
        yield Figure(f"{what}: processor time", statistics.median(used))


def of_flower(folder: Path, python: Path, *, has_torch: bool) -> Start:
    """Run one round of Flower's older engine in the new folder *folder*.

    The processor time is that of each member when it begins, and of the server just before it sends the model.
    """
    with world(folder, python, int(MEMORY_GB * 1e9)) as made:
        outcome = flower_legacy.run(made, SMALLEST, 1, torch_folder() if has_torch else "")
    first = {mark.pid: mark.used for mark in reversed(outcome.marks) if mark.what in ("begin", "round")}
    return Start(figures.first_round(outcome), sum(first.values()))


def torch_folder() -> str:
    """Return the folder that this process would import torch from; it is not imported."""
    found = importlib.util.find_spec("torch")
    assert found is not None, "torch is required"
    assert found.origin is not None, "it is a package with a file"
    return str(Path(found.origin).parents[1])


if __name__ == "__main__":
    main()
