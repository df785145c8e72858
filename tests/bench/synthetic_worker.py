"""The worker of the benches: instead of training, it returns the parent model with perturbed parameters.

It uses NumPy on one thread, like the other programs in the comparison.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from p2pfl.collector import uncollected
from p2pfl.learning import worker

with uncollected():  # as the worker itself imports torch
    import numpy as np
    from torch import nn

    from p2pfl.learning import training
    from p2pfl.learning.batches import Batches
    from p2pfl.learning.objective import Objective
    from p2pfl.learning.optimizers import MakeOptimizer, build_optimizer
    from p2pfl.learning.strategies.local import LocalRule
    from p2pfl.spec import LocalTraining
    from tests.bench.synthetic import WORK
    from tests.bench.synthetic_node import register


def perturb(
    module: nn.Module,
    batches: Batches,
    objective: Objective,
    options: LocalTraining,
    *,
    seed: int,
    after_batch: training.AfterBatch,
    make_optimizer: MakeOptimizer = build_optimizer,
    rule: LocalRule | None = None,
    is_over: training.IsOver | None = None,
) -> tuple[int, float]:
    """Multiply every parameter by a factor near 1 that depends on *seed*; record the duration."""
    del rule, is_over
    began = time.monotonic()
    for parameter in module.parameters():
        values = parameter.detach().numpy()
        values *= np.float32(1.0 + seed % 1000 / 1e6)
    if folder := os.environ.get(WORK):
        with (Path(folder) / str(os.getpid())).open("a", encoding="utf-8") as file:
            file.write(f"{time.monotonic() - began}\n")
    after_batch(1, 1)
    return 1, 0.0


if __name__ == "__main__":
    register()
    training.train = perturb
    worker.main()
