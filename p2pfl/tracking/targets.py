"""Where a node writes its measured values: reads the values of `--track`, and makes their trackers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal, assert_never, get_args

import msgspec

from p2pfl.errors import UserError
from p2pfl.paths import full
from p2pfl.text import one_line
from p2pfl.tracking.tracker import Tracker

Kind = Literal["csv", "tensorboard", "mlflow", "wandb"]

FORMS = "csv:FILE, tensorboard:DIR, mlflow:URI or wandb:PROJECT"


class TrackTarget(msgspec.Struct, frozen=True):
    """One value of `--track`."""

    kind: Kind
    where: str
    """A file, a folder, an address or a project, by `kind`; paths are absolute."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.where}"


def parse_target(text: str) -> TrackTarget:
    """Return where *text*, a value of `--track`, says to write.

    Raises:
        UserError: it has none of the known forms, or the package that it needs is not installed.
    """
    name, _, where = text.partition(":")
    kind = next((one for one in get_args(Kind) if one == name), None)
    if kind is None or not where:
        raise UserError(f"--track is {one_line(text)!r}, and {FORMS} is expected.")
    if kind != "csv" and importlib.util.find_spec(kind) is None:
        raise UserError(
            f"--track {kind}: needs the package {kind}, which is not installed here: "
            f"pip install 'p2pfl-lan[{kind}]'."
        )
    return TrackTarget(kind, str(full(Path(where))) if kind in ("csv", "tensorboard") else where)


def open_tracker(target: TrackTarget) -> Tracker:
    """Return the tracker of *target*. It imports nothing large and connects to nothing before it writes.

    Raises:
        UserError: a file or folder cannot be written.
    """
    match target.kind:
        case "csv":
            from p2pfl.tracking.csv_file import CsvTracker

            return CsvTracker(Path(target.where))
        case "tensorboard":
            from p2pfl.tracking.tensorboard_files import TensorBoardTracker

            return TensorBoardTracker(Path(target.where))
        case "mlflow":
            from p2pfl.tracking.mlflow_runs import MlflowTracker

            return MlflowTracker(target.where)
        case "wandb":
            from p2pfl.tracking.wandb_runs import WandbTracker

            return WandbTracker(target.where)
        case _:
            assert_never(target.kind)
