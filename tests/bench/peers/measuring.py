"""The command line and the course of a peer's bench: a run for each size of model, each in a world of its own."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.alone import Settings, parser, report_on
from tests.bench.ballast import WIDTHS, parameters
from tests.bench.peers.figures import NODES, PARAMETER_BYTES, SMALLEST, Outcome, figures
from tests.bench.peers.prepare import python_of
from tests.bench.peers.world import MemoryExceededError, World, world
from tests.bench.report import MODEL_NAMES, PEAK, Figure

SIZES = (SMALLEST, "11m")
LARGE = "100m"
"""Only on request: it takes minutes and gigabytes."""

MEMORY_GB = 8.0
"""What one program and its descendants may take before the run is stopped: 20 models of 100 M parameters."""


@dataclass(frozen=True)
class Peer:
    """A program to be measured."""

    name: str
    environment: str
    """Of those that `prepare` makes."""
    run: Callable[[World, str, int], Outcome]
    """Runs a federation: in which world, with which model, for how many rounds."""
    rounds: dict[str, int]
    """Boundaries of rounds to see besides the first, by model."""
    note: str
    """How it was set up, in a few words."""


def run_peer(peer: Peer) -> None:
    """Be the program of the bench of *peer*."""
    options = parser(f"Measure {peer.name}, four nodes on loopback, as we measure ourselves.")
    options.add_argument("--venv", type=Path, required=True, metavar="DIR", help="what prepare made")
    options.add_argument("--sizes", default=",".join(SIZES), help="models, separated by commas: %(default)s")
    options.add_argument("--full", action="store_true", help=f"the model {LARGE} too")
    options.add_argument("--memory-gb", type=float, default=MEMORY_GB, help="stop beyond: %(default)s")
    chosen = options.parse_args()
    sizes = [SMALLEST] if chosen.quick else [*chosen.sizes.split(","), *([LARGE] if chosen.full else [])]
    if unknown := set(sizes) - set(WIDTHS):
        options.error(f"there is no model {', '.join(sorted(unknown))}; there are: {', '.join(WIDTHS)}")
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit("Ended by SIGTERM.")
    )  # so that what was started ends too
    python = python_of(chosen.venv.absolute(), peer.environment)

    def measure(settings: Settings) -> Iterator[Figure]:
        for model in sizes:
            yield from _one(peer, settings.folder / model, python, model, chosen.memory_gb)

    report_on(peer.name, measure, is_quick=chosen.quick, json=chosen.json)


def _one(peer: Peer, folder: Path, python: Path, model: str, memory_gb: float) -> Iterator[Figure]:
    try:
        with world(folder, python, int(memory_gb * 1e9)) as made:
            outcome = peer.run(made, model, peer.rounds[model])
    except MemoryExceededError as error:
        what = PEAK.format(model=MODEL_NAMES[model], nodes=NODES)
        models = memory_gb * 1e9 / (PARAMETER_BYTES * parameters(model))
        yield Figure(what, models, "models", note=f"or more; it did not get through: {error}")
    else:
        yield from figures(outcome, peer.note)
