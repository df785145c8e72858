"""Opening a task with this device's data, and what is refused before any data are read."""

from __future__ import annotations

import pytest

from p2pfl.errors import TaskError
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.local_task import open_task
from p2pfl.spec import RunSpec, Share, from_options, to_options
from tests.support.learning import SPEC


def spec_of(kind: str, **options: object) -> RunSpec:
    own = {"model", "partition", "partitions", "task", "kind"}
    common = {name: value for name, value in to_options(SPEC).items() if name not in own}
    return from_options(kind=kind, **common, **options)


def test_a_built_in_task_is_opened_with_its_data() -> None:
    local = open_task(SPEC, DataPlaces(share="none"))
    assert (local.card.task, local.card.examples, local.test_examples) == ("digits", 1437, 360)


@pytest.mark.parametrize(("allowed", "asked"), [("none", "counts"), ("none", "labels"), ("counts", "labels")])
def test_a_device_tells_no_more_than_its_user_allows(allowed: Share, asked: Share) -> None:
    spec = spec_of("pictures", model="lenet", share=asked)
    with pytest.raises(TaskError, match=f"asks each device to tell '{asked}'.*--share {allowed}"):
        open_task(spec, DataPlaces(share=allowed))


def test_a_device_without_the_script_of_a_run_is_told_what_to_do() -> None:
    with pytest.raises(TaskError, match="trained by the script 'train'; start this device with --script"):
        open_task(spec_of("script", task="train"), DataPlaces())


@pytest.mark.parametrize(
    ("started", "words"),
    [
        (("file", "mine"), "own pictures .*, and this device was started for the task file 'mine'"),
        (("table", "table"), "this device was started for an own table"),
        (("builtin", "digits"), "this device was started for the task 'digits'"),
    ],
)
def test_a_run_does_not_use_a_devices_data_in_another_way_than_its_user_wants(
    started: tuple[str, str], words: str
) -> None:
    with pytest.raises(TaskError, match=words):
        open_task(spec_of("pictures", model="lenet"), DataPlaces(task=started))


def test_another_task_file_is_another_task() -> None:
    with pytest.raises(
        TaskError, match=r"for the task file 'other', and this device .* the task file 'mine'"
    ):
        open_task(spec_of("file", task="other"), DataPlaces(task=("file", "mine")))


def test_a_device_with_data_of_its_own_may_take_part_in_a_built_in_task() -> None:
    assert open_task(SPEC, DataPlaces(task=("pictures", "pictures"))).card.task == "digits"
