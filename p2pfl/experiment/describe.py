"""Says in one line what was simulated."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from p2pfl.learning.simulation.simulated import SimulatedRun
from p2pfl.spec import task_name
from p2pfl.strategy_specs import describe_strategy
from p2pfl.text import plural


def describe_run(run: SimulatedRun, varied: Collection[str] = ()) -> str:
    """Return the main options of *run* without the *varied* ones: "digits, 10 clients, iid, 5 rounds"."""
    return ", ".join(_parts(run, varied))


def _counted(count: int, noun: str) -> str:
    return f"{count} {plural(count, noun)}"


def _parts(run: SimulatedRun, varied: Collection[str]) -> Iterator[str]:
    spec, training = run.spec, run.spec.training
    if not {"task", "data"} & {*varied}:
        yield task_name(spec.task)
    if "model" not in varied and (model := getattr(spec.task, "model", "")):
        yield f"model {model}"
    if "clients" not in varied:
        yield _counted(run.clients, "client")
    if run.sample and not {"sample", "fraction"} & {*varied}:
        yield f"{run.sample} of them in a round"
    if "partition" not in varied:
        yield run.partition
    if "strategy" not in varied:
        yield describe_strategy(spec.strategy)
    if run.attackers and "attackers" not in varied:
        yield _counted(len(run.attackers), "attacker")
    if run.attack is not None and "attack" not in varied:
        yield str(run.attack.__struct_config__.tag)
    local = _counted(training.epochs, "local epoch")
    if training.steps:
        local = _counted(training.steps, "local step")
    for name, text in (
        ("rounds", _counted(spec.rounds, "round")),
        ("epochs", local),
        ("batch_size", f"batches of {training.batch_size}"),
        ("lr", f"learning rate {training.learning_rate:g}"),
        ("momentum", f"momentum {training.momentum:g}" if training.momentum else ""),
        ("seed", f"seed {spec.seed}"),
    ):
        if text and name not in varied:
            yield text
