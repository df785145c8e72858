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
