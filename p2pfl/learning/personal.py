"""Models that are adapted to one device: fine-tuned copies, and the personal models of Ditto.

Both are trained beside the common model, on the examples of the device, and never leave it. An evaluation
measures them beside the common model, under names such as "personal_accuracy".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor, nn

from p2pfl.cards import PERSONAL, UNSHOWN_SUMS
from p2pfl.learning import training
from p2pfl.learning.batches import Batches
from p2pfl.learning.exchange import restore
from p2pfl.learning.local_files import DITTO_PREFIX
from p2pfl.learning.local_model import LocalModel
from p2pfl.learning.local_task import PreparedTask
from p2pfl.learning.objective import Objective
from p2pfl.learning.optimizers import build_optimizer
from p2pfl.learning.strategies.local import LocalEnd, LocalRule
from p2pfl.messages import Evaluation
from p2pfl.spec import LocalTraining
from p2pfl.strategy_specs import DittoSpec
from p2pfl.work import EvaluationJob, TrainingJob


@dataclass
class Adapting:
    """One model in training beside the common one."""

    prepared: PreparedTask
    model: LocalModel
    job: TrainingJob
    objective: Objective
    after_batch: Callable[[int, int], None]
    part: Batches | None = None
    """Examples in place of those of the job's partition; None: its partition."""

    def train(self, options: LocalTraining, seed: int, rule: LocalRule | None = None) -> None:
        """Train the module as it is.

        Raises:
            DivergedError: the loss became NaN or infinite.
        """
        prepared, job = self.prepared, self.job
        if prepared.train is not None:
            assert rule is None, "loops of the user's own have no rules"
            prepared.train(self.model.module, job.partition, options, job.round, seed, self.after_batch)
            return
        training.train(
            self.model.module,
            self.part if self.part is not None else prepared.train_part(job.partition),
            self.objective,
            options,
            seed=seed,
            after_batch=self.after_batch,
            make_optimizer=prepared.optimizer(job) if prepared.optimizer else build_optimizer,
            rule=rule,
        )


def fine_tune(adapting: Adapting) -> None:
    """Train the module for the epochs of `--personalise`. One that diverges leaves it as it is then."""
    spec, job = adapting.job.spec, adapting.job
    options = msgspec.structs.replace(spec.training, epochs=spec.personalisation.personalise, steps=0)
    seed = training.derive_seed("personalise", spec.seed, job.round, job.partition)
    try:
        adapting.train(options, seed)
    except training.DivergedError:
        return  # its metrics show it


def training_for(job: EvaluationJob) -> TrainingJob:
    """Return the training job of a model that is adapted before the evaluation *job*."""
    return TrainingJob(job.run, job.round, job.spec, job.agreement, job.model, job.partition)


def with_personal(common: Evaluation, own: Evaluation) -> Evaluation:
    """Return the evaluation *common* with the sums of *own*, that of the adapted model."""
    scale = common.examples / own.examples  # 1, but for evaluations of the user's own
    sums = {f"{PERSONAL}{name}": value * scale for name, value in own.sums.items()}
    names = [name for name in sums if name.removeprefix(PERSONAL) not in UNSHOWN_SUMS]
    merged = common.sums | {name: sums[name] for name in names}
    return msgspec.structs.replace(common, sums=dict(sorted(merged.items())))


# --- Ditto --------------------------------------------------------------------------------------------------


class DittoRule:
    """Keeps a personal model close to the common one: a `LocalRule`.

    Li et al., "Ditto: Fair and Robust Federated Learning Through Personalization" (2021), algorithm 1: device
    k solves `min over v of h_k(v; w) = F_k(v) + lambda / 2 * |v - w|^2` (equation 2) by steps `v <- v - eta *
    (grad F_k(v) + lambda * (v - w))`, where w is the common model that the round began with.
    """

    def __init__(self, common: Mapping[nn.Parameter, Tensor], strength: float) -> None:
        self._common = common
        self._strength = strength

    @torch.no_grad()
    def correct(self, parameters: list[nn.Parameter]) -> None:
        """Add `lambda * (v - w)` to the gradients of *parameters*."""
        for own in parameters:
            if own.grad is not None:
                own.grad.add_(own - self._common[own], alpha=self._strength)

    def finish(self, steps: int, learning_rate: float) -> LocalEnd:  # noqa: ARG002  the interface
        """Return nothing: the personal model is remembered as a whole."""
        return LocalEnd()


def train_ditto(
    adapting: Adapting, options: LocalTraining, remembered: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Train the personal model of Ditto for one round; return it under the names of the device's memory.

    The module has the common model that the round began with. A device whose memory *remembered* has no
    personal model begins with the common one.

    Raises:
        DivergedError: the loss became NaN or infinite.
    """
    module, spec = adapting.model.module, adapting.job.spec
    assert isinstance(spec.strategy, DittoSpec)
    common = {one: one.detach().clone() for one in module.parameters() if one.requires_grad}
    restore(module, ditto_in(remembered))
    seed = training.derive_seed("ditto", spec.seed, adapting.job.round, adapting.job.partition)
    adapting.train(options, seed, DittoRule(common, spec.strategy.strength))
    return {f"{DITTO_PREFIX}{name}": value for name, value in adapting.model.copied().items()}


def ditto_in(remembered: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the personal model of Ditto in what a device remembers, by the names of its tensors."""
    return {
        name.removeprefix(DITTO_PREFIX): value
        for name, value in remembered.items()
        if name.startswith(DITTO_PREFIX)
    }
