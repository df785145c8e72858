"""The examples run as a user runs them, each with real nodes and the library that it is about."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sklearn.datasets import load_diabetes

import p2pfl.examples
from p2pfl import events, programs
from p2pfl.identity.authority import create_authority, issue
from tests.support.pictures import write_digits
from tests.support.processes import PATIENCE_SECONDS, PRIVATE, QUICK_SCRIPT, Fleet, fleet

pytestmark = pytest.mark.processes

EXAMPLES = Path(p2pfl.examples.__file__).parent
MAX_LINES = 60

ALONE = ("--min-nodes=1",)


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path) as opened:
        yield opened


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    create_authority(tmp_path / "ca")
    return issue(tmp_path / "ca", "ada")


def run(folder: Path, *words: str) -> str:
    """Run a Python program in *folder*; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-P", *words],
        env={**programs.environment(), "MPLBACKEND": "agg"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short_and_the_page_tells_what_it_shows(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < MAX_LINES
    if path.name != "__init__.py":
        assert f"]({path.name})" in (EXAMPLES / "README.md").read_text(encoding="utf-8")


@pytest.mark.long
@pytest.mark.xdist_group("example")
@pytest.mark.parametrize(
    "name",
    [
        "own_loop.py",
        pytest.param("lightning_loop.py", marks=pytest.mark.nightly),
        pytest.param("hugging_face_loop.py", marks=pytest.mark.nightly),
    ],
)
async def test_a_script_with_three_changed_lines_trains(nodes: Fleet, name: str) -> None:
    source = (EXAMPLES / name).read_text(encoding="utf-8")
    assert [source.count(f"  # {number}\n") for number in (1, 2, 3)] == [1, 1, 1]
    nodes.common = QUICK_SCRIPT
    ada = await nodes.start("ada", *ALONE, "--rounds=3", f"--script={EXAMPLES / name}")
    assert await ada.exit_code(2 * PATIENCE_SECONDS) == 0, ada.output
    nodes.check()
    rows = [row for row in nodes.rounds()["ada"] if row.kind == "train"]
    assert [len(row.updates) for row in rows] == [1, 1, 1]
    primary = "mse" if name == "own_loop.py" else "loss"
    assert rows[-1].metrics[primary] < rows[0].metrics[primary]


@pytest.mark.long
@pytest.mark.xdist_group("example")
async def test_an_own_network_is_trained_on_a_folder_of_pictures(nodes: Fleet, tmp_path: Path) -> None:
    photos = write_digits(tmp_path / "photos", range(300))
    options = (f"--task={EXAMPLES / 'own_cnn.py'}", f"--data={photos}", "--rounds=3", "--lr=0.05")
    nodes.common = PRIVATE
    ada = await nodes.start("ada", *ALONE, *options)
    assert await ada.exit_code(2 * PATIENCE_SECONDS) == 0, ada.output
    rows = [row for row in nodes.rounds()["ada"] if row.kind == "train"]
    assert rows[-1].accuracy is not None
    assert rows[-1].accuracy > 0.3, "of ten classes"
    [ended] = ada.all(events.RunEnded)
    assert ended.rounds == 3


def test_a_table_is_trained_on_from_python(tmp_path: Path, certs: Path) -> None:
    inputs, targets = load_diabetes(return_X_y=True, as_frame=True)
    with (tmp_path / "people.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*inputs.columns, "progression"])
        writer.writerows([*row, target] for row, target in zip(inputs.to_numpy(), targets, strict=True))
    printed = run(
        tmp_path, str(EXAMPLES / "csv_table.py"), "people.csv", "progression", f"--certs={certs}",
        "--listen=127.0.0.1:0", "--rounds=4",
    )  # fmt: skip
    lines = printed.splitlines()
    assert [line.partition(":")[0] for line in lines[:4]] == [f"record {number}" for number in range(1, 5)]
    assert lines[-1].startswith("4 rounds; the last one: {")
    assert "'r2'" in lines[-1]


@pytest.mark.long
@pytest.mark.xdist_group("example")
def test_a_node_is_watched_from_python(tmp_path: Path, certs: Path) -> None:
    printed = run(
        tmp_path, str(EXAMPLES / "watch.py"), f"--certs={certs}", "--listen=127.0.0.1:0", "--rounds=2"
    )
    lines = printed.splitlines()
    assert lines[0].startswith("ada listens on 127.0.0.1:")
    assert "round 1 of 2: ada" in lines
    assert sum(line.startswith("accuracy 0.") for line in lines) == 2
    assert lines[-1].startswith("the run is over, complete")


@pytest.mark.nightly
@pytest.mark.xdist_group("example")
def test_the_cells_of_the_notebook_run_in_order(tmp_path: Path) -> None:
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert sum(len(cell.splitlines()) for cell in cells) < MAX_LINES
    assert all(not cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code")
    again = cells.index(next(cell for cell in cells if "p2pfl.node(" in cell))
    assert "p2pfl.rounds" in cells[again + 1]
    program = tmp_path / "cells.py"
    checks = "assert [*table.index] == [1, 2, 3], table\nassert table['accuracy'].iloc[-1] > 0.5, table\n"
    program.write_text("\n".join([*cells, checks]), encoding="utf-8")
    printed = run(tmp_path, str(program))
    assert [line for line in printed.splitlines() if line.startswith("<round")] == [
        "<round 1 of 3>",
        "<round 2 of 3>",
        "<round 3 of 3>",
    ]
