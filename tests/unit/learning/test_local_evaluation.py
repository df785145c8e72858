from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl.learning import training
from p2pfl.learning.local_evaluation import evaluate_locally, held_out
from tests.support.simulated import quick_federation


def test_a_model_of_ones_own_is_judged_on_ones_own_classes() -> None:
    plain = quick_federation(clients=5, partition="labels:2")
    own = quick_federation(clients=5, partition="labels:2", personal=["out.*"])
    for federation, found in ((plain, 10), (own, 2)):
        labels = held_out(federation.prepared, federation.evaluation_of(0, 1)).labels
        assert labels is not None
        assert len({*labels.tolist()}) == found


@pytest.mark.parametrize("options", [{"class_weights": True}, {}])
def test_an_adapted_model_stays_and_is_measured_after_the_common_one(options: dict[str, Any]) -> None:
    federation = quick_federation(personalise=2, **options)
    job, model = federation.evaluation_of(1, 3), federation.build_model()
    evaluation = evaluate_locally(federation.prepared, job, model, dict)
    common = training.evaluate(
        federation.build_model().module, held_out(federation.prepared, job), federation.prepared.objective
    )
    adapted = training.evaluate(
        model.module, held_out(federation.prepared, job), federation.prepared.objective
    )
    assert evaluation.sums["loss"] == common.sums["loss"] > evaluation.sums["personal_loss"]
    assert evaluation.sums["personal_loss"] == adapted.sums["loss"]


def test_other_training_examples_may_take_the_place_of_the_partition() -> None:
    federation = quick_federation(personalise=1)
    job = federation.evaluation_of(1, 3)
    part = federation.prepared.train_part(2)
    found = evaluate_locally(federation.prepared, job, federation.build_model(), dict, part)
    assert found != evaluate_locally(federation.prepared, job, federation.build_model(), dict)
    renamed = msgspec.structs.replace(job, round=4)
    assert found != evaluate_locally(federation.prepared, renamed, federation.build_model(), dict, part)
