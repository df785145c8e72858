"""Command line of the bench of another program: one run for each size of model."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.command_line import Settings, parser, report_on
from tests.bench.peers.figures import NODES, PARAMETER_BYTES, Outcome, figures
from tests.bench.peers.prepare import python_of
from tests.bench.peers.world import MemoryExceededError, World, world
from tests.bench.report import MODEL_NAMES, PEAK, Figure
from tests.bench.synthetic import SMALLEST, WIDTHS, parameters

SIZES = (SMALLEST, "11m")
LARGE = "100m"
"""Only with `--full`: it takes minutes and gigabytes."""

MEMORY_GB = 8.0
"""Memory limit of one program with its descendants: 20 models of 100 M parameters."""


@dataclass(frozen=True)
class Peer:
    """A program to measure."""

    name: str
    environment: str
    """Name of its virtual environment, made by `prepare`."""
    run: Callable[[World, str, int], Outcome]
    """Runs a federation in a world, with a model, for a number of rounds."""
    rounds: dict[str, int]
    """Round boundaries to wait for after the first one, by model."""
    note: str
    """A few words on how it is set up."""


def run_peer(peer: Peer) -> None:
    """Parse the command line and run the bench of *peer*."""
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
    )  # so that the started programs are ended too
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
