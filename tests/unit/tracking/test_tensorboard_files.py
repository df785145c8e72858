from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from p2pfl import programs
from p2pfl.errors import UserError
from p2pfl.tracking.measures import Measurement
from p2pfl.tracking.tensorboard_files import TensorBoardTracker
from p2pfl.tracking.tracker import TrackedRun
from tests.support.records import SPEC

RUN = TrackedRun("ab" * 32, "ada", SPEC)

READ = """
import sys, warnings
warnings.simplefilter("ignore")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1]).Reload()
for tag in events.Tags()["scalars"]:
    print(tag, *((one.wall_time, one.step, round(one.value, 4)) for one in events.Scalars(tag)))
"""
"""Prints what TensorBoard itself reads in a folder."""

WRITE = """
import sys
from pathlib import Path
from p2pfl.tracking.measures import Measurement
from p2pfl.tracking.tensorboard_files import TensorBoardTracker
from p2pfl.tracking.tracker import TrackedRun
from tests.support.records import SPEC
tracker = TensorBoardTracker(Path(sys.argv[1]))
tracker.begin(TrackedRun("ab" * 32, "ada", SPEC))
tracker.write(1.5, [Measurement(1, "accuracy", "", 0.5), Measurement(1, "accuracy", "ben", 0.25)])
tracker.begin(TrackedRun("ab" * 32, "ada", SPEC))
tracker.write(2.5, [Measurement(2, "accuracy", "", 0.75)])
tracker.close()
print("torch" in sys.modules)
"""


def run(code: str, folder: Path) -> str:
    """Run *code* in a process of its own: the packages that it imports warn about each other."""
    command = [sys.executable, "-P", "-c", code, str(folder)]
    done = subprocess.run(command, env=programs.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tensorboard_reads_what_two_starts_have_written_without_torch(tmp_path: Path) -> None:
    assert run(WRITE, tmp_path / "logs") == "False\n"
    assert len([*(tmp_path / "logs" / "abababab-ada").iterdir()]) == 2
    lines = run(READ, tmp_path / "logs" / "abababab-ada").splitlines()
    assert sorted(lines) == [
        "accuracy/all (1.5, 1, 0.5) (2.5, 2, 0.75)",
        "accuracy/ben (1.5, 1, 0.25)",
    ]


def test_a_folder_that_cannot_be_made_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be made: Not a directory\. Name another one"):
        TensorBoardTracker(tmp_path / "file" / "logs")


def test_a_write_that_fails_is_raised_and_the_next_one_works(tmp_path: Path) -> None:
    tracker = TensorBoardTracker(tmp_path)
    tracker.begin(RUN)
    folder = tmp_path / RUN.label
    folder.rename(tmp_path / "away")
    value = [Measurement(1, "loss", "", 1.0)]
    with pytest.raises(FileNotFoundError):
        tracker.write(0.0, value)
    (tmp_path / "away").rename(folder)
    tracker.write(0.0, value)
