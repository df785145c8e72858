from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfl import programs
from p2pfl.errors import UserError
from p2pfl.tracking.csv_file import CsvTracker
from p2pfl.tracking.mlflow_runs import MlflowTracker
from p2pfl.tracking.targets import TrackTarget, open_tracker, parse_target
from p2pfl.tracking.tensorboard_files import TensorBoardTracker
from p2pfl.tracking.wandb_runs import WandbTracker


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("csv:values.csv", TrackTarget("csv", "{here}/values.csv")),
        ("tensorboard:logs", TrackTarget("tensorboard", "{here}/logs")),
        ("mlflow:http://host:5000", TrackTarget("mlflow", "http://host:5000")),
        ("wandb:team/project", TrackTarget("wandb", "team/project")),
    ],
)
def test_a_target_is_a_kind_and_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, target: TrackTarget
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_target(text) == TrackTarget(target.kind, target.where.format(here=tmp_path))
    assert str(target) == f"{target.kind}:{target.where}"


@pytest.mark.parametrize("text", ["", "csv", "csv:", "excel:values.xls", "values.csv", "\x1b[2J:x"])
def test_any_other_text_is_refused_with_the_known_forms(text: str) -> None:
    with pytest.raises(
        UserError, match=r"--track is .* csv:FILE, tensorboard:DIR, mlflow:URI or wandb:PROJECT"
    ):
        parse_target(text)


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_package_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == kind else find(name))
    with pytest.raises(UserError, match=rf"pip install 'p2pfl-lan\[{kind}\]'"):
        parse_target(f"{kind}:x")
    assert parse_target("csv:x").kind == "csv"


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("csv", CsvTracker),
        ("tensorboard", TensorBoardTracker),
        ("mlflow", MlflowTracker),
        ("wandb", WandbTracker),
    ],
)
def test_each_kind_has_its_tracker(tmp_path: Path, kind: str, made: type) -> None:
    assert isinstance(open_tracker(parse_target(f"{kind}:{tmp_path / 'place'}")), made)


def test_opening_trackers_imports_none_of_their_packages(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from p2pfl.tracking.targets import open_tracker, parse_target\n"
        f"for text in ('csv:{tmp_path}/v.csv', 'tensorboard:{tmp_path}/t', 'mlflow:x', 'wandb:x'):\n"
        "    open_tracker(parse_target(text))\n"
        "print([name for name in ('torch', 'tensorboard', 'mlflow', 'wandb') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=programs.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
