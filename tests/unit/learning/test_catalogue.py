from __future__ import annotations

import msgspec
import pytest

from p2pfl.errors import TaskError
from p2pfl.learning import catalogue, partition
from tests.support.learning import make_spec


def test_every_task_offers_its_default_model_and_partition() -> None:
    for name, entry in catalogue.CATALOGUE.items():
        assert entry.name == name
        assert entry.defaults.model in entry.models
        assert partition.parse(entry.defaults.partition)


def test_an_unknown_task_is_named_with_those_there_are() -> None:
    with pytest.raises(TaskError, match="no task 'os'; the tasks are: digits"):
        catalogue.find("os")


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"task": "x"}, "no task"), ({"model": "x"}, "no model 'x'"), ({"partition": "x"}, "partition 'x'")],
)
def test_a_run_this_device_cannot_train_is_refused(changes: dict[str, str], words: str) -> None:
    with pytest.raises(TaskError, match=words):
        catalogue.check(make_spec(**changes))


def test_a_run_of_digits_is_accepted() -> None:
    assert catalogue.check(make_spec()) is catalogue.DIGITS


def test_the_data_of_every_task_are_found_where_the_dependencies_brought_them() -> None:
    for entry in catalogue.CATALOGUE.values():
        assert catalogue.data_path(entry).is_file()


@pytest.mark.parametrize(
    ("changes", "missing"),
    [({"package": "no_such_package"}, "no_such_package"), ({"data_file": "x.gz"}, "x.gz")],
)
def test_missing_data_are_named(changes: dict[str, str], missing: str) -> None:
    entry = msgspec.structs.replace(catalogue.DIGITS, **changes)
    with pytest.raises(TaskError, match=rf"data of the task 'digits' are missing \(.*{missing}\)"):
        catalogue.data_path(entry)
