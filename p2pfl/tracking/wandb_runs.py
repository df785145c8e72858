"""Writes measured values to Weights & Biases; with `WANDB_MODE=offline` to a folder of this device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from p2pfl.tracking.measures import Measurement
from p2pfl.tracking.tracker import TrackedRun

if TYPE_CHECKING:
    from wandb.sdk.wandb_run import Run

STEP = "round"
"""The axis of all curves. Evaluations come a round later, and steps of wandb itself cannot go back."""

TIME = "_timestamp"
"""The key of the time of values, where it is not that of their writing."""


class WandbTracker:
    """Writes to a project, which may be written as ENTITY/PROJECT."""

    def __init__(self, project: str) -> None:
        """Connect to nothing yet."""
        self._entity, _, self._project = project.rpartition("/")
        self._run: Run | None = None

    def begin(self, run: TrackedRun, /) -> None:
        """Begin the run of wandb for *run*, or go on with it after a restart of the node."""
        import wandb

        self.close()
        self._run = wandb.init(
            project=self._project,
            entity=self._entity or None,
            id=run.label,
            name=run.label,
            group=run.id,
            config=dict(run.options),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                x_disable_meta=True,
                x_disable_stats=True,
            ),
        )
        self._run.define_metric("*", step_metric=STEP)

    def write(self, time: float, values: Sequence[Measurement], /) -> None:
        """Send *values*, those of one round together."""
        assert self._run is not None
        for number in sorted({one.round for one in values}):
            of_round = {one.tag: one.value for one in values if one.round == number}
            self._run.log({STEP: number, TIME: time, **of_round})

    def close(self) -> None:
        """Finish the run of wandb, after all values are sent."""
        if self._run is not None:
            self._run.finish()
            self._run = None
