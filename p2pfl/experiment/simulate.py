"""`p2pfl.simulate`: federated learning with many clients, in this program."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from p2pfl.experiment.options import make_run
from p2pfl.experiment.progress import ProgressLine
from p2pfl.experiment.result import SimulationResult, result_of, run_id
from p2pfl.experiment.tracked import TrackedSimulation
from p2pfl.learning.own.interface import Task
from p2pfl.learning.simulation.federation import open_federation
from p2pfl.learning.simulation.rounds import Simulation
from p2pfl.learning.simulation.simulated import SimulatedRound


def simulate(
    task: str | os.PathLike[str] | Task | None = None,
    *,
    clients: int | None = None,
    rounds: int | None = None,
    seed: int | None = None,
    partition: str | None = None,
    strategy: str | None = None,
    strategy_args: Mapping[str, Any] | None = None,
    sample: int | None = None,
    fraction: float | None = None,
    attackers: int | Sequence[int] | None = None,
    attack: str | None = None,
    attack_args: Mapping[str, Any] | None = None,
    engine: str | None = None,
    ray_address: str | None = None,
    workers: int | None = None,
    vectorised: bool | None = None,
    track: str | Sequence[str] = (),
    progress: bool | Callable[[SimulatedRound], object] | None = None,
    **options: Any,
) -> SimulationResult:
    """Simulate a federation of many clients on this machine; return its rounds and its last model.

    ::

        result = p2pfl.simulate("digits", clients=100, fraction=0.1, rounds=20, partition="dirichlet:0.3")
        print(result.history[-1].metrics["accuracy"])

    Clients train like nodes: with the same options, seed and updates the model has the same bytes.

    Args:
        task: a built-in task, the path of a task file, `package.module:object`, or a `p2pfl.Task`; None:
            digits, or with `data` these data themselves.
        clients: number of clients, among whom the training examples are divided; 10 if not given.
        rounds: number of rounds; that of the task if not given.
        seed: determines the initial model, the division, the order of examples, the clients of each round.
        partition: iid, dirichlet:ALPHA, shards:K and others; `p2pfl/experiment/README.md` lists them.
        strategy: the name of an aggregation strategy; fedavg if not given.
        strategy_args: its options.
        sample: number of clients that train in a round; all if neither this nor *fraction* is given.
        fraction: share of the clients that train in a round.
        attackers: number of clients that attack, or their numbers from 0.
        attack: the name of their attack.
        attack_args: its options.
        engine: what runs the clients; "local" is this machine, "ray" is Ray.
        ray_address: the address of a Ray cluster, or "auto"; if not given, Ray is started on this machine.
        workers: processes that train; one for each processor if not given.
        vectorised: whether clients of one size are trained at once: faster with small models, and the last
            bits of models may differ.
        track: where each round is written too, as with `--track` of a node.
        progress: whether a line shows how far the simulation is, by default on a terminal; or a function that
            is called with each round.
        **options: those of a run, with underscores: model, epochs, batch_size, lr, momentum and so on; also
            data, data_root, download, classes, device, evaluate_every, choose_attackers, personal,
            personalise.

    Raises:
        UserError: an option is unknown or out of its range; the message names it.
        TaskError: the data are missing, or the task is wrong.
    """
    named = {
        "clients": clients, "rounds": rounds, "seed": seed, "partition": partition, "strategy": strategy,
        "strategy_args": strategy_args, "sample": sample, "fraction": fraction, "attackers": attackers,
        "attack": attack, "attack_args": attack_args, "engine": engine, "ray_address": ray_address,
        "workers": workers, "vectorised": vectorised,
    }  # fmt: skip
    own = task if isinstance(task, Task) else None
    run = make_run({**named, **options, "task": None if own is not None else task}, is_object=own is not None)
    with TrackedSimulation(track, run, run_id(run)) as tracked:
        simulation = Simulation(open_federation(run, own))
        shows = progress if isinstance(progress, bool) else progress is None and sys.stderr.isatty()
        line = ProgressLine(sys.stderr, run.spec.rounds) if shows else None
        rows = []
        try:
            for row in simulation.rounds():
                rows.append(row)
                tracked.write(row)
                if line is not None:
                    line.show(row, simulation.agreement.measures.primary)
                if callable(progress):
                    progress(row)
            return result_of(simulation, rows)
        finally:
            if line is not None:
                line.close()
            simulation.close()
