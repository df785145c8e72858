"""The built-in tasks as users of the interface of all tasks: their cards, partitions and test parts."""

from __future__ import annotations

import pytest
import torch

from p2pfl.errors import TaskError
from p2pfl.learning.builtin import open_builtin
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.local_task import PreparedTask
from p2pfl.spec import with_options
from tests.support.learning import SPEC, make_spec
from tests.support.records import AGREEMENT


@pytest.fixture
def prepared() -> PreparedTask:
    return open_builtin(SPEC, DataPlaces()).prepare(SPEC, AGREEMENT, torch.device("cpu"))


def test_the_card_is_that_of_the_whole_training_split() -> None:
    card = open_builtin(SPEC, DataPlaces()).card
    assert (card.task, card.examples, card.share) == ("digits", 1437, "labels")
    assert sum(label.examples for label in card.labels) == 1437


def test_partitions_are_disjoint_and_together_all_examples(prepared: PreparedTask) -> None:
    parts = [prepared.train_part(index) for index in range(4)]
    assert sum(part.examples for part in parts) == 1437
    for index, part in enumerate(parts):
        assert prepared.part_card(index).examples == part.examples


def test_each_part_of_the_test_split_has_other_examples(prepared: PreparedTask) -> None:
    whole = [targets for _, targets, _ in prepared.test_part(0, 1).ordered(1000)]
    parts = [targets for part in range(3) for _, targets, _ in prepared.test_part(part, 3).ordered(1000)]
    assert sorted(torch.cat(parts).tolist()) == sorted(torch.cat(whole).tolist())


def test_models_of_single_devices_are_judged_on_the_classes_that_they_train_on() -> None:
    spec = with_options(SPEC, partition="shards:2", partitions=10)
    prepared = open_builtin(spec, DataPlaces()).prepare(spec, AGREEMENT, torch.device("cpu"))
    assert prepared.own_test_part is not None
    for index in range(10):
        classes = {int(one.label) for one in prepared.part_card(index).labels if one.examples}
        [(_, targets, count)] = prepared.own_test_part(index, 10, index).ordered(1000)
        [(_, whole, _)] = prepared.test_part(index, 10).ordered(1000)
        assert targets.tolist() == [one for one in whole.tolist() if one in classes]
        assert 0 < count < len(whole)


def test_a_part_without_the_classes_of_a_device_is_used_as_it_is(prepared: PreparedTask) -> None:
    assert prepared.own_test_part is not None
    spec = with_options(SPEC, partition="shards:1", partitions=10)
    divided = open_builtin(spec, DataPlaces()).prepare(spec, AGREEMENT, torch.device("cpu"))
    assert divided.own_test_part is not None
    assert all(divided.own_test_part(part, 360, 0).examples == 1 for part in range(5))


def test_a_partition_or_part_that_is_not_there_is_refused(prepared: PreparedTask) -> None:
    with pytest.raises(TaskError, match="There is no partition 4: the run has 4, numbered from 0"):
        prepared.train_part(4)
    with pytest.raises(TaskError, match="has 360 examples, too few for 400 members"):
        prepared.test_part(399, 400)


def test_a_run_of_a_peer_with_a_model_that_is_not_there_is_refused() -> None:
    local = open_builtin(SPEC, DataPlaces())
    spec = make_spec()
    with pytest.raises(TaskError, match="no model 'transformer'"):
        local.prepare(with_options(spec, model="transformer"), AGREEMENT, torch.device("cpu"))
