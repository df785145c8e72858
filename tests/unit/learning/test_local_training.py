from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.errors import TaskError
from p2pfl.learning import commands
from p2pfl.learning.jobs import Jobs
from p2pfl.learning.local_training import LocalInputs, check_training, train_locally, weighted
from p2pfl.learning.objective import Regression
from p2pfl.learning.simulation.blobs import load_bytes
from p2pfl.learning.training import DivergedError
from p2pfl.work import TrainingJob
from tests.support.simulated import quick_federation


def ignore(done: int, total: int) -> None:
    pass


INPUTS = LocalInputs(state=dict, recall=dict)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"class_weights": True, "partition": "dirichlet:0.3"},
        {"strategy": "fedprox"},
        {"strategy": "ditto"},
        {"personal": ["out.*"]},
    ],
)
def test_it_trains_like_the_worker_of_a_node(tmp_path: Path, options: dict[str, object]) -> None:
    federation = quick_federation(schedule="step", **options)
    spec, agreement = federation.run.spec, federation.agreement
    jobs = Jobs("cpu", threads=1)

    def do(command: commands.Command) -> commands.Answer:
        return jobs.do(command, lambda _: None, lambda: False)

    created = do(commands.CreateJob(1, spec, agreement, str(tmp_path / "new")))
    assert isinstance(created, commands.CreateDone)
    (tmp_path / "new").rename(tmp_path / created.digest)
    job = TrainingJob("run", 2, spec, agreement, created.digest, 1, 1, 2)
    trained = do(commands.RunTraining(2, job, str(tmp_path), str(tmp_path / "new")))
    assert isinstance(trained, commands.TrainingDone)
    model = federation.build_model()
    load_bytes((tmp_path / created.digest).read_bytes(), model.module, model.schema)
    result = train_locally(federation.prepared, job, model, INPUTS, ignore)
    assert model.save(tmp_path / "ours") == trained.result.digest
    assert (result.steps, result.loss) == (trained.result.steps, trained.result.loss)


def test_other_examples_may_take_the_place_of_the_partition() -> None:
    federation = quick_federation()
    job = TrainingJob("run", 1, federation.run.spec, federation.agreement, "", 0)
    part = federation.prepared.train_part(3)
    inputs = LocalInputs(dict, dict, federation.prepared.test_part(0, 4))
    assert train_locally(federation.prepared, job, federation.build_model(), inputs, ignore).steps == 2
    assert part.examples > 300


def test_a_divergence_names_the_task() -> None:
    federation = quick_federation(lr=1e6)
    job = TrainingJob("run", 1, federation.run.spec, federation.agreement, "", 0)
    with pytest.raises(TaskError, match="digits: Training diverged") as raised:
        train_locally(federation.prepared, job, federation.build_model(), INPUTS, ignore)
    assert isinstance(raised.value.__cause__, DivergedError)


def test_class_weights_need_classes() -> None:
    federation = quick_federation(class_weights=True)
    check_training(federation.run.spec, federation.prepared)
    with pytest.raises(TaskError, match="--class-weights needs a task with classes"):
        weighted(Regression(1.0), federation.prepared.train_part(0))
