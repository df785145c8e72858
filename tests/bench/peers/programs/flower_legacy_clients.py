"""Many clients with Flower's older simulation, `start_simulation` with Ray: `flower_legacy_clients.py SETTINGS`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lr_clients
from flwr.client import Client, NumPyClient
from flwr.common import Context, ndarrays_to_parameters
from flwr.server import ServerConfig
from flwr.server.strategy import FedAvg
from flwr.simulation import start_simulation
from marks import mark

HERE = str(Path(__file__).parent)


def main() -> None:
    """Run the simulation; it marks the end of each round."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))

    def make_client(context: Context) -> Client:
        if HERE not in sys.path:  # a process of Ray
            sys.path.insert(0, HERE)
        import lr_clients as there

        client = int(context.node_config["partition-id"])

        class Member(NumPyClient):
            def fit(
                self, parameters: list[Any], config: dict[str, Any]
            ) -> tuple[list[Any], int, dict[str, Any]]:
                seed = int(config["round"]) * settings["clients"] + client
                return there.train(settings, parameters, client, seed), settings["examples"], {}

        return Member().to_client()

    def after_a_round(number: int, parameters: list[Any], config: object) -> None:
        mark(settings["marks"], "round")
        if number == settings["rounds"]:
            value = lr_clients.accuracy(settings, parameters)
            Path(settings["accuracy"]).write_text(str(value), encoding="utf-8")

    start_simulation(
        client_fn=make_client,
        num_clients=settings["clients"],
        config=ServerConfig(num_rounds=settings["rounds"]),
        client_resources={"num_cpus": 1, "num_gpus": 0.0},
        ray_init_args={"include_dashboard": False, "num_cpus": settings["processes"]},
        strategy=FedAvg(
            fraction_fit=settings["sample"] / settings["clients"],
            fraction_evaluate=0.0,
            min_fit_clients=settings["sample"],
            min_evaluate_clients=0,
            min_available_clients=settings["clients"],
            initial_parameters=ndarrays_to_parameters(lr_clients.initial(settings)),
            evaluate_fn=after_a_round,
            on_fit_config_fn=lambda number: {"round": number},
        ),
    )


if __name__ == "__main__":
    main()
