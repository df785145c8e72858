"""Writes measured values to MLflow: a tracking server, a database, or a folder.

Each run of each node is a run of MLflow, which goes on after a restart of the node.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from p2pfl.tracking.measures import Measurement
from p2pfl.tracking.tracker import TrackedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "p2pfl"

RUN_TAG, NODE_TAG = "p2pfl.run", "p2pfl.node"
"""By these tags a restarted node finds its run of MLflow."""

MAX_BATCH = 500
"""Values in a request; MLflow takes a thousand."""

UNUSABLE = re.compile(r"[^\w./ -]")
"""Characters that a metric of MLflow cannot have in its name."""


class MlflowTracker:
    """Writes to the experiment "p2pfl" at an address."""

    def __init__(self, uri: str) -> None:
        """Connect to nothing yet; *uri* is an address as MLflow knows them, or a folder."""
        self._uri = uri
        self._client: MlflowClient | None = None
        self._run = ""
        """The id of the run of MLflow."""

    def begin(self, run: TrackedRun, /) -> None:
        """Find or make the run of MLflow for *run*."""
        from mlflow import MlflowClient
        from mlflow.entities import Param

        client = self._client = self._client or MlflowClient(tracking_uri=self._uri)
        found = client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found is not None else client.create_experiment(EXPERIMENT)
        tags = {RUN_TAG: run.id, NODE_TAG: run.node}
        wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        earlier = client.search_runs([experiment], wanted, max_results=1)
        if earlier:
            self._run = earlier[0].info.run_id
            client.update_run(self._run, status="RUNNING")
            return
        self._run = client.create_run(experiment, tags=tags, run_name=run.label).info.run_id
        client.log_batch(self._run, params=[Param(name, value) for name, value in run.options.items()])

    def write(self, time: float, values: Sequence[Measurement], /) -> None:
        """Send *values*."""
        from mlflow.entities import Metric

        assert self._client is not None
        milliseconds = int(time * 1000)
        metrics = [Metric(UNUSABLE.sub("_", one.tag), one.value, milliseconds, one.round) for one in values]
        for start in range(0, len(metrics), MAX_BATCH):
            self._client.log_batch(self._run, metrics=metrics[start : start + MAX_BATCH])

    def close(self) -> None:
        """Mark the run of MLflow as finished."""
        if self._client is not None and self._run:
            self._client.set_terminated(self._run)
