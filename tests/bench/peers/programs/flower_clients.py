"""Many clients with Flower's simulation, `flwr.simulation.run_simulation` with Ray: `flower_clients.py SETTINGS`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

HERE = str(Path(__file__).parent)


def client_app(settings: dict[str, Any]) -> ClientApp:
    """Return the app that trains one client for each message."""
    app = ClientApp()

    @app.train()  # type: ignore[untyped-decorator]
    def train(message: Message, context: Context) -> Message:
        if HERE not in sys.path:  # a process of Ray
            sys.path.insert(0, HERE)
        import lr_clients

        client = int(context.node_config["partition-id"])
        round_ = int(message.content["config"]["server-round"])
        before = message.content["arrays"].to_numpy_ndarrays()
        after = lr_clients.train(settings, before, client, seed=round_ * settings["clients"] + client)
        metrics = MetricRecord({"num-examples": settings["examples"]})
        content = RecordDict({"arrays": ArrayRecord(after), "metrics": metrics})
        return Message(content=content, reply_to=message)

    return app


def server_app(settings: dict[str, Any]) -> ServerApp:
    """Return the app that averages; it marks the end of each round."""
    import lr_clients
    from marks import mark

    app = ServerApp()

    @app.main()  # type: ignore[untyped-decorator]
    def main(grid: Grid, context: Context) -> None:
        def after_a_round(number: int, arrays: ArrayRecord) -> MetricRecord | None:
            mark(settings["marks"], "round")
            if number < settings["rounds"]:
                return None
            value = lr_clients.accuracy(settings, arrays.to_numpy_ndarrays())
            Path(settings["accuracy"]).write_text(str(value), encoding="utf-8")
            return MetricRecord({"accuracy": value})

        strategy = FedAvg(
            fraction_train=settings["sample"] / settings["clients"],
            fraction_evaluate=0.0,
            min_train_nodes=settings["sample"],
            min_available_nodes=settings["clients"],
        )
        strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(lr_clients.initial(settings)),
            num_rounds=settings["rounds"],
            evaluate_fn=after_a_round,
        )

    return app


def main() -> None:
    """Run the simulation; one client has one processor, so as many train at once as there are processors."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    run_simulation(
        server_app(settings),
        client_app(settings),
        num_supernodes=settings["clients"],
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {"include_dashboard": False, "num_cpus": settings["processes"]},
        },
    )


if __name__ == "__main__":
    main()
