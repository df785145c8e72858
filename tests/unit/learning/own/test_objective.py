from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from p2pfl.cards import CLASSIFICATION, REGRESSION, Agreement, Measures
from p2pfl.errors import TaskError
from p2pfl.learning.own.code import UserCode
from p2pfl.learning.own.data import BatchMaker
from p2pfl.learning.own.interface import Task
from p2pfl.learning.own.objective import Kind, UserObjective, kind_of, probe

FILE = Path("/home/ada/mine.py")
AGREEMENT = Agreement(("cat", "dog", "fox"), 100)
SCORES = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0], [1.0, 0.0, 0.0]])
LABELS = torch.tensor([0, 1, 2, 2])


def task_with(**parts: Any) -> UserCode:
    return UserCode(Task(model=lambda: None, data=lambda: None, **parts), FILE)  # type: ignore[arg-type,return-value]


def probed(
    outputs: Any, targets: Any, agreement: Agreement = AGREEMENT, **parts: Any
) -> tuple[Kind, Measures]:
    """Return what the task with *parts* measures for a model that returns *outputs*."""

    class Fixed(nn.Module):
        def forward(self, inputs: Tensor) -> Any:
            return outputs

    examples = TensorDataset(torch.zeros(len(targets), 2), targets)
    code = task_with(**parts)
    return probe(code, Fixed(), BatchMaker(code, None, torch.device("cpu")).make(examples), agreement)


def objective_for(outputs: Any, targets: Any, **parts: Any) -> UserObjective:
    kind, measures = probed(outputs, targets, **parts)
    return UserObjective(task_with(**parts), kind, measures, AGREEMENT)


def refusal(outputs: Any, targets: Any, agreement: Agreement = AGREEMENT, **parts: Any) -> str:
    with pytest.raises(TaskError) as refused:
        probed(outputs, targets, agreement, **parts)
    return str(refused.value)


@pytest.mark.parametrize(
    ("targets", "parts"),
    [
        (torch.tensor([0, 1, -100, 1]), {}),
        (torch.rand(4), {}),
        (torch.tensor([0, 1, 0, 1]), {"loss": lambda outputs, targets: outputs[:, 0].square().mean()}),
    ],
)
def test_the_losses_of_batches_are_those_of_each(targets: Tensor, parts: dict[str, Any]) -> None:
    outputs = torch.randn(4, 1 if targets.is_floating_point() else 3)
    kind = kind_of(targets)
    objective = UserObjective(task_with(**parts), kind, CLASSIFICATION, AGREEMENT)
    alone = [objective.loss(outputs[part], targets[part]).item() for part in (slice(2), slice(2, 4))]
    assert objective.losses(outputs, targets, 2).tolist() == pytest.approx(alone)


# --- the defaults -------------------------------------------------------------------------------------------


def test_integers_are_classes() -> None:
    objective = objective_for(SCORES, LABELS)
    assert objective.measures == CLASSIFICATION
    loss = functional.cross_entropy(SCORES, LABELS)
    assert objective.loss(SCORES, LABELS).item() == pytest.approx(loss.item())
    assert objective.sums(SCORES, LABELS) == {"accuracy": 3.0, "loss": pytest.approx(4 * loss.item())}
    counts = objective.counts(SCORES, LABELS)
    assert counts is not None
    assert counts.tolist() == [[1, 1, 2], [1, 1, 1], [1, 2, 1]]


def test_a_model_may_have_more_outputs_than_there_are_classes() -> None:
    outputs = torch.eye(5)[[0, 4, 2]]
    counts = objective_for(outputs, LABELS[:3]).counts(outputs, LABELS[:3])
    assert counts is not None
    assert counts.tolist() == [[1, 1, 1], [0, 1, 0], [1, 1, 1]]


def test_floats_are_numbers_to_predict() -> None:
    outputs, targets = torch.tensor([[1.0], [2.0], [5.0]]), torch.tensor([1.0, 4.0, 4.0])
    objective = objective_for(outputs, targets)
    assert objective.measures == REGRESSION
    assert objective.loss(outputs, targets).item() == pytest.approx(5 / 3)
    assert objective.sums(outputs, targets) == pytest.approx(
        {"loss": 5.0, "mse": 5.0, "mae": 3.0, "target": 9.0, "target_square": 33.0}
    )
    assert objective.counts(outputs, targets) is None


def test_several_floats_have_a_mean_over_all() -> None:
    outputs, targets = torch.zeros(2, 2), torch.tensor([[1.0, 3.0], [0.0, 0.0]])
    objective = objective_for(outputs, targets)
    assert objective.measures == Measures("mse", ("loss", "mae", "mse"), "mse", "min")
    assert objective.sums(outputs, targets) == {"loss": 5.0, "mse": 5.0, "mae": 2.0}


def test_masks_have_the_accuracy_of_their_pixels_without_ignored_ones() -> None:
    outputs = torch.zeros(1, 3, 2, 2)
    outputs[:, 1] = 1
    targets = torch.tensor([[[1, 1], [0, -100]]])
    objective = objective_for(outputs, targets)
    assert objective.measures == Measures("cross-entropy", ("accuracy", "loss"), "accuracy", "max")
    loss = functional.cross_entropy(outputs, targets).item()
    assert objective.sums(outputs, targets) == pytest.approx({"accuracy": 2 / 3, "loss": loss})
    assert objective.loss(outputs, targets).item() == pytest.approx(loss)


def test_class_weights_change_the_loss_and_not_the_metrics() -> None:
    plain = objective_for(SCORES, LABELS)
    weighted = plain.weighted(LABELS)
    own = functional.cross_entropy(SCORES, LABELS, torch.tensor([1.2, 1.2, 0.6]))
    assert weighted.loss(SCORES, LABELS).item() == pytest.approx(own.item())
    assert weighted.sums(SCORES, LABELS) == plain.sums(SCORES, LABELS)
    with pytest.raises(
        TaskError, match=r"mine\.py: --class-weights needs known classes and the default loss"
    ):
        objective_for(SCORES, LABELS, loss=functional.cross_entropy).check_weighted()


# --- the user's own -----------------------------------------------------------------------------------------


def margin(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.multi_margin_loss(outputs, targets)


def test_a_loss_of_the_users_own_has_the_default_metrics() -> None:
    objective = objective_for(SCORES, LABELS, loss=margin)
    assert objective.measures == Measures("margin", ("accuracy", "loss"), "accuracy", "max")
    assert objective.sums(SCORES, LABELS) == {
        "accuracy": 3.0,
        "loss": pytest.approx(4 * margin(SCORES, LABELS).item()),
    }


def test_a_loss_that_takes_other_outputs_is_the_only_metric() -> None:
    def binary(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(outputs, targets.float())

    objective = objective_for(torch.zeros(4), torch.tensor([0, 1, 1, 0]), loss=binary)
    assert objective.measures.metrics == ("loss",)
    assert (objective.measures.primary, objective.measures.direction) == ("loss", "min")


def test_metrics_of_the_users_own_are_weighed_by_the_size_of_a_batch() -> None:
    def metrics(outputs: Tensor, targets: Tensor) -> dict[str, Any]:
        return {"top2": torch.tensor(0.5), "f1": 0.25}

    objective = objective_for(SCORES, LABELS, metrics=metrics, primary=("top2", "max"))
    assert objective.measures == Measures("cross-entropy", ("f1", "loss", "top2"), "top2", "max")
    sums = objective.sums(SCORES, LABELS)
    assert (sums["top2"], sums["f1"]) == (2.0, 1.0)
    assert sums["loss"] == pytest.approx(4 * functional.cross_entropy(SCORES, LABELS).item())


def test_metrics_beside_the_default_loss_keep_the_counts_of_classes() -> None:
    objective = objective_for(
        SCORES, LABELS, metrics=lambda outputs, targets: {"top2": 1}, primary=("f1", "max")
    )
    assert objective.measures == Measures("cross-entropy", ("loss", "top2"), "f1", "max", counts_classes=True)
    assert objective.counts(SCORES, LABELS) is not None


def test_targets_that_are_no_tensor_need_loss_and_metrics() -> None:
    assert kind_of([{"box": 1}]) == "other"
    assert kind_of(torch.tensor(3)) == "other"


def test_metrics_must_keep_their_names() -> None:
    names = iter(["a", "b"])
    objective = UserObjective(
        task_with(metrics=lambda outputs, targets: {next(names): 0.0}),
        "class",
        Measures("cross-entropy", ("a", "loss"), "a", "max"),
        AGREEMENT,
    )
    objective.sums(SCORES, LABELS)
    with pytest.raises(TaskError) as refused:
        objective.sums(SCORES, LABELS)
    assert str(refused.value) == (
        "mine.py, in metrics(): returned b, loss, and before that a, loss; return the same names for every batch"
    )


def returning(value: Any) -> Callable[[Any, Any], Any]:
    def hook(outputs: Any, targets: Any) -> Any:
        return value

    return hook


@pytest.mark.parametrize(
    ("outputs", "targets", "parts", "said"),
    [
        (
            torch.zeros(4),
            LABELS,
            {},
            "model(): the model returned outputs of shape [4] for integer targets of shape [4]; return [batch, "
            "classes], or targets of floats",
        ),
        (
            torch.zeros(4, 2, 2),
            torch.full((4, 2), 2),
            {},
            "model(): the model returned 2 outputs, one for each class from 0, and the targets are from 2 to 2",
        ),
        (
            torch.zeros(4, 2),
            LABELS,
            {},
            "model(): the model returned 2 outputs for 3 classes; return one for each, as in nn.Linear(.., "
            "len(agreed.classes))",
        ),
        (
            {"logits": SCORES},
            LABELS,
            {},
            "model(): the model returned a dict; return a tensor, or define loss and metrics",
        ),
        (
            torch.zeros(4, 2),
            torch.zeros(4),
            {},
            "model(): the model returned outputs of shape [4, 2] for targets of shape [4]; return the shape of "
            "the targets",
        ),
        (
            (SCORES, SCORES),
            torch.zeros(4),
            {},
            "model(): the model returned a tuple of 2 for targets that are a Tensor; return tensors, or define "
            "loss and metrics",
        ),
        (
            SCORES,
            LABELS,
            {"loss": returning(None)},
            "loss(): returned None; return a scalar tensor, the mean over the batch",
        ),
        (
            SCORES,
            LABELS,
            {"loss": returning(torch.zeros(4))},
            "loss(): returned a tensor of shape [4]; return a scalar tensor, the mean over the batch",
        ),
        (
            SCORES,
            LABELS,
            {"loss": returning(torch.tensor(3))},
            "loss(): returned a tensor of torch.int64, which has no gradient",
        ),
        (
            SCORES,
            LABELS,
            {"metrics": returning(0.5)},
            'metrics(): returned a float; return numbers by name, such as {"dice": 0.9}',
        ),
        (
            SCORES,
            LABELS,
            {"metrics": returning({})},
            'metrics(): returned an empty dict; return numbers by name, such as {"dice": 0.9}',
        ),
        (
            SCORES,
            LABELS,
            {"metrics": returning({"Top-5": 0.5})},
            "metrics(): returned the name 'Top-5'; a name begins with a small letter and has only small letters, "
            "digits and _, 32 at most",
        ),
        (
            SCORES,
            LABELS,
            {"metrics": returning({"dice": torch.zeros(4)})},
            "metrics(): returned a tensor of shape [4] for 'dice'; return a number",
        ),
        (
            SCORES,
            LABELS,
            {"metrics": returning({"dice": None})},
            "metrics(): returned None for 'dice'; return a number",
        ),
        (
            SCORES,
            LABELS,
            {"metrics": returning({f"m{number}": 0.0 for number in range(16)})},
            "metrics(): returned 16 numbers; at most 15 are possible",
        ),
        (
            SCORES,
            LABELS,
            {"primary": ("dice", "max")},
            "data(): the primary metric 'dice' is not measured; there are accuracy, loss, f1",
        ),
    ],
)
def test_what_functions_return_is_refused_in_a_sentence(
    outputs: Any, targets: Tensor, parts: dict[str, Any], said: str
) -> None:
    found = refusal(outputs, targets, **parts)
    assert found.partition(", in ")[2] == said
    assert found.startswith(("mine.py, ", "test_user_objective.py, line "))


def test_an_error_in_the_model_says_what_it_was_given() -> None:
    class Wrong(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            raise ValueError("no")

    code = task_with()
    batches = BatchMaker(code, None, torch.device("cpu")).make(TensorDataset(torch.zeros(4, 2), LABELS))
    with pytest.raises(TaskError) as refused:
        probe(code, Wrong(), batches, AGREEMENT)
    assert str(refused.value) == "mine.py, in model(): ValueError: no (given inputs of torch.float32 [4, 2])"
