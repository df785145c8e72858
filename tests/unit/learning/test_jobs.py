from __future__ import annotations

import shutil
import time
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from p2pfl.errors import BlobError, P2pflError, TaskError
from p2pfl.learning import builtin, commands, jobs, training, weights
from p2pfl.learning.batches import TensorBatches
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.jobs import Jobs
from p2pfl.learning.local_files import memory_folder
from p2pfl.learning.memory import RunMemory
from p2pfl.learning.objective import Classification, Regression
from p2pfl.learning.slots import read_slots
from p2pfl.learning.tasks import digits, fashion_mnist
from p2pfl.learning.tasks.mnist import IdxImages
from p2pfl.messages import Evaluation, add_evaluations
from p2pfl.schema import file_bytes, parse_header
from p2pfl.spec import RunSpec, blob_schema
from p2pfl.store.hashing import digest_of
from p2pfl.work import (
    AggregatedModel,
    AggregationJob,
    EvaluationJob,
    TrainingJob,
    TrainingResult,
    WeightedUpdate,
)
from tests.support.core import ballot
from tests.support.images import write_images
from tests.support.learning import SPEC, make_spec
from tests.support.records import AGREEMENT as SMALLER

AGREEMENT = msgspec.structs.replace(SMALLER, examples=1437)
"""What devices with the digits agree on."""


class Bench:
    """Does jobs in this process and keeps what they report."""

    def __init__(self, folder: Path) -> None:
        self.jobs = Jobs("cpu", threads=1)
        self.folder = folder
        self.progress: list[commands.TrainJobProgress] = []
        self.stopped = False

    def do(self, command: commands.Command) -> commands.Answer:
        return self.jobs.do(command, self.progress.append, lambda: self.stopped)

    def create(self, spec: RunSpec = SPEC) -> str:
        """Make the initial model; return its digest, by which its file is named."""
        answer = self.do(commands.CreateJob(1, spec, AGREEMENT, str(self.folder / "initial")))
        assert isinstance(answer, commands.CreateDone)
        (self.folder / answer.digest).write_bytes((self.folder / "initial").read_bytes())
        return answer.digest

    def train(
        self, model: str, name: str, spec: RunSpec = SPEC, number: int = 1, partition: int = 0
    ) -> TrainingResult:
        """Train; the update is in the file *name*."""
        answer = self.do(self.training(model, name, spec, number, partition))
        assert isinstance(answer, commands.TrainingDone)
        return answer.result

    def training(
        self, model: str, name: str, spec: RunSpec = SPEC, number: int = 1, partition: int = 0
    ) -> commands.RunTraining:
        job = TrainingJob("run", number, spec, AGREEMENT, model, partition)
        return commands.RunTraining(2, job, str(self.folder), str(self.folder / name))

    def evaluate(self, model: str, part: int = 0, parts: int = 1, spec: RunSpec = SPEC) -> Evaluation:
        job = EvaluationJob("run", 1, spec, AGREEMENT, model, part, parts)
        answer = self.do(commands.RunEvaluation(3, job, str(self.folder)))
        assert isinstance(answer, commands.EvaluationDone)
        return answer.result

    def tensors(self, name: str) -> dict[str, Tensor]:
        return load_file(self.folder / name)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_the_description_is_of_model_and_data(bench: Bench) -> None:
    answer = bench.do(commands.DescribeJob(5, SPEC, AGREEMENT))
    assert isinstance(answer, commands.DescribeDone)
    assert (answer.id, answer.card.examples, answer.test_examples) == (5, 1437, 360)
    assert answer.schema == weights.schema_of(digits.TASK.build("2nn"))
    assert answer.parameters == 55210
    assert answer.device == "cpu"


def test_the_same_seed_gives_the_same_initial_model(bench: Bench, tmp_path: Path) -> None:
    first = bench.do(commands.CreateJob(1, SPEC, AGREEMENT, str(tmp_path / "a")))
    bench.train(bench.create(), "u")
    again = bench.do(commands.CreateJob(1, SPEC, AGREEMENT, str(tmp_path / "b")))
    fresh = Jobs("cpu").do(commands.CreateJob(1, SPEC, AGREEMENT, str(tmp_path / "c")), print, lambda: False)
    other = bench.do(commands.CreateJob(1, make_spec(seed=8), AGREEMENT, str(tmp_path / "d")))
    assert first == again == fresh != other


def test_the_initial_model_takes_the_place_of_the_one_that_was_described(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = type(digits.TASK).build
    built: list[weakref.ref[nn.Module]] = []

    def watched(task: digits.Digits, model: str) -> nn.Module:
        assert not any(module() for module in built), "two models are in memory at the same time"
        module = build(task, model)
        built.append(weakref.ref(module))
        return module

    monkeypatch.setattr(type(digits.TASK), "build", watched)
    bench.do(commands.DescribeJob(5, SPEC, AGREEMENT))
    bench.train(bench.create(), "u")
    assert len(built) == 2


def test_training_gives_an_update_and_its_result(bench: Bench) -> None:
    answer = bench.train(bench.create(), "u")
    assert answer.digest == digest_of(bench.folder / "u")
    assert answer.part.examples == sum(count.examples for count in answer.part.labels) == 359
    assert answer.part.classes == tuple("0123456789")
    assert answer.steps == 12
    assert 0 < answer.loss < 3
    assert answer.seconds > 0
    assert not torch.equal(bench.tensors("u")["out.weight"], bench.tensors("initial")["out.weight"])
    described = bench.do(commands.DescribeJob(9, SPEC, AGREEMENT))
    assert isinstance(described, commands.DescribeDone)
    assert described.schema is not None
    written = (bench.folder / "u").read_bytes()
    schema = blob_schema(described.schema, SPEC, "update")
    assert (parse_header(written), len(written)) == (schema, file_bytes(schema))


def test_training_twice_gives_the_same_update_whatever_was_trained_between(bench: Bench) -> None:
    model = bench.create()
    digests = [
        bench.train(model, "u", number=number, partition=partition).digest
        for number, partition in ((1, 0), (2, 0), (1, 1), (1, 0))
    ]
    assert digests[0] == digests[3]
    assert len(set(digests)) == 3


def _moved(bench: Bench, spec: RunSpec, trained: int = 0, rounds: int = 1) -> float:
    """Return how far a training moves the parameters of one layer."""
    model = bench.create(spec)
    job = TrainingJob("run", 1, spec, AGREEMENT, model, 0, trained, rounds)
    bench.do(commands.RunTraining(2, job, str(bench.folder), str(bench.folder / "u")))
    return float((bench.tensors("u")["out.bias"] - bench.tensors("initial")["out.bias"]).norm())


def test_the_schedule_goes_by_the_trained_rounds_of_all_rounds(bench: Bench) -> None:
    spec = make_spec(schedule="step", steps=1, momentum=0.0)
    whole, tenth = _moved(bench, spec, 3, 8), _moved(bench, spec, 4, 8)
    assert tenth == pytest.approx(whole / 10, rel=1e-3)
    assert _moved(bench, make_spec(steps=1, momentum=0.0), 4, 8) == pytest.approx(whole)


def test_class_weights_are_those_of_the_partition_and_change_the_update(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    weighed: list[list[int]] = []
    weighted = Classification.weighted

    def recorded(self: Classification, labels: Tensor) -> Classification:
        weighed.append(torch.bincount(labels, minlength=10).tolist())
        return weighted(self, labels)

    monkeypatch.setattr(Classification, "weighted", recorded)
    model = bench.create()
    plain = bench.train(model, "u")
    other = bench.train(model, "u", make_spec(class_weights=True))
    assert weighed == [[one.examples for one in plain.part.labels]]
    assert other.digest != plain.digest


def test_class_weights_of_examples_without_labels_are_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = bench.create()
    monkeypatch.setattr(TensorBatches, "labels", None)
    with pytest.raises(TaskError, match="--class-weights needs the classes of the examples"):
        bench.train(model, "u", make_spec(class_weights=True))


def test_class_weights_without_classes_are_refused_before_the_first_round(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builtin, "Classification", lambda agreement: Regression(1.0))
    with pytest.raises(TaskError, match="--class-weights needs a task with classes"):
        bench.do(commands.DescribeJob(1, make_spec(class_weights=True), AGREEMENT))


def test_a_model_that_is_not_there_is_told(bench: Bench) -> None:
    model = bench.create()
    (bench.folder / model).unlink()
    with pytest.raises(BlobError, match=f"{model} cannot be opened"):
        bench.evaluate(model)


def test_a_parent_is_read_once_to_be_evaluated_and_trained_on_and_again_when_it_changed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = bench.create()
    read: list[str] = []
    load_into = weights.load_into

    def recorded(path: Path, module: nn.Module, digest: str, personal: Sequence[str]) -> None:
        read.append(path.name)
        load_into(path, module, digest, personal)

    monkeypatch.setattr(weights, "load_into", recorded)
    before = bench.evaluate(model)
    update = bench.train(model, "u").digest
    assert read == [model]
    assert bench.evaluate(model) == before
    assert read == [model, model]
    (bench.folder / "u").rename(bench.folder / update)
    assert bench.evaluate(update) != before
    assert read == [model, model, update]


def test_a_parent_whose_bytes_are_not_those_of_its_digest_is_neither_evaluated_nor_trained_on(
    bench: Bench,
) -> None:
    model = bench.create()
    bench.evaluate(model)
    content = bytearray((bench.folder / model).read_bytes())
    content[-1] ^= 1
    (bench.folder / model).write_bytes(content)
    with pytest.raises(BlobError, match=f"{model} is damaged: its digest differs from its name"):
        bench.evaluate(model)
    with pytest.raises(BlobError, match="is damaged"):
        bench.train(model, "u")


def test_an_initial_model_with_a_parameter_that_is_not_finite_is_a_fault_of_the_task(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = type(digits.TASK).build

    def spoilt(task: object, model: str) -> nn.Module:
        module = build(digits.TASK, model)
        module.register_buffer("limit", torch.tensor(float("inf")))  # only looked at
        parameter = dict(module.named_parameters())["out.weight"]
        parameter.data[0, 0] = value
        return module

    monkeypatch.setattr(type(digits.TASK), "build", spoilt)
    value = float("nan")
    with pytest.raises(TaskError, match=r"a number that is not finite \(NaN or infinity\) in 'out.weight'"):
        bench.create()
    value = 0.0
    bench.create()


def test_partitions_together_are_all_training_data(bench: Bench) -> None:
    model = bench.create()
    spec = make_spec(partition="dirichlet:0.5")
    answers = [bench.train(model, "u", spec, partition=index) for index in range(4)]
    assert sum(answer.part.examples for answer in answers) == 1437


def test_a_partition_beyond_the_last_is_refused(bench: Bench) -> None:
    with pytest.raises(TaskError, match="no partition 4: the run has 4"):
        bench.train(bench.create(), "u", partition=4)


def test_progress_comes_early_and_predicts(bench: Bench) -> None:
    bench.train(bench.create(), "u")
    first = bench.progress[0]
    assert first.done <= 2
    assert first.total == 12
    assert first.predicted > 0


@pytest.mark.parametrize(
    ("deadline", "steps"), [(5.0, 5), (0.001, 1), (11.0, 11), (12.0, 12), (99.0, 12), (0.0, 12)]
)
def test_a_training_is_cut_by_the_deadline_after_the_batch_it_is_in(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, deadline: float, steps: int
) -> None:
    model, spec = bench.create(), make_spec(deadline=deadline)
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    descend = training._descend

    def slow(*arguments: Any) -> None:
        nonlocal now
        now += 1.0
        descend(*arguments)

    monkeypatch.setattr(training, "_descend", slow)
    result = bench.train(model, "u", spec)
    assert (result.steps, result.planned) == (steps, 12 if steps < 12 else 0)
    assert all(0 < one.predicted <= (deadline + 1.0 if deadline else 12.0) for one in bench.progress)


def test_a_training_that_is_cut_does_not_tell_the_number_of_examples_where_nothing_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "share_of", lambda _task: "none")
    result = bench.train(bench.create(), "u", make_spec(deadline=1e-9))
    assert (result.steps, result.planned) == (1, 0)


def test_a_stopped_training_ends_without_an_update(bench: Bench) -> None:
    model = bench.create()
    bench.stopped = True
    assert bench.do(bench.training(model, "u")) == commands.JobStopped(2)
    assert not (bench.folder / "u").exists()


def test_a_model_of_another_kind_is_not_trained(bench: Bench) -> None:
    with pytest.raises(P2pflError, match="does not fit"):
        bench.train(bench.create(make_spec(model="cnn")), "u")


def test_parts_of_an_evaluation_sum_up_to_the_whole(bench: Bench) -> None:
    model = bench.create()
    whole = bench.evaluate(model)
    parts = [bench.evaluate(model, part, 7) for part in range(7)]
    assert whole.examples == 360
    assert sum(part.sums["accuracy"] for part in parts) == whole.sums["accuracy"]
    assert sum(part.examples for part in parts) == whole.examples


def test_more_parts_than_test_examples_are_refused(bench: Bench) -> None:
    with pytest.raises(TaskError, match="too few for 400 members"):
        bench.evaluate(bench.create(), 399, 400)


def test_two_nodes_give_what_averaging_their_updates_by_hand_gives(bench: Bench) -> None:
    model = bench.create()
    for index in range(2):
        bench.train(model, f"u{index}", partition=index)
    updates = tuple(WeightedUpdate(f"u{index}", 100 + index) for index in range(2))
    job = AggregationJob("run", 1, ballot(1, "ada"), SPEC, model, updates)
    answer = bench.do(commands.RunAggregation(4, job, str(bench.folder), str(bench.folder / "mean")))
    assert isinstance(answer, commands.AggregationDone)
    assert answer.result == AggregatedModel(digest_of(bench.folder / "mean"))
    one, two, mean = bench.tensors("u0"), bench.tensors("u1"), bench.tensors("mean")
    for name in mean:
        assert torch.allclose(mean[name], (one[name] * 100 + two[name] * 101) / 201, rtol=0, atol=1e-6)


def test_an_unknown_device_fails_the_job_not_the_worker() -> None:
    with pytest.raises(TaskError, match="abacus"):
        Jobs("abacus").do(commands.DescribeJob(1, SPEC), print, lambda: False)


@pytest.fixture
def images(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunSpec:
    """A run of Fashion-MNIST, of which this device has 60 and 30 easy pictures, kept as bytes."""
    assert isinstance(fashion_mnist.TASK, IdxImages)
    small = replace(fashion_mnist.TASK, train_examples=60, test_examples=30)
    monkeypatch.setattr(fashion_mnist, "TASK", small)
    write_images(tmp_path / "data", 60, 30)
    bench.jobs = Jobs("cpu", 1, DataPlaces(tmp_path / "data"))
    return make_spec(task="fashion-mnist", partitions=2, batch_size=10, epochs=20)


def test_pictures_are_trained_on_and_evaluated_in_the_scale_of_their_task(
    bench: Bench, images: RunSpec
) -> None:
    trained = bench.train(bench.create(images), "u", images)
    assert (trained.part.examples, sum(one.examples for one in trained.part.labels)) == (30, 30)
    (bench.folder / "u").rename(bench.folder / trained.digest)
    parts = [bench.evaluate(trained.digest, part, 4, images) for part in range(4)]
    assert [part.examples for part in parts] == [8, 8, 7, 7]
    assert sum(part.sums["accuracy"] for part in parts) == 30
    module = fashion_mnist.TASK.build("2nn")
    weights.load_into(bench.folder / trained.digest, module)
    data = fashion_mnist.TASK.load(DataPlaces(bench.folder / "data"))
    assert data.scaling is not None
    whole = TensorBatches(data.scaling(data.test_x), data.test_y, torch.arange(30))
    evaluation = training.evaluate(module, whole, Classification(AGREEMENT))
    assert sum(part.sums["loss"] for part in parts) == pytest.approx(evaluation.sums["loss"], rel=1e-4)
    assert [sum(one.right for one in part.classes) for part in parts] == [8, 8, 7, 7]


def test_data_that_are_not_in_the_data_root_fail_the_job(bench: Bench, tmp_path: Path) -> None:
    jobs = Jobs("cpu", 1, DataPlaces(tmp_path / "empty"))
    with pytest.raises(TaskError, match=f"Looked for .* in {tmp_path}/empty/MNIST/raw"):
        jobs.do(commands.DescribeJob(1, make_spec(task="mnist")), print, lambda: False)


# --- models that are particular to each device ---------------------------------------------------------------


def _federated(folder: Path, spec: RunSpec, clients: int, rounds: int) -> float:
    """Return the accuracy after *rounds* rounds of *clients* devices with a folder each."""
    benches = [Bench(folder / str(client) / "blobs") for client in range(clients)]
    for bench in benches:
        bench.folder.mkdir(parents=True)

    def give(digest: str, source: Path) -> None:
        for bench in benches:
            if not (bench.folder / digest).exists():
                (bench.folder / digest).write_bytes(source.read_bytes())

    model, counted = benches[0].create(spec), [""] * clients
    give(model, benches[0].folder / model)
    for number in range(1, rounds + 1):
        updates = []
        for index, bench in enumerate(benches):
            job = TrainingJob("run", number, spec, AGREEMENT, model, index, memory=counted[index])
            path = bench.folder / "u"
            answer = bench.do(commands.RunTraining(2, job, str(bench.folder), str(path)))
            assert isinstance(answer, commands.TrainingDone)
            give(answer.result.digest, path)
            updates.append(WeightedUpdate(answer.result.digest, answer.result.part.examples))
        aggregation = AggregationJob("run", number, ballot(1, "ada"), spec, model, tuple(updates))
        path = benches[0].folder / "mean"
        done = benches[0].do(commands.RunAggregation(4, aggregation, str(benches[0].folder), str(path)))
        assert isinstance(done, commands.AggregationDone)
        assert isinstance(done.result, AggregatedModel)
        model, counted = done.result.digest, [update.digest for update in updates]
        give(model, path)
    evaluations = []
    for index, bench in enumerate(benches):
        judged = EvaluationJob("run", rounds, spec, AGREEMENT, model, index, clients, counted[index], index)
        answered = bench.do(commands.RunEvaluation(3, judged, str(bench.folder)))
        assert isinstance(answered, commands.EvaluationDone)
        evaluations.append(answered.result)
    return add_evaluations(evaluations).metrics["accuracy"]


def test_personal_heads_beat_the_common_model_where_devices_have_few_classes(tmp_path: Path) -> None:
    options = {"partition": "shards:2", "partitions": 6, "epochs": 3}
    common = _federated(tmp_path / "common", make_spec(**options), 6, 3)
    personal = _federated(tmp_path / "own", make_spec(**options, personal=("out.*",)), 6, 3)
    assert personal > common + 0.1
    assert personal > 0.9


# --- strategies with a memory -------------------------------------------------------------------------------


class Member:
    """A device with blobs and a memory of its own, on one part of the digits."""

    def __init__(self, folder: Path, partition: int) -> None:
        self.folder = folder / f"device-{partition}"
        self.blobs = self.folder / "blobs"
        self.blobs.mkdir(parents=True)
        self.partition = partition
        self.bench = Bench(self.blobs)
        self.counted = ""
        """Its last update that a record counts."""

    def train(self, spec: RunSpec, model: str, state: str, number: int) -> TrainingResult:
        job = TrainingJob(
            "run",
            number,
            spec,
            AGREEMENT,
            model,
            self.partition,
            state=state,
            members=2,
            memory=self.counted,
        )
        update, control = self.blobs / "u", self.blobs / "c"
        answer = self.bench.do(commands.RunTraining(2, job, str(self.blobs), str(update), str(control)))
        assert isinstance(answer, commands.TrainingDone)
        return answer.result


class Federation:
    """Two devices that train a run of the 2nn of digits, without sockets."""

    def __init__(self, folder: Path, strategy: str) -> None:
        self.spec = make_spec(strategy=strategy, partitions=2, epochs=1, momentum=0.0)
        self.members = [Member(folder, partition) for partition in range(2)]
        first = self.members[0].bench
        self.model, self.state, self.round = first.create(self.spec), "", 0
        self._share(first.folder / self.model)

    def _share(self, file: Path) -> None:
        for member in self.members:
            (member.blobs / file.name).write_bytes(file.read_bytes())

    def play(self) -> None:
        """Train and aggregate a round."""
        self.round += 1
        updates = []
        for member in self.members:
            result = member.train(self.spec, self.model, self.state, self.round)
            member.counted = result.digest
            for name, digest in (("u", result.digest), ("c", result.control)):
                if digest:
                    (member.blobs / name).rename(member.blobs / digest)
                    self._share(member.blobs / digest)
            updates.append(
                WeightedUpdate(result.digest, result.part.examples, result.steps, result.loss, result.control)
            )
        one = self.members[0]
        job = AggregationJob(
            "run",
            self.round,
            ballot(1, "ada"),
            self.spec,
            self.model,
            tuple(updates),
            self.state,
            members=len(self.members),
        )
        model, state = one.blobs / "mean", one.blobs / "state"
        answer = one.bench.do(commands.RunAggregation(4, job, str(one.blobs), str(model), str(state)))
        assert isinstance(answer, commands.AggregationDone)
        assert isinstance(answer.result, AggregatedModel)
        self.model, self.state = answer.result.digest, answer.result.state
        for file, digest in ((model, self.model), (state, self.state)):
            self._share(file.rename(one.blobs / digest))

    def restart(self) -> None:
        """Start the worker of each device again."""
        for member in self.members:
            member.bench.jobs = Jobs("cpu", threads=1)

    def memory(self, member: Member) -> dict[str, Tensor]:
        """Return what *member* remembers with its last update that counts."""
        return RunMemory(memory_folder(member.blobs), "run").recall(member.counted)


@pytest.mark.parametrize("strategy", ["scaffold", "feddyn"])
def test_a_memory_survives_a_restart_between_two_rounds(tmp_path: Path, strategy: str) -> None:
    for name in ("restarted", "on"):
        (tmp_path / name).mkdir()
    restarted, on = Federation(tmp_path / "restarted", strategy), Federation(tmp_path / "on", strategy)
    for federation in (restarted, on):
        federation.play()
        if federation is restarted:
            federation.restart()
        federation.play()
    assert restarted.model == on.model
    assert restarted.state == on.state
    bench = on.members[0].bench
    before, after = (bench.evaluate(model, spec=on.spec) for model in (bench.create(on.spec), on.model))
    assert after.sums["loss"] < before.sums["loss"]


@pytest.mark.parametrize("strategy", ["scaffold", "feddyn"])
def test_a_lost_memory_begins_anew_with_a_line_in_the_log(
    tmp_path: Path, strategy: str, caplog: pytest.LogCaptureFixture
) -> None:
    federation = Federation(tmp_path, strategy)
    federation.play()
    member = federation.members[0]
    kept = member.train(federation.spec, federation.model, federation.state, 2)
    assert "lost" not in caplog.text
    shutil.rmtree(member.folder / "memory")
    lost = member.train(federation.spec, federation.model, federation.state, 2)
    assert "this device has lost what it remembered of this run; it begins anew" in caplog.text
    member.counted = ""
    anew = member.train(federation.spec, federation.model, federation.state, 2)
    assert lost.digest == anew.digest != kept.digest
    assert lost.control == anew.control
    assert (lost.control != kept.control) == (strategy == "scaffold")


def test_a_training_that_no_record_counts_leaves_no_trace(tmp_path: Path) -> None:
    federation = Federation(tmp_path, "scaffold")
    federation.play()
    member = federation.members[0]
    first = member.train(federation.spec, federation.model, federation.state, 2)
    member.train(federation.spec, federation.model, federation.state, 3)
    assert member.train(federation.spec, federation.model, federation.state, 2).digest == first.digest


def test_the_control_of_scaffold_is_the_mean_of_what_the_devices_remember(tmp_path: Path) -> None:
    federation = Federation(tmp_path, "scaffold")
    schema = weights.schema_of(digits.TASK.build("2nn"))
    for _ in range(2):
        federation.play()
        with weights.ModelFile(federation.members[0].blobs / federation.state) as file:
            control = read_slots(file, schema, ["control"])["control"]
        remembered = [federation.memory(member) for member in federation.members]
        for name, value in control.items():
            mean = torch.stack([one[f"control/{name}"] for one in remembered]).mean(0)
            torch.testing.assert_close(value, mean, rtol=1e-4, atol=1e-6)


def test_the_loss_of_q_fedavg_is_that_of_the_parent_on_the_training_examples(bench: Bench) -> None:
    spec = make_spec(strategy="q-fedavg")
    model = bench.create(spec)
    result = bench.train(model, "u", spec)
    part = bench.jobs._prepare(spec, AGREEMENT).train_part(0)
    module = digits.TASK.build("2nn")
    weights.load_into(bench.folder / model, module)
    evaluation = training.evaluate(module, part, Classification(AGREEMENT))
    assert result.loss == pytest.approx(evaluation.sums["loss"] / 359, rel=1e-5)
    assert result.digest == bench.train(model, "u").digest, "the training is that of FedAvg"
