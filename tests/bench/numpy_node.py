"""The program `tests.bench.synthetic_node` with a worker that does not import torch."""

from __future__ import annotations

from tests.bench import synthetic_node

PROGRAM = ("-m", "tests.bench.numpy_node")
"""Argument of `tests.support.processes.Fleet.start`."""


if __name__ == "__main__":
    synthetic_node.main("tests.bench.numpy_worker")
