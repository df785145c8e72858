"""A member of Flower's older server, `start_client`: `flower_legacy_client.py SETTINGS NUMBER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from flwr.client import NumPyClient, start_client
from marks import mark
from weights import Weights, perturb


class Member(NumPyClient):
    """Returns the perturbed parent."""

    def __init__(self, settings: dict[str, Any], number: int) -> None:
        self.settings = settings
        self.number = number

    def fit(self, parameters: Weights, config: object) -> tuple[Weights, int, dict[str, float]]:
        """Return the perturbed parent; mark begin and end."""
        mark(self.settings["marks"], "begin")
        update = perturb(parameters, self.number)
        mark(self.settings["marks"], "end")
        return update, self.settings["samples"], {}


def main() -> None:
    """Serve until the server ends the run."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if folder := settings["torch"]:
        sys.path.append(folder)  # behind the packages of this environment, which has no torch
        import torch  # noqa: F401  as every member that trains with PyTorch
    start_client(
        server_address=settings["address"],
        client=Member(settings, int(sys.argv[2])).to_client(),
        grpc_max_message_length=settings["message_bytes"],
        root_certificates=Path(settings["ca"]).read_bytes(),
    )


if __name__ == "__main__":
    main()
