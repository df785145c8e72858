"""Says in one line what was simulated."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from p2pfl.learning.simulation.simulated import SimulatedRun
from p2pfl.spec import task_name
from p2pfl.strategy_specs import describe_strategy
from p2pfl.text import plural


def describe_run(run: SimulatedRun) -> str:
    """Return the main options of *run*: "digits, model cnn, 10 clients, iid, fedavg, 5 rounds"."""
    return ", ".join(text for text in _parts(run).values() if text)


def describe_common(runs: Sequence[SimulatedRun]) -> str:
    """Return what all *runs* have in common, as `describe_run` says it."""
    parts = [_parts(run) for run in runs]
    return ", ".join(
        text for name, text in parts[0].items() if text and all(one[name] == text for one in parts)
    )


def describe_sizes(runs: Sequence[SimulatedRun], varied: Collection[str]) -> str:
    """Return how many clients train in a round of the *runs*, if they differ and it is not *varied*; else "".

    A fraction of the clients is more of them for a strategy that needs more updates.
    """
    sizes = sorted({run.sample or run.clients for run in runs})
    if len(sizes) == 1 or {"clients", "sample", "fraction"} & {*varied}:
        return ""
    return f"{', '.join(map(str, sizes[:-1]))} or {sizes[-1]} clients train in a round, as the strategy needs"


def _parts(run: SimulatedRun) -> dict[str, str]:
    spec, training = run.spec, run.spec.training
    model = getattr(spec.task, "model", "")
    local = _counted(training.epochs, "local epoch")
    if training.steps:
        local = _counted(training.steps, "local step")
    return {
        "task": task_name(spec.task),
        "model": f"model {model}" if model else "",
        "clients": _counted(run.clients, "client"),
        "sample": f"{run.sample} of them in a round" if run.sample else "",
        "partition": run.partition,
        "strategy": describe_strategy(spec.strategy),
        "attackers": _counted(len(run.attackers), "attacker") if run.attackers else "",
        "attack": str(run.attack.__struct_config__.tag) if run.attack is not None else "",
        "rounds": _counted(spec.rounds, "round"),
        "epochs": local,
        "batch_size": f"batches of {training.batch_size}",
        "lr": f"learning rate {training.learning_rate:g}",
        "momentum": f"momentum {training.momentum:g}" if training.momentum else "",
        "seed": f"seed {spec.seed}",
    }


def _counted(count: int, noun: str) -> str:
    return f"{count} {plural(count, noun)}"
