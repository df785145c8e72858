"""The ServerApp for Flower's deployment engine, which aggregates; started by a SuperLink."""

from __future__ import annotations

import json
from pathlib import Path

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from .marks import mark
from .weights import make

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds; mark the time before there is a model, and the end of every round."""
    settings = json.loads(Path(str(context.run_config["settings"])).read_text(encoding="utf-8"))
    marks, nodes = settings["marks"], settings["nodes"]
    mark(marks, "base")

    def after_a_round(number: int, arrays: ArrayRecord) -> MetricRecord | None:
        mark(marks, "round")
        return None

    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=nodes, min_available_nodes=nodes)
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(make(settings["shapes"])),
        num_rounds=settings["rounds"],
        evaluate_fn=after_a_round,
    )
