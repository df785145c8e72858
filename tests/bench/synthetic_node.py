"""The program `p2pfl node` with the benches' task `synthetic` and a worker that does not train."""

from __future__ import annotations

import sys

import msgspec
import typer

from p2pfl.cli.node import COMMAND_CLASS, node
from p2pfl.learning import catalogue
from p2pfl.learning.data import Bundled
from p2pfl.learning.process import Worker, WorkerSettings
from p2pfl.runtime import start
from tests.bench.synthetic import WIDTHS

PROGRAM = ("-m", "tests.bench.synthetic_node")
"""Argument of `tests.support.processes.Fleet.start`."""


def register() -> None:
    """Add the task to the catalogue of this process."""
    catalogue.CATALOGUE["synthetic"] = catalogue.TaskEntry(
        name="synthetic",
        summary="nothing to learn",
        module="tests.bench.synthetic_task",
        models=tuple(WIDTHS),
        defaults=catalogue.Defaults(
            model="0.4m",
            partition="iid",
            rounds=10,
            epochs=1,
            batch_size=16,
            learning_rate=0.1,
            momentum=0.0,
            weight_decay=0.0,
        ),
        data=Bundled(package="p2pfl", file="__init__.py"),
    )


def main(worker: str = "tests.bench.synthetic_worker") -> None:
    """Run a node whose worker is the module *worker*."""

    def worker_of_synthetic(settings: WorkerSettings) -> Worker:
        program = (sys.executable, "-P", "-m", worker)
        return Worker(msgspec.structs.replace(settings, program=program))

    register()
    start.Worker = worker_of_synthetic  # type: ignore[assignment,attr-defined]  # stands in for the class
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(cls=COMMAND_CLASS)(node)
    app()


if __name__ == "__main__":
    main()
