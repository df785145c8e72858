"""Flower's older server, `start_server`: `flower_legacy_server.py SETTINGS`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from flwr.common import ndarrays_to_parameters
from flwr.server import ServerConfig, start_server
from flwr.server.strategy import FedAvg
from marks import mark
from weights import make


def main() -> None:
    """Run the rounds; mark the time before there is a model, and the end of every round."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    marks, nodes = settings["marks"], settings["nodes"]
    mark(marks, "base")

    def after_a_round(number: int, parameters: object, config: object) -> None:
        mark(marks, "round")

    start_server(
        server_address=settings["address"],
        config=ServerConfig(num_rounds=settings["rounds"]),
        strategy=FedAvg(
            fraction_evaluate=0.0,
            min_fit_clients=nodes,
            min_evaluate_clients=0,
            min_available_clients=nodes,
            initial_parameters=ndarrays_to_parameters(make(settings["shapes"])),
            evaluate_fn=after_a_round,
        ),
        grpc_max_message_length=settings["message_bytes"],
        certificates=(
            Path(settings["ca"]).read_bytes(),
            Path(settings["certificate"]).read_bytes(),
            Path(settings["key"]).read_bytes(),
        ),
    )


if __name__ == "__main__":
    main()
