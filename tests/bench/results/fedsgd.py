"""Rounds to a target accuracy, FedSGD against FedAvg: `python -m tests.bench.results.fedsgd EXPERIMENT.toml`.

The experiment is run first, as `p2pfl experiment` does; what is finished is not run again. The table has the
fewest rounds over the learning rates in the grid, as in table 2 of McMahan et al., "Communication-Efficient
Learning of Deep Networks from Decentralized Data" (2017), and how many times fewer than FedSGD's they are.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from p2pfl.experiment.file import read_experiment
from p2pfl.experiment.results import FinishedRun, ResultFolder

WHOLE_BATCH = 1000
"""`batch_size` that stands for all examples of a client, B = inf in the paper."""


def main() -> None:
    """Run the experiment on the command line, and print the table."""
    options = argparse.ArgumentParser(description="Rounds to a target accuracy, FedSGD against FedAvg.")
    options.add_argument("experiment", type=Path, help="a TOML file of this folder")
    options.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the results")
    chosen = options.parse_args()
    command = [sys.executable, "-m", "p2pfl", "experiment", chosen.experiment, "--output", chosen.output]
    if code := subprocess.run(command, check=False).returncode:
        sys.exit(code)
    folder = ResultFolder(chosen.output)
    finished = [
        run for one in read_experiment(chosen.experiment).runs if (run := folder.read(one)) is not None
    ]
    print(table(finished))


def table(finished: Iterable[FinishedRun]) -> str:
    """Return the table of the *finished* runs in Markdown."""
    by_rate: dict[tuple[str, int, int, str], list[int | None]] = {}
    for run in finished:
        settings = run.planned.settings
        key = settings["partition"], int(settings["epochs"]), int(settings["batch_size"]), settings["lr"]
        by_rate.setdefault(key, []).append(rounds_to_target(run))
    rounds: dict[tuple[str, int, int], tuple[float, str]] = {}
    for (partition, epochs, batch, rate), found in by_rate.items():
        reached = [one for one in found if one is not None]
        if len(reached) == len(found):  # all seeds
            best = rounds.get((partition, epochs, batch), (float("inf"), ""))
            rounds[partition, epochs, batch] = min(best, (statistics.fmean(reached), rate))
    partitions = sorted({key[0] for key in by_rate})
    kinds = sorted({key[1:3] for key in by_rate}, key=lambda one: (one != (1, WHOLE_BATCH), one[1], one[0]))
    lines = [
        "| | E | B | " + " | ".join(partitions) + " |",
        "| --- | --- | --- | " + " | ".join("---" for _ in partitions) + " |",
    ]
    for epochs, batch in kinds:
        name = "FedSGD" if (epochs, batch) == (1, WHOLE_BATCH) else "FedAvg"
        cells = (_cell(rounds, one, epochs, batch) for one in partitions)
        shown = "inf" if batch == WHOLE_BATCH else str(batch)
        lines.append(f"| {name} | {epochs} | {shown} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def rounds_to_target(run: FinishedRun) -> int | None:
    """Return the round in which *run* reached its target; None if it did not."""
    target = run.planned.run.spec.stopping.until
    assert target is not None
    reached = (row.round for row in run.rows if row.metrics.get(target.metric, 0.0) >= target.value)
    return next(reached, None)


def _cell(
    rounds: Mapping[tuple[str, int, int], tuple[float, str]], partition: str, epochs: int, batch: int
) -> str:
    found = rounds.get((partition, epochs, batch))
    if found is None:
        return "not reached"
    base = rounds.get((partition, 1, WHOLE_BATCH))
    factor = f" ({base[0] / found[0]:.1f}x)" if base is not None else ""
    return f"{found[0]:.0f}{factor}, lr {found[1]}"


if __name__ == "__main__":
    main()
