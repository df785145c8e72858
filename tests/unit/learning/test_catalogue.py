from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from p2pfl.errors import TaskError, UserError
from p2pfl.learning import catalogue, partition
from p2pfl.learning.data import DataPlaces
from p2pfl.spec import BuiltinTask
from tests.support.learning import make_spec


def test_every_task_offers_its_default_model_and_partition() -> None:
    for name, entry in catalogue.CATALOGUE.items():
        assert entry.name == name
        assert entry.defaults.model in entry.models
        assert partition.parse(entry.defaults.partition)


def test_an_unknown_task_is_named_with_those_there_are() -> None:
    with pytest.raises(
        TaskError, match=r"no task 'os'; the tasks are: digits, fashion-mnist, mnist, cifar10\."
    ):
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


def test_a_model_without_defaults_of_its_own_has_the_tasks() -> None:
    own = msgspec.structs.replace(catalogue.DIGITS.defaults, model="2nn", learning_rate=0.5)
    entry = msgspec.structs.replace(catalogue.DIGITS, other_defaults=(own,))
    assert entry.defaults_for(None) == entry.defaults_for("cnn") == entry.defaults
    assert entry.defaults_for("2nn") == own
    assert catalogue.DIGITS.defaults_for("2nn") == msgspec.structs.replace(entry.defaults, model="2nn")


def test_defaults_are_only_for_models_there_are() -> None:
    for entry in catalogue.CATALOGUE.values():
        own = [defaults.model for defaults in entry.other_defaults]
        assert set(own) <= set(entry.models) - {entry.defaults.model}
        assert len(set(own)) == len(own)


def test_the_data_of_digits_are_found_where_the_dependencies_brought_them() -> None:
    [path] = catalogue.find_data("digits", DataPlaces())
    assert path.is_file()


def test_data_of_a_task_are_looked_for_in_the_data_root(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=f"data of the task 'mnist' are not on this device.*{tmp_path}"):
        catalogue.find_data("mnist", DataPlaces(tmp_path))


def test_a_run_has_the_tasks_defaults_but_for_what_was_named() -> None:
    spec = catalogue.make_spec("digits", {"epochs": 7, "learning_rate": 0.5})
    assert isinstance(spec.task, BuiltinTask)
    assert (spec.task.name, spec.training.epochs, spec.training.learning_rate) == ("digits", 7, 0.5)
    assert (spec.task.model, spec.rounds, spec.task.partition) == (
        catalogue.DIGITS.defaults.model,
        catalogue.DIGITS.defaults.rounds,
        catalogue.DIGITS.defaults.partition,
    )
    chosen = spec.participation
    assert (spec.seed, chosen.min_updates, chosen.sample, chosen.round_cap) == (1, 1, 0, 900.0)


@pytest.mark.parametrize(
    ("field", "value", "option"),
    [
        ("rounds", 0, "--rounds"),
        ("epochs", -1, "--epochs"),
        ("learning_rate", 0.0, "--lr"),
        ("momentum", 1.0, "--momentum"),
        ("batch_size", 0, "--batch-size"),
        ("round_cap", 0.0, "--round-cap"),
    ],
)
def test_a_value_out_of_its_range_is_refused_with_its_option(field: str, value: float, option: str) -> None:
    with pytest.raises(UserError, match=f"^{option} is out of range: expected "):
        catalogue.make_spec("digits", {field: value})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sample": 2, "fraction": 0.5}, "--sample and --fraction cannot be used together: "),
        ({"sample_by": "examples"}, "--sample-by examples has no effect when all members train: "),
        (
            {"sample": 4, "strategy": "krum"},
            "--sample is 4, and the strategy krum needs at least 5 updates in a round: give --sample 5 or more",
        ),
        ({"fraction": 1.5}, "--fraction is out of range: expected "),
        ({"sample": 2, "sample_by": "size"}, "--sample-by is out of range: "),
    ],
)
def test_a_sample_that_cannot_train_is_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=f"^{words}"):
        catalogue.make_spec("digits", given)


def test_a_sample_that_is_enough_for_its_strategy_is_taken() -> None:
    spec = catalogue.make_spec("digits", {"sample": 5, "sample_by": "examples", "strategy": "krum"})
    assert (spec.participation.sample, spec.participation.sample_by) == (5, "examples")


@pytest.mark.parametrize(
    ("task", "given", "words"),
    [
        ("chess", {}, "no task 'chess'"),
        ("digits", {"model": "gpt"}, "no model 'gpt'"),
        ("digits", {"partition": "fair"}, "fair"),
    ],
)
def test_what_the_task_does_not_have_is_refused(task: str, given: dict[str, str], words: str) -> None:
    with pytest.raises(TaskError, match=words):
        catalogue.make_spec(task, given)


def test_a_model_of_ones_choice_has_its_own_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    own = msgspec.structs.replace(catalogue.DIGITS.defaults, model="2nn", rounds=77)
    entry = msgspec.structs.replace(catalogue.DIGITS, other_defaults=(own,))
    monkeypatch.setitem(catalogue.CATALOGUE, "digits", entry)
    assert catalogue.make_spec("digits", {"model": "2nn", "epochs": 5}).rounds == 77
    assert catalogue.make_spec("digits", {}).rounds == catalogue.DIGITS.defaults.rounds


def test_a_built_in_task_has_no_owners() -> None:
    with pytest.raises(
        TaskError, match=r"partition natural:who divides examples .* those of digits have no owners"
    ):
        catalogue.check(make_spec(partition="natural:who"))
