"""One evaluation of a device: the common model, and beside it one that is adapted to the device.

The worker of a node and the clients of a simulation call the same function, as for the training.
"""

from __future__ import annotations

from collections.abc import Callable

from p2pfl.learning import training
from p2pfl.learning.batches import Batches
from p2pfl.learning.exchange import restore
from p2pfl.learning.local_model import LocalModel, Remembered
from p2pfl.learning.local_task import PreparedTask
from p2pfl.learning.local_training import weighted
from p2pfl.learning.personal import Adapting, ditto_in, fine_tune, training_for, with_personal
from p2pfl.messages import Evaluation
from p2pfl.spec import adapts_to_devices, is_particular
from p2pfl.strategy_specs import DittoSpec
from p2pfl.work import EvaluationJob


def evaluate_locally(
    prepared: PreparedTask,
    job: EvaluationJob,
    model: LocalModel,
    recall: Callable[[], Remembered],
    part: Batches | None = None,
) -> Evaluation:
    """Do *job* with *model*, which has the parameters of the job's model and the device's own.

    *recall* returns what the device remembers. *part* are training examples in place of those of the job's
    partition. A model that is adapted to the device is measured after the common one, and stays in *model*.
    """

    def measure() -> Evaluation:
        if prepared.evaluate is not None:
            return prepared.evaluate(model.module)
        return training.evaluate(model.module, held_out(prepared, job), prepared.objective)

    evaluation = measure()
    if not adapts_to_devices(job.spec):
        return evaluation
    model.changed()
    if isinstance(job.spec.strategy, DittoSpec):
        restore(model.module, ditto_in(recall()))
    else:
        fine_tune(_adapting(prepared, job, model, part))
    return with_personal(evaluation, measure())


def held_out(prepared: PreparedTask, job: EvaluationJob) -> Batches:
    """Return the held-out examples of *job*."""
    if is_particular(job.spec) and prepared.own_test_part is not None:
        return prepared.own_test_part(job.part, job.parts, job.partition)
    return prepared.test_part(job.part, job.parts)


def _adapting(
    prepared: PreparedTask, job: EvaluationJob, model: LocalModel, part: Batches | None
) -> Adapting:
    """Return what fine-tunes the module of *model*."""
    objective = prepared.objective
    if prepared.train is None and part is None:
        part = prepared.train_part(job.partition)
    if job.spec.training.class_weights and part is not None:
        objective = weighted(objective, part)
    return Adapting(prepared, model, training_for(job), objective, lambda _done, _total: None, part)
