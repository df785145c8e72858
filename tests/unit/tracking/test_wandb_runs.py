"""Weights & Biases writes its own files, offline, in a process of its own: it starts threads and a service."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from p2pfl import programs

PROGRAM = """
import sys
from p2pfl.tracking.measures import Measurement
from p2pfl.tracking.tracker import TrackedRun
from p2pfl.tracking.wandb_runs import WandbTracker
from tests.support.records import SPEC

tracker = WandbTracker("team/garden")
tracker.close()
for run in ("ab" * 32, "cd" * 32):
    tracker.begin(TrackedRun(run, "ada", SPEC))
    tracker.write(1.5, [Measurement(2, "updates", "", 2.0)])
    tracker.write(1.5, [Measurement(1, "accuracy", "ben", 0.625), Measurement(2, "loss", "", 1.0)])
tracker.close()
print("torch" in sys.modules)
"""


def test_two_runs_of_a_node_are_written_offline(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", PROGRAM],
        env={**programs.environment(), "WANDB_MODE": "offline", "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("False\n")
    files = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert [path.name for path in files] == ["run-abababab-ada.wandb", "run-cdcdcdcd-ada.wandb"]
    for path in files:
        written = path.read_bytes()
        for part in (b"garden", b"team", b"accuracy/ben", b"0.625", b"updates/all", b"round"):
            assert part in written, part
