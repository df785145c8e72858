"""The model two node processes commit is the FedAvg of their updates, computed again by hand with torch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from p2pfl.learning.process import Worker, WorkerSettings
from p2pfl.store.directory import DataDirectory
from p2pfl.work import TrainingJob
from tests.support.processes import fleet

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.xdist_group("average")]


async def test_a_round_of_two_nodes_gives_the_average_of_their_updates(tmp_path: Path) -> None:
    async with fleet(tmp_path) as nodes:
        two = await nodes.start_all("ada", "ben", options=["--rounds=1", "--partition=dirichlet:0.5"])
        assert [await process.exit_code() for process in two] == [0, 0]
    directory = DataDirectory(tmp_path / "ada")
    with directory.read_journal() as journal:
        [run] = journal.runs()
        genesis = journal.genesis(run.run)
        [commit] = [one for one in journal.records(run.run, 0, 10**6).commits if one.record.kind == "train"]
    assert genesis is not None
    record = commit.record
    committed = load_file(directory.read_blobs().path(record.model))

    slots = {entry.node: entry.slot for entry in genesis.roster}
    worker = Worker(WorkerSettings(device="cpu", threads=1))
    try:
        created = await worker.create(run.spec, genesis.agreement, tmp_path / genesis.model)
        assert created.digest == genesis.model
        updates = []
        for entry in record.updates:
            path = tmp_path / entry.node
            job = TrainingJob(run.run, 1, run.spec, genesis.agreement, genesis.model, slots[entry.node])
            trained = await worker.train(job, tmp_path, path)
            assert trained is not None
            assert (trained.digest, trained.part.examples) == (entry.digest, entry.examples), (
                "the very same update"
            )
            updates.append((load_file(path), entry.examples))
    finally:
        await worker.close()
    assert len(updates) == 2
    total = sum(examples for _, examples in updates)
    for name, tensor in committed.items():
        by_hand = sum(update[name].double() * examples for update, examples in updates) / total
        assert isinstance(by_hand, torch.Tensor)
        torch.testing.assert_close(tensor.double(), by_hand, rtol=0, atol=1e-6)
