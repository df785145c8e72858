from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from p2pfl.errors import BlobError, TaskError, WorkerError
from p2pfl.learning import commands, weights
from p2pfl.learning.aggregation import aggregate
from p2pfl.learning.local_files import frozen_file, memory_files
from p2pfl.learning.local_model import LocalModel, of_strategy, personal_in
from p2pfl.schema import first_difference, frozen_in, layout_of
from p2pfl.store.check import check_blob
from p2pfl.store.hashing import digest_of
from p2pfl.work import AggregatedModel, AggregationJob, TrainingJob, WeightedUpdate
from tests.support.core import ballot
from tests.support.known import known
from tests.support.user_tasks import Device, agree, file_spec, write_task

HEADS = """
import torch
from collections import OrderedDict
from torch import nn

SIGN = {sign}

def model():
    return nn.Sequential(OrderedDict(body=nn.Linear(2, 8), act=nn.Tanh(), head=nn.Linear(8, 2)))

def data():
    x = torch.randn(80, 2, generator=torch.Generator().manual_seed(SIGN + 2))
    return x, (SIGN * x[:, 0] > 0).long()
"""
"""Devices with SIGN 1 and -1 have opposite labels: a common model cannot learn both."""

RESNET = """
import torch
from torch import nn
from torchvision import models

def model():
    module = models.resnet18(weights=None, num_classes=10)
    module.requires_grad_(False)
    module.fc.requires_grad_(True)
    return module

def data():
    x = torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return x, torch.arange(20) % 10
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return blobs(tmp_path)


BACKBONE = """
import torch
from torch import nn

NUMBER = 1

def model():
    torch.manual_seed(NUMBER)
    return nn.Sequential(nn.Linear(2, 8).requires_grad_(False), nn.Tanh(), nn.Linear(8, 2))

def data():
    x = torch.randn(80, 2, generator=torch.Generator().manual_seed(1))
    return x, (x[:, 0] > 0).long()

"""
"""Devices with another NUMBER have another frozen layer."""


def blobs(place: Path) -> Path:
    (place / "blobs").mkdir(parents=True)
    return place / "blobs"


def device(place: Path, sign: int, **spec: object) -> Device:
    place.mkdir()
    file = write_task(place, HEADS.format(sign=sign), f"device{sign + 1}.py")
    return Device(file, blobs(place), file_spec(task="heads", **spec))


def test_a_frozen_backbone_stays_and_an_update_has_the_head_only(folder: Path) -> None:
    one = Device(write_task(folder, RESNET), folder, file_spec(batch_size=10))
    agreement = agree(one)
    update = one.train(agreement, one.create(agreement))
    tensors = load_file(folder / update.digest)
    assert {name for name in tensors if tensors[name].numel()} == {"fc.weight", "fc.bias"}
    assert (folder / update.digest).stat().st_size < 22_000  # 20,520 bytes of numbers; all of it has 45 MB
    schema = one.describe(agreement).schema
    assert schema is not None
    frozen = frozen_file(folder, known(frozen_in(schema)).digest)
    assert digest_of(frozen) == frozen.name
    assert {*load_file(frozen)} | {"fc.weight", "fc.bias"} == {*_resnet().state_dict()}


def _resnet() -> nn.Module:
    from torchvision import models

    module: nn.Module = models.resnet18(weights=None, num_classes=10)
    return module


def test_updates_of_a_head_are_averaged_and_checked_as_those_of_a_whole_model(folder: Path) -> None:
    one = Device(write_task(folder, RESNET), folder, file_spec(batch_size=10))
    agreement = agree(one)
    model = one.create(agreement)
    update = one.train(agreement, model)
    assert one.jobs._model is not None
    layout = layout_of(one.jobs._model[1].schema)
    check_blob(folder / update.digest, layout, folder / model)
    updates = (WeightedUpdate(update.digest, 3), WeightedUpdate(model, 1))
    job = AggregationJob("run", 1, ballot(1, "ada"), one.spec, model, updates)
    result = aggregate(job, folder, folder / "mean")
    assert isinstance(result, AggregatedModel)
    check_blob((folder / "mean").rename(folder / result.digest), layout, folder / model)
    own, parent, mean = (
        load_file(folder / digest)["fc.bias"] for digest in (update.digest, model, result.digest)
    )
    torch.testing.assert_close(mean, (3 * own + parent) / 4)
    assert one.evaluate(agreement, result.digest).examples == 2


def test_training_leaves_the_statistics_of_a_frozen_backbone_as_they_are(folder: Path) -> None:
    one = Device(write_task(folder, RESNET), folder, file_spec(batch_size=10))
    agreement = agree(one)
    model = one.create(agreement)
    one.train(agreement, model)
    assert one.jobs._model is not None
    state = one.jobs._model[1].module.state_dict()
    frozen = load_file(next((folder.parent / "frozen").iterdir()))
    assert all(torch.equal(state[name], value) for name, value in frozen.items())


def test_a_loop_of_the_users_own_cannot_change_frozen_buffers_for_longer_than_a_round(folder: Path) -> None:
    module = nn.Sequential(nn.BatchNorm1d(2).requires_grad_(False), nn.Linear(2, 1))
    model = LocalModel(module)
    digest = model.save(folder / "new")
    (folder / "new").rename(folder / digest)
    module.train()(torch.randn(8, 2))
    assert module.state_dict()["0.num_batches_tracked"] == 1
    model.changed()
    model.load(folder / digest, "", dict)
    assert module.state_dict()["0.num_batches_tracked"] == 0


def test_devices_with_other_frozen_parameters_differ_and_are_told_so() -> None:
    assert with_body(1).schema == with_body(1).schema
    difference = first_difference(with_body(1).schema, with_body(2).schema)
    assert difference == "the frozen parameters differ in their values, names or shapes"


def with_body(seed: int) -> LocalModel:
    """Return a model whose body is frozen."""
    torch.manual_seed(seed)
    module = nn.Sequential(nn.BatchNorm1d(2).requires_grad_(False), nn.Linear(2, 1))
    state = module.state_dict()
    state["0.weight"].normal_()
    state["0.running_mean"].normal_()
    return LocalModel(module)


def written(model: LocalModel, folder: Path) -> Path:
    """Return a blob with the shared tensors of *model*."""
    digest = model.save(folder / "new")
    return (folder / "new").rename(folder / digest)


def test_frozen_tensors_of_another_device_that_were_pulled_are_those_of_the_model_from_then_on(
    folder: Path,
) -> None:
    founder, mine = with_body(1), with_body(2)
    founder.keep_frozen(folder)
    assert mine.schema != founder.schema
    mine.load(written(founder, folder), "", dict)
    assert mine.schema == founder.schema
    theirs = founder.module.state_dict()
    for name, value in mine.module.state_dict().items():
        assert torch.equal(value, theirs[name]), name
    mine.module.train()(torch.randn(8, 2))  # the statistics of a frozen part are restored as they were pulled
    mine.restore_own(dict)
    assert torch.equal(mine.module.state_dict()["0.running_mean"], theirs["0.running_mean"])
    digest = known(frozen_in(mine.schema)).digest
    assert [path.name for path in (folder.parent / "frozen").iterdir()] == [digest]


def test_a_model_whose_frozen_tensors_are_not_here_or_damaged_is_not_loaded(folder: Path) -> None:
    founder, mine = with_body(1), with_body(2)
    path = written(founder, folder)
    with pytest.raises(BlobError, match="the frozen parameters differ in their values"):
        mine.load(path, "", dict)
    founder.keep_frozen(folder)
    frozen = frozen_file(folder, known(frozen_in(founder.schema)).digest)
    content = frozen.read_bytes()
    frozen.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BlobError, match="is damaged"):
        mine.load(path, "", dict)
    frozen.write_bytes(path.read_bytes())
    with pytest.raises(BlobError, match="other tensors than the frozen ones"):
        mine.load(path, "", dict)


def test_a_device_with_another_backbone_trains_the_head_on_that_of_the_founder(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    founder = Device(write_task(folder, BACKBONE), folder, file_spec())
    other = Device(write_task(tmp_path / "other", BACKBONE + "NUMBER = 5\n"), folder, file_spec())
    agreement = agree(founder, other)
    create = commands.CreateJob(2, founder.spec, agreement, str(folder / "new"), str(folder))
    created = founder.do(create)
    assert isinstance(created, commands.CreateDone)
    (folder / "new").rename(folder / created.digest)
    assert other.describe(agreement).schema != created.schema
    update = other.train(agreement, created.digest)
    assert first_difference(created.schema, known(other.describe(agreement).schema)) is None
    same, theirs = founder.evaluate(agreement, update.digest), other.evaluate(agreement, update.digest)
    assert same.sums == theirs.sums


def test_a_frozen_file_that_cannot_be_written_is_told(folder: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 3).requires_grad_(False), nn.Linear(3, 1))
    model = LocalModel(module)
    digest = model.save(folder / "new")
    (folder / "new").rename(folder / digest)
    (folder.parent / "frozen").write_text("in the way")
    with pytest.raises(WorkerError, match=r"The frozen parameters cannot be written to .*frozen"):
        model.load(folder / digest, "", dict)


# --- personal tensors ---------------------------------------------------------------------------------------


def test_personal_tensors_do_not_travel(tmp_path: Path) -> None:
    one = device(tmp_path / "a", 1, personal=("head.*",))
    agreement = agree(one)
    initial = one.create(agreement)
    update = one.train(agreement, initial)
    for digest in (initial, update.digest):
        assert set(load_file(one.folder / digest)) == {"body.weight", "body.bias"}
    assert b"head" not in (one.folder / update.digest).read_bytes()


def test_a_device_goes_on_with_the_personal_tensors_of_its_last_counted_update(tmp_path: Path) -> None:
    one = device(tmp_path / "a", 1, personal=("head.*",))
    agreement = agree(one)
    initial = one.create(agreement)
    first = one.train(agreement, initial)
    again = one.train(agreement, initial)  # of the same round: nothing of the first training is left
    assert again.digest == first.digest
    new = one.evaluate(agreement, first.digest)
    known = one.evaluate(agreement, first.digest, memory=first.digest)
    assert known.sums["loss"] < new.sums["loss"]
    second = one.train(agreement, first.digest, 2, memory=first.digest)
    restarted = Device(tmp_path / "a" / "device2.py", one.folder, one.spec)
    assert restarted.train(agreement, first.digest, 2, memory=first.digest).digest == second.digest
    assert restarted.train(agreement, first.digest, 2).digest != second.digest


def test_a_device_that_has_lost_its_personal_tensors_begins_anew_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = device(tmp_path / "a", 1, personal=("head.*",))
    agreement = agree(one)
    first = one.train(agreement, one.create(agreement))
    new = one.evaluate(agreement, first.digest)
    memory_files(one.folder, "run")[first.digest[:32]].unlink()
    with caplog.at_level(logging.WARNING):
        assert one.evaluate(agreement, first.digest, memory=first.digest) == new
    assert "this device has lost what it remembered of this run" in caplog.text


def test_a_pattern_that_fits_no_tensor_is_found_before_the_run(tmp_path: Path) -> None:
    one = device(tmp_path / "a", 1, personal=("tail.*",))
    with pytest.raises(TaskError, match=r"--personal 'tail\.\*' matches no tensor of the model"):
        one.describe()


def test_devices_with_opposite_labels_learn_with_personal_heads(tmp_path: Path) -> None:
    accuracies = {}
    for name, personal in (("shared", ()), ("personal", ("head.*",))):
        spec = {"personal": personal, "epochs": 5, "learning_rate": 0.2}
        devices = [device(tmp_path / f"{name}{sign}", sign, **spec) for sign in (1, -1)]
        agreement = agree(*devices)
        model, memory = devices[0].create(agreement), ["", ""]
        _copy(devices, model)
        for number in (1, 2, 3):
            updates = [
                one.train(agreement, model, number, memory=memory[index]).digest
                for index, one in enumerate(devices)
            ]
            mean = _mean(
                [load_file(one.folder / digest) for one, digest in zip(devices, updates, strict=True)]
            )
            model, memory = _write(devices, mean), updates
        scores = [
            one.evaluate(agreement, model, memory=memory[index]).metrics["accuracy"]
            for index, one in enumerate(devices)
        ]
        accuracies[name] = sum(scores) / 2
    assert accuracies["shared"] < 0.7
    assert accuracies["personal"] > 0.9


def _copy(devices: list[Device], digest: str) -> None:
    for one in devices[1:]:
        (one.folder / digest).write_bytes((devices[0].folder / digest).read_bytes())


def _mean(updates: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([one[name] for one in updates]).mean(0) for name in updates[0]}


def _write(devices: list[Device], tensors: dict[str, torch.Tensor]) -> str:
    schema = devices[0].jobs._model
    assert schema is not None
    new = devices[0].folder / "mean"
    digest = weights.write(new, schema[1].schema, [tensors[spec.name] for spec in schema[1].schema])
    new.rename(devices[0].folder / digest)
    _copy(devices, digest)
    return digest


def test_a_control_variate_corrects_exchanged_parameters_only(tmp_path: Path) -> None:
    one = device(tmp_path / "a", 1, personal=("head.*",), strategy="scaffold")
    agreement = agree(one)
    job = TrainingJob("run", 1, one.spec, agreement, one.create(agreement), 0)
    update, control = str(one.folder / "u"), str(one.folder / "c")
    answer = one.do(commands.RunTraining(1, job, str(one.folder), update, control))
    assert isinstance(answer, commands.TrainingDone)
    remembered = load_file(memory_files(one.folder, "run")[answer.result.digest[:32]])
    assert {*of_strategy(remembered)} == {"control/body.weight", "control/body.bias"}
    assert {*personal_in(remembered)} == {"head.weight", "head.bias"}
    [numbers] = load_file(one.folder / "c").values()
    assert numbers.shape == (2 * 8 + 8, 1)


def test_the_memory_has_personal_tensors_beside_what_the_strategy_remembers() -> None:
    values = {"personal:head.bias": torch.ones(1), "control.body": torch.zeros(1)}
    assert list(personal_in(values)) == ["head.bias"]
    assert list(of_strategy(values)) == ["control.body"]
