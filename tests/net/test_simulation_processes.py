"""A simulation makes the same bytes as real nodes: same seed, same manifests, same models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import p2pfl
from tests.support.processes import fleet

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("simulation")]


@pytest.mark.parametrize(
    ("strategy", "args"),
    [
        pytest.param("fedavg", {}, marks=pytest.mark.long),
        pytest.param("median", {}, marks=pytest.mark.nightly),
        pytest.param("trimmed-mean", {"attackers": 1}, marks=pytest.mark.nightly),
        pytest.param("fedadam", {"server_lr": 0.01}, marks=pytest.mark.nightly),  # a state of the server
        ("scaffold", {}),  # a state, controls of the updates, and a memory of each device
    ],
)
async def test_nodes_and_simulation_commit_the_same_models_round_by_round(
    tmp_path: Path, strategy: str, args: dict[str, Any]
) -> None:
    options = ["--rounds=3", "--seed=5", "--min-updates=3", "--batch-size=64", "--momentum=0.5"]
    options += [f"--strategy={strategy}", *(f"--strategy-arg={name}={value}" for name, value in args.items())]
    async with fleet(tmp_path) as nodes:
        three = await nodes.start_all("ada", "ben", "cleo", options=options)
        assert [await process.exit_code() for process in three] == [0, 0, 0]
        rows = [row for row in nodes.rounds("ada")["ada"] if row.kind == "train"]
    assert [len(row.updates) for row in rows] == [3, 3, 3]
    # Slots follow the order of node ids, and so do the updates of a record: client 0 is the first node id.
    simulated = p2pfl.simulate(
        "digits", clients=3, rounds=3, seed=5, model="2nn", partition="iid", epochs=1, batch_size=64,
        momentum=0.5, device="cpu", strategy=strategy, strategy_args=args,
    )  # fmt: skip
    assert [row.digest for row in simulated.history] == [row.digest for row in rows]
    for ours, theirs in zip(simulated.history, rows, strict=True):
        assert ours.metrics["accuracy"] == pytest.approx(theirs.metrics["accuracy"])
        assert ours.metrics["loss"] == pytest.approx(theirs.metrics["loss"])
