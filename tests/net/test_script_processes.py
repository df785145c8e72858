"""Scripts and notebooks whose own loops train, beside real nodes: they fail, are interrupted and come back."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from p2pfl.identity.authority import issue
from tests.support.processes import QUICK_SCRIPT, Fleet, address_of, digests, fleet, until
from tests.support.source import ROOT

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.xdist_group("script")]

LOOP = """
import sys
from pathlib import Path
import torch
from torch import nn
import p2pfl

torch.manual_seed(1)
model = nn.Linear(4, 2)
inputs = torch.randn(64, 4)
targets = (inputs[:, 0] > 0).long()
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)

def evaluate(model):
    outputs = model(inputs)
    loss = nn.functional.cross_entropy(outputs, targets)
    return {"accuracy": (outputs.argmax(1) == targets).float().mean(), "loss": loss, "examples": 64}

def train():
    for _ in range(5):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
    return loss.item()
"""

SCRIPT = (
    LOOP
    + """
failed = Path(__file__).with_suffix(".failed")
for round in p2pfl.rounds(model, metrics=evaluate):
    if round.number == FAILS_IN and not failed.exists():
        failed.touch()
        raise ValueError("bad batch")
    round.submit(examples=64, loss=train(), steps=5)
    print("submitted", round)
torch.save(model.state_dict(), Path(__file__).with_suffix(".pt"))
"""
)

NOTEBOOK = (
    LOOP
    + """
certs, data_dir, peer = sys.argv[1:]

def cell():
    node = p2pfl.node(
        certs=certs, data_dir=data_dir, listen="127.0.0.1:0", peers=peer, min_nodes=3, rounds=3, task="train",
        device="cpu", threads=1,
    )
    for round in p2pfl.rounds(model, metrics=evaluate, node=node):
        print("round", round.number, flush=True)
        if round.number == 2 and not interrupted:
            interrupted.append(node)
            raise KeyboardInterrupt
        round.submit(examples=64, loss=train(), steps=5)
    return node

interrupted = []
try:
    cell()
except KeyboardInterrupt:
    print("interrupted", flush=True)
node = cell()
print("the same node", node is interrupted[0], repr(node.why_ended()), flush=True)
"""
)


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path) as opened:
        opened.common = QUICK_SCRIPT
        yield opened


def write_script(folder: Path, fails_in: int) -> str:
    """Write a script that fails once in a round; return its option."""
    folder.mkdir()
    path = folder / "train.py"
    path.write_text(SCRIPT.replace("FAILS_IN", str(fails_in)))
    return f"--script={path}"


def run_notebook(folder: Path, output: Path, *arguments: str) -> subprocess.Popen[bytes]:
    with output.open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, "notebook.py", *arguments],
            cwd=folder,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )


async def test_a_script_that_fails_in_one_round_is_left_out_with_its_line_and_comes_back(
    nodes: Fleet, tmp_path: Path
) -> None:
    shared = ("--rounds=5", "--min-nodes=2")
    fails = write_script(tmp_path / "one", fails_in=3)
    ada = await nodes.start("ada", *shared, fails)
    works = write_script(tmp_path / "two", fails_in=0)
    ben = await nodes.start("ben", *shared, works, peers=[ada])
    assert [await process.exit_code() for process in (ada, ben)] == [0, 0], ada.output + ben.output
    assert ben.output.count("submitted <round ") == 5, "what the script prints is shown"
    nodes.check()
    rows = nodes.rounds()
    assert all(len(found) == 1 for found in digests(rows).values())
    trained = [row for row in rows["ben"] if row.kind == "train"]
    line = 1 + SCRIPT.splitlines().index('        raise ValueError("bad batch")')
    assert [len(row.updates) for row in trained[:3]] == [2, 2, 1]
    assert trained[2].left_out == (("ada", f"its training failed: train.py, line {line}: ValueError"),)
    assert len(trained[-1].updates) == 2, "the script was started again"
    assert {tuple(sorted(row.metrics)) for row in trained} == {("accuracy", "loss")}
    assert {row.examples for row in trained} == {128}
    finals = [(tmp_path / folder / "train.pt").read_bytes() for folder in ("one", "two")]
    assert len(finals) == 2, "both scripts went on after the run"


async def test_a_notebook_is_interrupted_and_its_cell_runs_again(nodes: Fleet, tmp_path: Path) -> None:
    options = ("--rounds=3", "--min-nodes=3")
    ada = await nodes.start("ada", *options, write_script(tmp_path / "one", fails_in=0))
    cleo = await nodes.start("cleo", *options, write_script(tmp_path / "two", fails_in=0), peers=[ada])
    issue(tmp_path / "certs", "ben")
    (tmp_path / "notebook.py").write_text(NOTEBOOK)
    output = tmp_path / "notebook.out"
    notebook = run_notebook(
        tmp_path, output, str(tmp_path / "certs" / "ben"), str(tmp_path / "ben"), address_of(ada)
    )
    try:
        await until(lambda: notebook.poll() is not None or ada.has_ended, "the end", ada)
        await until(lambda: notebook.poll() is not None, "the end of the notebook", ada)
    finally:
        notebook.kill()
        notebook.wait()
    said = await asyncio.to_thread(output.read_text)
    assert said.splitlines() == [
        "round 1",
        "round 2",
        "interrupted",
        "round 2",
        "round 3",
        "the same node True ''",
    ], said
    assert [await process.exit_code() for process in (ada, cleo)] == [0, 0]
    nodes.check("ada", "ben", "cleo")
    trained = [row for row in nodes.rounds("ada")["ada"] if row.kind == "train"]
    assert [len(row.updates) for row in trained] == [3, 3, 3]
