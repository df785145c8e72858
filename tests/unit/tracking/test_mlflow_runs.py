"""MLflow's own client writes to a folder and reads it, in a process of its own: it imports much, with warnings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from p2pfl import programs
from tests.support.records import SPEC

PROGRAM = """
import json, sys
from mlflow import MlflowClient
from p2pfl.tracking.measures import Measurement
from p2pfl.tracking.mlflow_runs import MlflowTracker
from p2pfl.tracking.tracker import TrackedRun
from tests.support.records import SPEC

place = sys.argv[1]
many = [Measurement(number, "loss", "", 1.0 / number) for number in range(1, 601)]
for values in ([Measurement(1, "f1%", "ben", 0.5)], many):
    tracker = MlflowTracker(place)
    tracker.begin(TrackedRun("ab" * 32, "ada", SPEC))
    tracker.write(1.5, values)
    tracker.close()
unused = MlflowTracker(place)
unused.close()

client = MlflowClient(tracking_uri=place)
experiment = client.get_experiment_by_name("p2pfl")
runs = client.search_runs([experiment.experiment_id])
[f1] = client.get_metric_history(runs[0].info.run_id, "f1_/ben")
print(json.dumps({
    "names": [run.info.run_name for run in runs],
    "status": runs[0].info.status,
    "rounds": runs[0].data.params["rounds"],
    "f1": [f1.value, f1.step, f1.timestamp],
    "steps": len(client.get_metric_history(runs[0].info.run_id, "loss/all")),
    "torch": "torch" in sys.modules,
}))
"""


def test_a_restarted_node_goes_on_with_its_run_of_mlflow(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", PROGRAM, str(tmp_path / "runs")],
        env={**programs.environment(), "MLFLOW_ALLOW_FILE_STORE": "true", "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "names": ["abababab-ada"],
        "status": "FINISHED",
        "rounds": str(SPEC.rounds),
        "f1": [0.5, 1, 1500],
        "steps": 600,
        "torch": False,
    }
    assert [*(tmp_path / "runs").iterdir()], "it was written there"
