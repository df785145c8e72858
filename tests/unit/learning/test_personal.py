from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from p2pfl.agreement import agree
from p2pfl.cards import Agreement
from p2pfl.errors import TaskError
from p2pfl.learning.local_files import memory_files
from p2pfl.learning.personal import DittoRule, ditto_in, with_personal
from p2pfl.messages import ClassCount, Evaluation
from tests.support.user_tasks import Device, file_spec, write_task

LINES = """
import torch
from torch import nn

def model():
    return nn.Linear(2, 2)

def data():
    x = torch.randn(80, 2, generator=torch.Generator().manual_seed(3))
    return x, (x[:, 0] > 0).long()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "blobs").mkdir()
    return tmp_path / "blobs"


def device(folder: Path, source: str = LINES, **spec: Any) -> tuple[Device, Agreement]:
    one = Device(write_task(folder.parent, source), folder, file_spec(**spec))
    agreement, flaw = agree(one.spec, {"this": one.card})
    assert agreement is not None, flaw
    return one, agreement


# --- fine-tuning --------------------------------------------------------------------------------------------


def test_a_fine_tuned_copy_is_measured_beside_the_common_model(folder: Path) -> None:
    one, agreement = device(folder, personalise=10)
    model = one.create(agreement)
    evaluation = one.evaluate(agreement, model)
    assert evaluation.names == agreement.measures.metrics
    assert evaluation.sums["personal_loss"] < evaluation.sums["loss"]
    assert one.evaluate(agreement, model) == evaluation, "the copy leaves no trace"
    plain, common = device(folder)
    assert plain.evaluate(common, model).sums == {
        name: value for name, value in evaluation.sums.items() if not name.startswith("personal_")
    }


def test_more_epochs_of_fine_tuning_fit_better(folder: Path) -> None:
    losses = []
    for epochs in (1, 5):
        one, agreement = device(folder, personalise=epochs)
        losses.append(one.evaluate(agreement, one.create(agreement)).sums["personal_loss"])
    assert losses[1] < losses[0]


def test_training_does_not_depend_on_fine_tuning(folder: Path) -> None:
    updates = []
    for personalise in (0, 3):
        one, agreement = device(folder, personalise=personalise)
        model = one.create(agreement)
        one.evaluate(agreement, model)
        updates.append(one.train(agreement, model).digest)
    assert updates[0] == updates[1]


def test_a_fine_tuning_that_diverges_is_a_bad_metric_and_no_failure(folder: Path) -> None:
    one, agreement = device(folder, personalise=50, learning_rate=1e5, weight_decay=0.5)
    evaluation = one.evaluate(agreement, one.create(agreement))
    assert evaluation.sums["loss"] < 100 < evaluation.sums["personal_loss"]


def test_loops_of_the_users_own_fine_tune_and_measure(folder: Path) -> None:
    source = LINES + (
        "\ndef train(model, loader, settings):\n"
        "    with torch.no_grad():\n"
        "        for _ in range(settings.epochs):\n"
        "            model.bias += 1\n"
        "\ndef evaluate(model, loader):\n"
        "    return {'height': float(model.bias.mean())}\n"
        "primary = ('height', 'max')\n"
    )
    one, agreement = device(folder, source, personalise=4)
    sums = one.evaluate(agreement, one.create(agreement)).metrics
    assert sums["personal_height"] == pytest.approx(sums["height"] + 4)


def test_class_weights_hold_for_adapted_models_too(folder: Path) -> None:
    one, agreement = device(folder, personalise=2, class_weights=True)
    assert "personal_loss" in one.evaluate(agreement, one.create(agreement)).sums


def test_sums_of_the_adapted_model_are_of_the_same_examples() -> None:
    counted = (ClassCount(1, 2, 3),)
    common = Evaluation(10, {"accuracy": 5.0, "target": 1.0}, counted)
    merged = with_personal(common, Evaluation(20, {"accuracy": 16.0, "target": 2.0}))
    assert merged == Evaluation(10, {"accuracy": 5.0, "personal_accuracy": 8.0, "target": 1.0}, counted)


# --- Ditto --------------------------------------------------------------------------------------------------


def test_a_step_of_ditto_is_that_of_the_paper() -> None:
    torch.manual_seed(1)
    common = nn.Linear(3, 1)
    own = copy.deepcopy(common)
    with torch.no_grad():
        own.weight += 1.0
    x, y = torch.randn(4, 3), torch.randn(4, 1)
    rule = DittoRule(
        {mine: theirs.detach() for mine, theirs in zip(own.parameters(), common.parameters(), strict=True)},
        0.5,
    )
    distance = sum(
        (mine - theirs.detach()).square().sum()
        for mine, theirs in zip(own.parameters(), common.parameters(), strict=True)
    )
    expected = torch.autograd.grad(
        nn.functional.mse_loss(own(x), y) + 0.5 / 2 * distance, [*own.parameters()]
    )
    nn.functional.mse_loss(own(x), y).backward()  # type: ignore[no-untyped-call]
    rule.correct([*own.parameters()])
    for parameter, gradient in zip(own.parameters(), expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient)


def test_the_update_of_ditto_is_that_of_fedavg_and_the_personal_model_stays(folder: Path) -> None:
    one, agreement = device(folder, strategy="ditto")
    model = one.create(agreement)
    update = one.train(agreement, model)
    plain, common = device(folder)
    assert plain.train(common, model).digest == update.digest
    kept = ditto_in(load_file(memory_files(folder, "run")[update.digest[:32]]))
    assert set(kept) == {"weight", "bias"}


@pytest.mark.parametrize(("strength", "is_close"), [(0.0, False), (15.0, True)])
def test_a_strong_ditto_stays_close_to_the_common_model(
    folder: Path, strength: float, is_close: bool
) -> None:
    arguments = {"strength": strength}
    one, agreement = device(folder, strategy="ditto", strategy_arg=arguments, momentum=0.0, epochs=4)
    model = one.create(agreement)
    update = one.train(agreement, model)
    kept = ditto_in(load_file(memory_files(folder, "run")[update.digest[:32]]))
    distance = (kept["weight"] - load_file(folder / model)["weight"]).norm()
    assert (distance < 0.2) == is_close


def test_the_personal_model_goes_on_from_round_to_round_and_is_measured(folder: Path) -> None:
    one, agreement = device(folder, strategy="ditto", epochs=3, momentum=0.0)
    model = one.create(agreement)
    new = one.evaluate(agreement, model)
    assert new.sums["personal_loss"] == new.sums["loss"], "before the first update it is the common model"
    losses = [new.sums["personal_loss"]]
    memory = ""
    for number in (1, 2, 3):
        memory = one.train(agreement, model, number, memory=memory).digest
        losses.append(one.evaluate(agreement, model, memory=memory).sums["personal_loss"])
    assert losses == sorted(losses, reverse=True)
    assert one.evaluate(agreement, model).sums == new.sums


def test_progress_counts_both_trainings(folder: Path) -> None:
    one, agreement = device(folder, strategy="ditto", epochs=3)
    one.train(agreement, one.create(agreement))
    assert [(progress.done, progress.total) for progress in one.progress][:1] == [(2, 2 * 15)]


# --- what excludes each other -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"strategy": "ditto", "personalise": 1}, "--personalise and --strategy ditto each adapt"),
    ],
)
def test_a_run_with_options_that_exclude_each_other_is_refused(
    folder: Path, options: dict[str, Any], told: str
) -> None:
    one = Device(write_task(folder, LINES), folder, file_spec(**options))
    with pytest.raises(TaskError, match=f"^The options of the run exclude each other: {told}"):
        one.describe()


def test_metrics_that_leave_no_room_for_personal_ones_are_refused(folder: Path) -> None:
    one, agreement = device(folder)
    many = msgspec.structs.replace(agreement.measures, metrics=tuple(f"m{n:02}" for n in range(9)))
    card = msgspec.structs.replace(one.card, measures=many)
    found, flaw = agree(file_spec(personalise=1), {"this": card})
    assert found is None
    assert flaw.startswith(
        "the metrics of adapted models come on top of those of the task, and 16 with names"
    )
    assert agree(file_spec(), {"this": card})[0] is not None
