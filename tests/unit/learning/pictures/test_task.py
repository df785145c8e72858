from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from p2pfl.agreement import merge_cards, misfit
from p2pfl.cards import Agreement, DataCard, LabelCount
from p2pfl.errors import TaskError
from p2pfl.learning.commands import (
    AggregationDone,
    Answer,
    Command,
    CreateDone,
    CreateJob,
    DescribeDone,
    DescribeJob,
    EvaluationDone,
    RunAggregation,
    RunEvaluation,
    RunTraining,
    TrainingDone,
)
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.jobs import Jobs
from p2pfl.learning.local_task import PreparedTask, open_task
from p2pfl.learning.models import MODELS
from p2pfl.learning.pictures import batches
from p2pfl.learning.pictures.task import PicturesLocalTask, open_pictures
from p2pfl.messages import Evaluation
from p2pfl.spec import PicturesTask, RunSpec
from p2pfl.work import (
    AggregatedModel,
    AggregationJob,
    EvaluationJob,
    TrainingJob,
    TrainingResult,
    WeightedUpdate,
)
from tests.support.core import ballot
from tests.support.learning import pictures_spec
from tests.support.pictures import noise, write_digits, write_noise, write_picture

CPU = torch.device("cpu")
TASK = PicturesTask("2nn")


def _open(folder: Path, task: PicturesTask = TASK, seed: int = 7, *classes: str) -> PicturesLocalTask:
    return open_pictures(task, seed, DataPlaces(own=folder, classes=classes))


def _prepared(local: PicturesLocalTask, spec: RunSpec, **others: DataCard) -> PreparedTask:
    agreement, reason = merge_cards(spec.task, {"this": local.card, **others})
    assert agreement is not None, reason
    return local.prepare(spec, agreement, CPU)


def _targets(prepared: PreparedTask) -> tuple[Counter[int], Counter[int]]:
    parts = prepared.train_part(0), prepared.test_part(0, 1)
    train, test = (Counter(int(y) for _, ys, _ in part.ordered(9) for y in ys) for part in parts)
    return train, test


def test_the_card_tells_the_training_pictures_of_each_class(tmp_path: Path) -> None:
    local = _open(write_noise(tmp_path, cat=20, dog=30))
    assert local.card == DataCard(
        "pictures", 45, (LabelCount("cat", 18), LabelCount("dog", 27)), input_shape=(1, 8, 8)
    )
    assert local.test_examples == 5


def test_a_test_folder_is_held_out_and_not_counted(tmp_path: Path) -> None:
    write_noise(tmp_path / "train", cat=5, dog=5)
    write_noise(tmp_path / "test", cat=3, fox=3)
    local = _open(tmp_path)
    assert local.card.labels == (LabelCount("cat", 5), LabelCount("dog", 5), LabelCount("fox", 0))
    assert (local.card.examples, local.test_examples) == (10, 6)
    train, test = _targets(_prepared(local, pictures_spec()))
    assert (train, test) == ({0: 5, 1: 5}, {0: 3, 2: 3})


def test_the_same_pictures_are_held_out_after_a_restart_and_others_with_another_seed(tmp_path: Path) -> None:
    write_noise(tmp_path, cat=20, dog=20)
    held_out = [{picture.path for picture in _open(tmp_path, seed=seed)._pictures[36:]} for seed in (7, 7, 8)]
    assert held_out[0] == held_out[1] != held_out[2]


def test_counts_are_not_told_with_share_counts(tmp_path: Path) -> None:
    card = _open(write_noise(tmp_path, cat=20, dog=30), PicturesTask("2nn", share="counts")).card
    assert (card.examples, card.share) == (45, "counts")
    assert card.labels == (LabelCount("cat", 0), LabelCount("dog", 0))


def test_nothing_of_the_data_is_told_with_share_none(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    task = PicturesTask("2nn", share="none", image_size=16)
    write_noise(tmp_path, cat=20)
    (tmp_path / "cat" / "x.png").write_bytes(b"")
    card = _open(tmp_path, task, 7, "dog", "cat").card
    labels = (LabelCount("dog", 0), LabelCount("cat", 0))
    assert card == DataCard("pictures", 1, labels, share="none", input_shape=(3, 16, 16))
    assert "1 file cannot be read and is left out: cat/x.png" in capfd.readouterr().err.splitlines()


def test_with_share_none_all_is_trained_on_in_the_shape_of_the_run(tmp_path: Path) -> None:
    spec = pictures_spec(share="none", image_size=16)
    assert isinstance(spec.task, PicturesTask)
    local = _open(write_noise(tmp_path, cat=20), spec.task, 7, "dog", "cat")
    prepared = _prepared(local, spec)
    part = prepared.train_part(0)
    assert part.examples == 18
    assert prepared.part_card(0).examples == 1
    assert next(part.ordered(4))[0].shape == (4, 3, 16, 16)
    assert _targets(prepared)[0] == {0: 18}  # the agreed classes are sorted: cat, dog


def test_declared_classes_are_in_the_card_also_without_pictures(tmp_path: Path) -> None:
    card = _open(write_noise(tmp_path, cat=10), TASK, 7, "cat", "dog").card
    assert card.labels == (LabelCount("cat", 9), LabelCount("dog", 0))


def test_what_is_unusual_is_in_the_card(tmp_path: Path) -> None:
    write_noise(tmp_path, cat=10)
    (tmp_path / "cat" / "x.jpg").write_bytes(b"\xff\xd8\xff")
    assert _open(tmp_path).card.notes == (
        "1 file cannot be read and is left out: cat/x.jpg",
        "all pictures are of the class cat",
    )


@pytest.mark.parametrize(
    ("task", "classes", "message"),
    [
        (PicturesTask("vgg"), (), "no model 'vgg' for pictures; use one of 2nn, cnn, lenet, resnet18 with"),
        (PicturesTask("2nn", share="none", image_size=8), (), "With --share none .* with --classes"),
        (PicturesTask("2nn", share="none"), ("cat", "dog"), "With --share none .* with --image-size"),
        (TASK, ("cat",), r"has pictures of 'dog', which --classes does not name"),
    ],
)
def test_a_task_that_cannot_be_is_refused(
    tmp_path: Path, task: PicturesTask, classes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(TaskError, match=message):
        _open(write_noise(tmp_path, cat=2, dog=2), task, 7, *classes)


def test_data_are_needed() -> None:
    with pytest.raises(TaskError, match="needs --data with a folder"):
        open_task(pictures_spec(), DataPlaces())


def test_a_single_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="has one picture; expected at least two"):
        _open(write_noise(tmp_path, cat=1))


def test_class_folders_are_mapped_to_the_agreed_classes_by_name(tmp_path: Path) -> None:
    local = _open(write_noise(tmp_path / "this", dog=10, fox=20))
    other = _open(write_noise(tmp_path / "other", cat=10, emu=10)).card
    train, test = _targets(_prepared(local, pictures_spec(), other=other))
    assert (train, test) == ({1: 9, 3: 18}, {1: 1, 3: 2})


def test_a_late_device_trains_on_its_own_pictures_and_needs_no_class_that_is_not_agreed(
    tmp_path: Path,
) -> None:
    spec = pictures_spec()
    founder, late, odd = (
        _open(write_noise(tmp_path / name, **counts))
        for name, counts in (("a", {"cat": 9, "dog": 9}), ("b", {"dog": 30}), ("c", {"emu": 9}))
    )
    agreement, _ = merge_cards(spec.task, {"founder": founder.card})
    assert agreement is not None
    assert misfit(spec.task, agreement, late.card) == ""
    train, _ = _targets(late.prepare(spec, agreement, CPU))
    assert train == {1: 27}
    assert "'emu'" in misfit(spec.task, agreement, odd.card)
    with pytest.raises(TaskError, match="has pictures of 'emu', which the run does not have"):
        odd.prepare(spec, agreement, CPU)


def test_pictures_are_converted_to_the_shape_of_the_run(tmp_path: Path) -> None:
    for number in range(10):
        folder = tmp_path / ("cat" if number % 2 else "dog")
        write_picture(folder / f"{number}.png", noise(number, 20, 30, 3 if number < 6 else 1))
    local = _open(tmp_path)
    assert local.card.input_shape == (3, 20, 30)
    x = next(_prepared(local, pictures_spec()).train_part(0).ordered(9))[0]
    assert (x.shape, x.dtype) == ((9, 3, 20, 30), torch.float32)
    x = next(_prepared(local, pictures_spec(image_size=12)).train_part(0).ordered(9))[0]
    assert x.shape == (9, 3, 12, 12)


@pytest.mark.parametrize("model", sorted(MODELS))
@pytest.mark.parametrize("side", [4, 8, 33])
def test_models_have_the_size_of_the_agreement(tmp_path: Path, model: str, side: int) -> None:
    local = _open(write_noise(tmp_path, cat=3, dog=3, fox=3))
    prepared = _prepared(local, pictures_spec(model=model, image_size=side))
    module = prepared.build().eval()
    assert module(next(prepared.test_part(0, 1).ordered(9))[0]).shape == (1, 3)


def test_pictures_that_are_too_small_for_a_model_are_refused(tmp_path: Path) -> None:
    local = _open(write_noise(tmp_path, cat=3, dog=3))
    with pytest.raises(TaskError, match=r"the shape \[1, 3, 3\]; expected .* at least 4 pixels"):
        _prepared(local, pictures_spec(image_size=3))


def test_augmentation_is_for_training_only(tmp_path: Path) -> None:
    local = _open(write_noise(tmp_path, cat=30, dog=30))
    for augment in (False, True):
        prepared = _prepared(local, pictures_spec(augment=augment))
        train, test = prepared.train_part(0), prepared.test_part(0, 1)
        ordered = {one.numpy().tobytes() for x, _, _ in train.ordered(9) for one in x}
        order = train.shuffled([train.examples], torch.Generator().manual_seed(1))
        shuffled = {one.numpy().tobytes() for x, _, _ in order for one in x}
        assert (ordered == shuffled) is not augment
        held_out = {one.numpy().tobytes() for x, _, _ in test.ordered(9) for one in x}
        order = test.shuffled([test.examples], torch.Generator().manual_seed(1))
        assert held_out == {one.numpy().tobytes() for x, _, _ in order for one in x}


# --- a run of three devices, job by job ---------------------------------------------------------------------


class Device:
    """The worker of one device with its own folder, and the blobs of all."""

    def __init__(self, blobs: Path, places: DataPlaces) -> None:
        self.blobs = blobs
        self._jobs = Jobs("cpu", threads=1, places=places)

    def do(self, command: Command) -> Answer:
        return self._jobs.do(command, lambda _: None, lambda: False)

    def describe(self, spec: RunSpec, agreement: Agreement | None = None) -> DescribeDone:
        answer = self.do(DescribeJob(1, spec, agreement))
        assert isinstance(answer, DescribeDone)
        return answer

    def create(self, spec: RunSpec, agreement: Agreement) -> str:
        answer = self.do(CreateJob(1, spec, agreement, str(self.blobs / "new")))
        assert isinstance(answer, CreateDone)
        return self._named(answer.digest)

    def train(self, spec: RunSpec, agreement: Agreement, model: str, number: int) -> TrainingResult:
        job = TrainingJob("run", number, spec, agreement, model, 0, number, spec.rounds)
        answer = self.do(RunTraining(1, job, str(self.blobs), str(self.blobs / "new")))
        assert isinstance(answer, TrainingDone)
        self._named(answer.result.digest)
        return answer.result

    def aggregate(self, spec: RunSpec, parent: str, results: Sequence[TrainingResult]) -> str:
        updates = tuple(WeightedUpdate(one.digest, one.part.examples) for one in results)
        job = AggregationJob("run", 1, ballot(1, "laptop"), spec, parent, updates)
        answer = self.do(RunAggregation(1, job, str(self.blobs), str(self.blobs / "new")))
        assert isinstance(answer, AggregationDone)
        assert isinstance(answer.result, AggregatedModel)
        return self._named(answer.result.digest)

    def evaluate(self, spec: RunSpec, agreement: Agreement, model: str) -> Evaluation:
        job = EvaluationJob("run", 1, spec, agreement, model, 0, 1)
        answer = self.do(RunEvaluation(1, job, str(self.blobs)))
        assert isinstance(answer, EvaluationDone)
        return answer.result

    def _named(self, digest: str) -> str:
        (self.blobs / "new").rename(self.blobs / digest)
        return digest


def test_three_folders_of_digits_one_without_two_classes_train_one_model(tmp_path: Path) -> None:
    spec = pictures_spec(model="lenet", rounds=3, epochs=4)
    (tmp_path / "blobs").mkdir()
    devices = {}
    for number, name in enumerate(("attic", "desk", "laptop")):
        folder = write_digits(
            tmp_path / name, range(number, 1200, 3), without=(3, 8) if name == "desk" else ()
        )
        devices[name] = Device(tmp_path / "blobs", DataPlaces(own=folder))
    cards = {name: device.describe(spec).card for name, device in devices.items()}
    agreement, reason = merge_cards(spec.task, cards)
    assert agreement is not None, reason
    assert agreement.classes == tuple("0123456789")
    assert agreement.input_shape == (1, 8, 8)
    assert agreement.notes == ("desk has no examples of the classes '3', '8'",)
    model = devices["attic"].create(spec, agreement)
    schemas = [device.describe(spec, agreement).schema for device in devices.values()]
    assert schemas[0] == schemas[1] == schemas[2] is not None
    for number in range(3):
        results = [device.train(spec, agreement, model, number) for device in devices.values()]
        assert [result.part for result in results] == list(cards.values())
        model = devices["laptop"].aggregate(spec, model, results)
    scores = {name: device.evaluate(spec, agreement, model) for name, device in devices.items()}
    assert [score.examples for score in scores.values()] == [40, 32, 40]
    assert [count.examples for count in scores["desk"].classes][3::5] == [0, 0]
    assert all(score.sums["accuracy"] / score.examples > 0.75 for score in scores.values()), scores
    again = Device(tmp_path / "blobs", DataPlaces(own=tmp_path / "desk"))
    assert again.evaluate(spec, agreement, model) == scores["desk"]
    assert (
        again.train(spec, agreement, model, 9).digest
        == devices["desk"].train(spec, agreement, model, 9).digest
    )


def test_pictures_that_do_not_fit_into_memory_train_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_digits(tmp_path / "data", range(60))
    digests = []
    for augment in (False, True):
        spec = pictures_spec(augment=augment)
        for fits, workers in ((True, 0), (False, 0), (False, 2)):
            monkeypatch.setattr(batches, "fit_in_memory", lambda *_, fits=fits: fits)
            (blobs := tmp_path / f"{augment}{fits}{workers}").mkdir()
            device = Device(blobs, DataPlaces(own=tmp_path / "data", loader_workers=workers))
            agreement, _ = merge_cards(spec.task, {"this": device.describe(spec).card})
            assert agreement is not None
            digests.append(device.train(spec, agreement, device.create(spec, agreement), 0).digest)
    assert digests[0] == digests[1] == digests[2] != digests[3] == digests[4] == digests[5]
