from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from p2pfl.agreement import merge_cards, misfit
from p2pfl.cards import CLASSIFICATION, REGRESSION, LabelCount, Measures
from p2pfl.errors import TaskError
from p2pfl.learning import commands
from p2pfl.learning.jobs import Jobs
from p2pfl.learning.own import templates
from p2pfl.learning.worker import MAX_REASON
from p2pfl.messages import ClassCount
from p2pfl.spec import evaluation_parts, partitions_of
from p2pfl.work import TrainingJob
from tests.support.user_tasks import Device, agree, file_spec, write_task

TEMPLATES = Path(templates.__file__).parent

TABLE = """
import torch
from torch import nn

def model(agreed):
    return nn.Linear(2, len(agreed.classes))

def data():
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(1))
    return x, (x[:, 0] > 0).long()
"""
"""Two classes that a line divides."""

PHOTOS = """
from torch import nn
from torchvision import transforms
from torchvision.datasets import ImageFolder

def model(agreed):
    return nn.Sequential(nn.Flatten(), nn.Linear(12, len(agreed.classes)))

def data(place):
    return ImageFolder(place, transforms.ToTensor())
"""


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave no module of a test behind."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield
    for name, module in [*sys.modules.items()]:
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder for blobs."""
    (tmp_path / "blobs").mkdir()
    return tmp_path / "blobs"


def device(folder: Path, source: str, **spec: Any) -> Device:
    """Return a device with a file of this *source*."""
    return Device(write_task(folder, source), folder, file_spec(**spec))


# --- templates ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "metric", "least", "examples", "steps"),
    [
        ("classification", "accuracy", 0.8, 1617, 101),
        ("segmentation", "dice", 0.7, 180, 12),
        ("text", "accuracy", 0.9, 360, 23),
    ],
)
def test_a_template_learns(
    folder: Path, kind: str, metric: str, least: float, examples: int, steps: int
) -> None:
    one = Device(TEMPLATES / f"{kind}.py", folder)
    evaluation, results = one.train_alone(rounds=3)
    assert evaluation.metrics[metric] > least
    assert (results[0].part.examples, results[0].steps) == (examples, steps)
    assert results[-1].loss < results[0].loss


def test_the_template_of_a_regression_is_better_than_the_mean(folder: Path) -> None:
    evaluation, _ = Device(TEMPLATES / "regression.py", folder).train_alone(rounds=3)
    targets = Device(TEMPLATES / "regression.py", folder, file_spec(seed=8)).card
    assert targets.measures == Measures("loss", ("loss", "mae", "mse"), "mse", "min")
    assert evaluation.metrics["mse"] < 0.5  # the variance of the targets is 0.59


# --- the card -----------------------------------------------------------------------------------------------


def test_the_card_describes_the_data_of_this_device(folder: Path) -> None:
    one = device(folder, TABLE)
    described = one.describe()
    card = described.card
    assert (card.examples, described.test_examples, card.input_shape) == (36, 4, (2,))
    assert (card.task, card.measures, card.share) == ("mine", CLASSIFICATION, "labels")
    assert sum(count.examples for count in card.labels) == 36
    assert card.classes == ("0", "1")
    assert len(card.source) == 16
    changed = write_task(folder, TABLE + "\n", "other.py")
    assert Device(changed, folder).card.source != card.source


def test_counts_are_not_told_unless_they_are_shared(folder: Path) -> None:
    card = device(folder, TABLE, share="counts").card
    assert (card.examples, card.labels) == (36, (LabelCount("0", 0), LabelCount("1", 0)))


def test_with_nothing_shared_only_declared_classes_are_told(folder: Path) -> None:
    one = device(folder, TABLE + "\nclasses = ['left', 'right']\n", share="none")
    described = one.describe()
    assert (described.card.examples, described.test_examples) == (1, 1)
    assert described.card.labels == (LabelCount("left", 0), LabelCount("right", 0))
    fixed = device(folder, TABLE.replace("len(agreed.classes)", "2"), share="none")
    assert fixed.card.labels == ()
    assert agree(fixed).classes == ()
    evaluation, results = fixed.train_alone()
    assert (results[0].part.examples, evaluation.examples, evaluation.classes) == (1, 1, ())
    assert 0 < evaluation.metrics["accuracy"] <= 1


def test_named_classes_must_be_declared_where_nothing_is_shared(tmp_path: Path, folder: Path) -> None:
    place = photos(tmp_path / "a", "cat", "dog")
    one = Device(write_task(folder, PHOTOS), folder, file_spec(share="none"), own=place)
    with pytest.raises(TaskError, match="which --share none does not tell; write the classes of all devices"):
        one.describe()


def test_a_device_with_one_class_says_so(folder: Path) -> None:
    source = TABLE.replace("(x[:, 0] > 0).long()", "torch.ones(40, dtype=torch.int64)")
    assert device(folder, source).card.notes == ("all its examples are of the class '1'",)
    assert device(folder, source, share="counts").card.notes == ()


def test_a_test_set_of_the_user_is_evaluated(folder: Path) -> None:
    source = TABLE.replace(
        "return x, (x[:, 0] > 0).long()", "y = (x[:, 0] > 0).long()\n    return (x, y), (x[:7], y[:7])"
    )
    described = device(folder, source).describe()
    assert (described.card.examples, described.test_examples) == (40, 7)


# --- classes by name ----------------------------------------------------------------------------------------

BRIGHT = {"cat": 0, "dog": 120, "fox": 255}
"""The brightness of the pictures of each class."""


def photos(place: Path, *names: str) -> Path:
    """Write pictures of *names* into *place*, one folder for each class."""
    for name in names:
        (place / name).mkdir(parents=True)
        for number in range(8):
            Image.new("RGB", (2, 2), (BRIGHT[name],) * 3).save(place / name / f"{number}.png")
    return place


def test_classes_of_two_devices_are_found_by_their_names(tmp_path: Path, folder: Path) -> None:
    """Local index 0 is cat on one device and dog on the other; both models must know all three."""
    path = write_task(folder, PHOTOS)
    spec = file_spec(epochs=60)
    one = Device(path, folder, spec, own=photos(tmp_path / "a", "cat", "dog"))
    two = Device(path, folder, spec, own=photos(tmp_path / "b", "dog", "fox"))
    agreement = agree(one, two)
    assert agreement.classes == ("cat", "dog", "fox")
    model = one.create(agreement)
    assert model == two.create(agreement)
    updates = [load_file(folder / each.train(agreement, model).digest) for each in (one, two)]
    bias = "1.bias"
    initial = load_file(folder / model)[bias]
    # The gradient of an output that no example is of can only lower it.
    assert updates[0][bias][2] < initial[2]
    assert updates[1][bias][0] < initial[0]
    for each, classes in ((one, [0, 1]), (two, [1, 2])):
        counted = each.evaluate(agreement, model).classes
        assert [index for index, count in enumerate(counted) if count.examples] == classes
    trained = two.evaluate(agreement, two.train(agreement, model).digest)
    assert trained.classes[1:] == (ClassCount(1, 1, 1), ClassCount(1, 1, 1))


def test_the_order_of_declared_classes_stays(folder: Path) -> None:
    one = device(folder, TABLE + "\nclasses = ['right', 'left']\n")
    assert agree(one, one).classes == ("right", "left")


def test_declared_classes_that_nobody_has_are_outputs_too(folder: Path) -> None:
    path = write_task(folder, TABLE)
    one = Device(path, folder, classes=("left", "right", "none"))
    assert agree(one).classes == ("left", "right", "none")
    model = one.create(agree(one))
    assert load_file(folder / model)["weight"].shape == (3, 2)


# --- own functions ------------------------------------------------------------------------------------------


def test_own_loops_replace_those_of_p2pfl(folder: Path) -> None:
    source = (
        TABLE
        + """
def train(model, loader, settings):
    for inputs, targets in loader:
        with torch.no_grad():
            model.bias += settings.learning_rate
    return 0.125

def evaluate(model, loader):
    return {"bias": model.bias.mean(), "batches": len(loader)}

primary = ("bias", "max")
"""
    )
    one = device(folder, source)
    assert one.card.measures == Measures("own", ("batches", "bias"), "bias", "max")
    agreement = agree(one)
    model = one.create(agreement)
    before = one.evaluate(agreement, model)
    result = one.train(agreement, model)
    after = one.evaluate(agreement, result.digest)
    assert (result.steps, result.loss, after.examples) == (3, 0.125, 4)
    assert after.metrics["bias"] - before.metrics["bias"] == pytest.approx(3 * 0.05)


@pytest.mark.parametrize("strategy", ["fedprox", "scaffold", "feddyn", "q-fedavg"])
def test_a_strategy_that_changes_local_training_is_refused_with_an_own_loop_before_a_run(
    folder: Path, strategy: str
) -> None:
    file = write_task(folder, TABLE + "\ndef train(model, loader, settings):\n    return 0.0\n")
    one = Device(file, folder, file_spec(strategy=strategy))
    words = f"The strategy {strategy} changes local training, and the task file of 'mine' does it in its own"
    with pytest.raises(TaskError, match=words):
        one.describe()


def test_an_own_evaluation_names_the_metric_that_compares(folder: Path) -> None:
    source = TABLE + "\ndef evaluate(model, loader):\n    return {'dice': 1.0}\n"
    with pytest.raises(TaskError) as refused:
        device(folder, source).describe()
    assert str(refused.value) == (
        'mine.py, line 11, in evaluate(): returned dice; say which is compared: primary = ("dice", "max")'
    )


def test_an_own_optimizer_and_scheduler_train(folder: Path) -> None:
    source = (
        TABLE
        + """
def optimizer(parameters, learning_rate):
    return torch.optim.SGD(parameters, learning_rate)

def scheduler(optimizer):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda rounds: float(rounds == 0))
"""
    )
    one = device(folder, source)
    agreement = agree(one)
    model = one.create(agreement)
    first = one.train(agreement, model, 1)
    assert first.digest != model
    assert one.train(agreement, first.digest, 2).digest == first.digest  # the rate is 0


def test_class_weights_are_those_of_this_device(folder: Path) -> None:
    source = TABLE.replace("x[:, 0] > 0", "x[:, 0] > 1")
    plain, weighted = device(folder, source), device(folder, source, class_weights=True)
    agreement = agree(plain)
    model = plain.create(agreement)
    assert plain.train(agreement, model).digest != weighted.train(agreement, model).digest


def test_class_weights_are_refused_before_a_run_where_there_are_none(folder: Path) -> None:
    source = (
        TABLE + "\ndef loss(outputs, targets):\n    return nn.functional.cross_entropy(outputs, targets)\n"
    )
    one = device(folder, source, class_weights=True)
    with pytest.raises(TaskError, match="--class-weights needs known classes and the default loss"):
        one.create(agree(one))


def test_describing_a_task_leaves_no_trace_in_random_numbers(folder: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    device(folder, TABLE).describe()
    assert torch.equal(torch.rand(1), expected)


def test_a_training_of_a_users_task_can_be_stopped(folder: Path) -> None:
    source = (
        TABLE
        + """
def train(model, loader, settings):
    while True:
        try:
            list(loader)
        except Exception:
            pass
"""
    )
    one = device(folder, source)
    agreement = agree(one)
    job = TrainingJob("run", 1, one.spec, agreement, one.create(agreement), 0)
    one.stopped = True
    answer = one.do(commands.RunTraining(9, job, str(folder), str(folder / "new")))
    assert answer == commands.JobStopped(9)


def test_floats_need_no_classes(folder: Path) -> None:
    source = TABLE.replace("len(agreed.classes)", "1").replace("(x[:, 0] > 0).long()", "x[:, 0] * 2 + 1")
    one = device(folder, source)
    assert (one.card.measures, one.card.labels) == (REGRESSION, ())
    evaluation, _ = one.train_alone(rounds=10)
    assert evaluation.metrics["r2"] > 0.9


# --- mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            TABLE.replace("nn.Linear(2, len(agreed.classes))", "None"),
            "mine.py, line 4, in model(): returned None; return a torch.nn.Module",
        ),
        (
            TABLE.replace("nn.Linear(2, len(agreed.classes))", "nn.ReLU()"),
            "mine.py, line 4, in model(): returned a model without parameters that train",
        ),
        (
            TABLE.replace("nn.Linear(2,", "nn.LazyLinear("),
            "mine.py, line 4, in model(): returned a model with lazy layers, whose sizes are not known yet; give the sizes",
        ),
        (
            TABLE.replace("nn.Linear(2,", "nn.Linear(3,"),
            "mine.py, line 4, in model(): RuntimeError: mat1 and mat2 shapes cannot be multiplied (32x2 and 3x2) "
            "(given inputs of torch.float32 [32, 2])",
        ),
        (
            TABLE.replace("x = torch.randn(", "x = open('/no/such/file') or torch.randn("),
            "mine.py, line 8, in data(): FileNotFoundError: [Errno 2] No such file or directory: '/no/such/file'",
        ),
        (
            TABLE.replace("agreed.classes", "agreed.labels"),
            "mine.py, line 5, in model(): AttributeError: 'Agreed' object has no attribute 'labels'",
        ),
    ],
)
def test_a_mistake_is_found_before_a_run_with_its_line(folder: Path, source: str, said: str) -> None:
    with pytest.raises(TaskError) as refused:
        device(folder, source).describe()
    assert str(refused.value) == said
    assert len(said) <= MAX_REASON


def test_an_error_in_a_later_round_is_told_with_its_line(folder: Path) -> None:
    source = """
    import torch
    from torch import nn

    class Data:
        def __len__(self):
            return 40

        def __getitem__(self, index):
            if index == 39 and torch.is_grad_enabled():
                raise ValueError("picture 39 is broken")
            return torch.zeros(2), index % 2

    class Net(nn.Linear):
        def __init__(self):
            super().__init__(2, 2)

        def forward(self, x):
            if self.training and len(x) == 3:
                raise OSError("three")
            return super().forward(x)

    model = Net

    def data():
        with torch.no_grad():
            return Data(), Data()

    collate = None
    """
    one = device(folder, source, batch_size=40)
    with torch.no_grad():
        agreement = agree(one)
        model = one.create(agreement)
    with pytest.raises(TaskError) as refused:
        one.train(agreement, model)
    assert str(refused.value) == "mine.py, line 10, in __getitem__(): ValueError: picture 39 is broken"


def test_an_error_in_the_model_during_training_is_told_with_its_line(folder: Path) -> None:
    source = TABLE.replace("nn.Linear(2, len(agreed.classes))", "Net()") + (
        "\nclass Net(nn.Linear):\n    def __init__(self):\n        super().__init__(2, 2)\n\n"
        "    def forward(self, x):\n        assert not self.training, 'no training'\n        return super().forward(x)\n"
    )
    one = device(folder, source)
    agreement = agree(one)
    with pytest.raises(TaskError) as refused:
        one.train(agreement, one.create(agreement))
    assert str(refused.value) == "mine.py, line 16, in forward(): AssertionError: no training"


def test_a_loss_that_is_not_a_number_names_the_task(folder: Path) -> None:
    source = TABLE + "\ndef loss(outputs, targets):\n    return outputs.mean() * float('nan')\n"
    one = device(folder, source)
    agreement = agree(one)
    with pytest.raises(TaskError) as refused:
        one.train(agreement, one.create(agreement))
    assert str(refused.value) == "mine: Training diverged: the loss became nan; use a smaller --lr."


def test_a_device_without_the_file_says_what_to_give(folder: Path) -> None:
    with pytest.raises(TaskError, match=r"this device was not given one; use --task FILE\."):
        Jobs("cpu").do(commands.DescribeJob(1, file_spec()), print, lambda: False)


def test_different_files_are_told_apart(folder: Path) -> None:
    one = device(folder, TABLE).card
    metrics = "\ndef metrics(outputs, targets):\n    return {'dice': 1.0}\n"
    two = Device(write_task(folder, TABLE + metrics, "two.py"), folder).card
    spec = file_spec()
    assert merge_cards(spec.task, {"a": one, "b": two})[1] == (
        "b and a differ: its metrics: dice, loss, in place of accuracy, loss; use the same task on all devices"
    )
    three = Device(write_task(folder, TABLE + "\n# changed\n", "three.py"), folder).card
    agreement, _ = merge_cards(spec.task, {"a": one, "c": three})
    assert agreement is not None
    assert agreement.notes == ("the source of the task on c differs from that on a",)
    wide = TABLE.replace("40, 2", "40, 3").replace("nn.Linear(2", "nn.Linear(3")
    four = Device(write_task(folder, wide, "four.py"), folder).card
    assert misfit(spec.task, agreement, four) == "its inputs have the shape 3, and those of the run 2"


# --- data that are the same on all devices ----------------------------------------------------------------------


@pytest.mark.parametrize("has_loop", [False, True])
def test_data_that_all_devices_have_are_divided_among_them(folder: Path, has_loop: bool) -> None:
    source = (TEMPLATES / "classification.py").read_text(encoding="utf-8")
    if has_loop:
        source += (
            "\n\ndef train(model, loader, settings):\n    return float(sum(len(y) for _, y in loader))\n"
        )
    one = device(folder, source, partition="shards:2", partitions=3)
    agreement, flaw = merge_cards(one.spec.task, {"ada": one.card})
    assert agreement is not None, flaw
    model = one.create(agreement)
    results = [one.train(agreement, model, part=part) for part in range(3)]
    sizes = [result.part.examples for result in results]
    assert sum(sizes) == 1617
    for result in results:
        counts = [label.examples for label in result.part.labels]
        assert sum(counts) == result.part.examples > 500
        assert 0 in counts, "two shards do not hold all ten digits"
    if has_loop:
        assert [result.loss for result in results] == sizes
    parts = [one.evaluate(agreement, model, part, 3) for part in range(3)]
    assert sum(part.examples for part in parts) == one.evaluate(agreement, model).examples == 180
    with pytest.raises(TaskError, match="There is no partition 3: the run has 3"):
        one.train(agreement, model, part=3)


def test_a_model_of_one_device_is_judged_on_the_classes_of_its_part(folder: Path) -> None:
    source = (TEMPLATES / "classification.py").read_text(encoding="utf-8")
    one = device(folder, source, partition="labels:4", partitions=3, personalise=1)
    agreement, flaw = merge_cards(one.spec.task, {"ada": one.card})
    assert agreement is not None, flaw
    evaluation = one.evaluate(agreement, one.create(agreement), 0, 3)
    assert evaluation.examples < 60
    assert sum(count.examples > 0 for count in evaluation.classes) == 4


def test_a_device_with_data_of_its_own_trains_on_all_of_them(folder: Path) -> None:
    one = Device(TEMPLATES / "classification.py", folder)
    assert (partitions_of(one.spec.task), evaluation_parts(one.spec.task, 3)) == (1, 1)


def test_likely_mistakes_are_notes_of_the_card_with_their_line(folder: Path) -> None:
    softmax = TABLE.replace(
        "nn.Linear(2, len(agreed.classes))", "nn.Sequential(nn.Linear(2, 2), nn.Softmax(1))"
    )
    one = device(folder, softmax + "\ndef optimiser(parameters, rate):\n    pass\n")
    assert one.describe().card.notes == (
        "mine.py, line 11: optimiser is not used; is optimizer meant?",
        "mine.py, line 4, in model(): the outputs of the model are probabilities (its last layer is a softmax), and "
        "cross-entropy takes scores: leave the softmax out, or define loss()",
    )
    own = (
        softmax + "\ndef loss(outputs, targets):\n    return nn.functional.nll_loss(outputs.log(), targets)\n"
    )
    assert device(folder, own).describe().card.notes == ()


def test_a_primary_metric_that_is_not_measured_is_named_with_its_line(folder: Path) -> None:
    with pytest.raises(TaskError) as refused:
        device(folder, TABLE + '\nprimary = ("dice", "max")\n').describe()
    assert str(refused.value) == (
        "mine.py, line 11: the primary metric 'dice' is not measured; there are accuracy, loss, f1"
    )
