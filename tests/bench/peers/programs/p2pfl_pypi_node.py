"""A node of the p2pfl on PyPI: `p2pfl_pypi_node.py SETTINGS NUMBER`.

It prints "connected" once it has a link to every other node, and begins the run when a line comes on standard
input, if its number is 0. It serves until it is killed.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from marks import mark
from p2pfl.settings import Settings
from weights import Weights, make, perturb

SETTINGS: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
Settings.set_from_dict(
    SETTINGS["settings"]
)  # before the other imports: they start a Ray cluster unless told not to

from datasets import Dataset  # noqa: E402
from p2pfl.learning.dataset.p2pfl_dataset import P2PFLDataset  # noqa: E402
from p2pfl.learning.frameworks.learner import Learner  # noqa: E402
from p2pfl.learning.frameworks.p2pfl_model import P2PFLModel  # noqa: E402
from p2pfl.node import Node  # noqa: E402

LOOK_SECONDS = 0.02
"""Polling interval of the list of neighbours, for which there is no event."""


class Model(P2PFLModel):
    """A list of numpy arrays."""

    def get_parameters(self) -> Weights:
        """See p2pfl."""
        return self.model

    def set_parameters(self, params: Weights | bytes) -> None:
        """See p2pfl."""
        if isinstance(params, bytes):
            params, self.additional_info = self.decode_parameters(params)
        self.model = params

    def build_copy(self, **options: Any) -> Model:
        """Return a model with the parameters in *options*, without the copy that the base class makes."""
        return Model(None, **options)

    def get_framework(self) -> str:
        """See p2pfl."""
        return "numpy"


class Perturbing(Learner):
    """Returns the perturbed parent instead of training, and evaluates nothing."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def fit(self) -> P2PFLModel:
        """Perturb the parent; mark begin and end."""
        mark(SETTINGS["marks"], "begin")
        model = self.get_model()
        model.set_parameters(perturb(model.get_parameters(), self.number))
        mark(SETTINGS["marks"], "end")
        model.set_contribution([self.addr], SETTINGS["samples"])
        return model

    def interrupt_fit(self) -> None:
        """Do nothing: there is nothing to interrupt."""

    def evaluate(self) -> dict[str, float]:
        """Return no metrics, so that none are sent."""
        return {}

    def get_framework(self) -> str:
        """See p2pfl."""
        return "numpy"


def main() -> None:
    """Start, link to all others, and take part."""
    number = int(sys.argv[2])
    mark(SETTINGS["marks"], "base")
    nothing = P2PFLDataset(Dataset.from_dict({"x": [0]}), dataset_name="none")
    model = Model(make(SETTINGS["shapes"]))
    addresses = SETTINGS["addresses"]
    node = Node(model, nothing, addr=addresses[number], learner=Perturbing(number))
    node.start()
    for address in addresses[:number]:
        while address not in node.get_neighbors(only_direct=True):
            node.connect(address)
            time.sleep(LOOK_SECONDS)
    while len(node.get_neighbors(only_direct=True)) < len(addresses) - 1:
        time.sleep(LOOK_SECONDS)
    print("connected", flush=True)
    sys.stdin.readline()
    if number == 0:
        node.set_start_learning(rounds=SETTINGS["rounds"], epochs=1, trainset_size=len(addresses))
    sys.stdin.read()


if __name__ == "__main__":
    main()
