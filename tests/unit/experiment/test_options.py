from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

import p2pfl
from p2pfl.experiment.options import NAMES, OptionError, make_run
from p2pfl.learning.simulation.attack_specs import GaussianNoise
from p2pfl.personal_specs import Personalisation
from p2pfl.spec import BuiltinTask, FileTask, MetricTarget, TableTask
from p2pfl.strategy_specs import FedAvgSpec, KrumSpec, MultiKrumSpec, OwnStrategySpec, TrimmedMeanSpec
from tests.support.tables import write_table
from tests.support.user_tasks import write_task


def test_without_options_ten_clients_train_digits_as_nodes_do() -> None:
    run = make_run({})
    assert (run.clients, run.sample, run.attack, run.engine, run.workers) == (10, 0, None, "local", 0)
    assert run.spec.task == BuiltinTask("digits", "cnn", "dirichlet:0.5", 10)
    assert (run.spec.rounds, run.spec.seed, run.spec.strategy) == (10, 1, FedAvgSpec())
    assert run.partition == "dirichlet:0.5"


def test_none_is_as_if_not_given() -> None:
    assert make_run(dict.fromkeys(NAMES)) == make_run({})


def test_options_of_a_run_have_the_names_of_the_command_line() -> None:
    run = make_run(
        {"lr": 0.5, "until": "accuracy=0.9", "optimizer": "adam", "partition": "shards:2", "steps": 3}
    )
    assert (run.spec.training.learning_rate, run.spec.training.optimizer, run.spec.training.steps) == (
        0.5,
        "adam",
        3,
    )
    assert run.spec.stopping.until == MetricTarget("accuracy", 0.9)
    assert run.partition == "shards:2"


def test_what_stays_on_a_client_is_an_option_as_on_the_command_line() -> None:
    chosen = make_run({"personal": ["head.*", "*bn*"], "personalise": 2}).spec.personalisation
    assert chosen == Personalisation(("head.*", "*bn*"), 2)
    assert make_run({"personal": "head.*, *bn*"}).spec.personalisation.personal == ("head.*", "*bn*")


def test_a_fraction_is_a_number_of_clients() -> None:
    assert make_run({"clients": 100, "fraction": 0.1}).sample == 10
    assert make_run({"clients": 100, "fraction": 0.001}).sample == 1
    assert make_run({"clients": 100, "fraction": 1}).sample == 0
    assert make_run({"clients": 10, "sample": 10}).sample == 0


def test_a_fraction_is_as_many_clients_as_the_strategy_needs_as_with_nodes() -> None:
    assert make_run({"clients": 20, "fraction": 0.1, "strategy": "median"}).sample == 3
    assert make_run({"clients": 5, "fraction": 0.5, "strategy": "krum"}).sample == 0
    attacked = {"clients": 20, "fraction": 0.1, "strategy": "krum", "attackers": 6, "attack": "alie"}
    run = make_run(attacked)
    assert (run.sample, run.spec.strategy) == (9, KrumSpec(3)), "with more clients there are more attackers"


def test_attackers_are_the_first_clients_those_named_or_drawn() -> None:
    attack = {"attack": "gaussian", "attack_args": {"sigma": 2}}
    run = make_run({"attackers": 3, **attack})
    assert (run.attackers, run.attack) == ((0, 1, 2), GaussianNoise(2.0))
    assert make_run({"attackers": [7, 2], **attack}).attackers == (2, 7)
    assert make_run({"attackers": range(2), **attack}).attackers == (0, 1)
    drawn = [
        make_run({"attackers": 3, "seed": seed, "choose_attackers": "seed", **attack}) for seed in range(9)
    ]
    assert len({run.attackers for run in drawn}) > 3
    assert all(len({*run.attackers}) == 3 for run in drawn)


def test_a_defence_tolerates_the_attackers_that_there_are() -> None:
    attack: dict[str, Any] = {"attackers": 2, "attack": "sign-flip", "clients": 20}
    assert make_run({**attack, "strategy": "multi-krum"}).spec.strategy == MultiKrumSpec(attackers=2)
    assert make_run({**attack, "strategy": "trimmed-mean", "sample": 10}).spec.strategy == TrimmedMeanSpec(1)
    given = {"strategy": "krum", "strategy_args": {"attackers": 3}}
    assert make_run({**attack, **given}).spec.strategy == KrumSpec(3)
    assert make_run({"strategy": "krum"}).spec.strategy == KrumSpec()
    assert make_run({"strategy": "krum"}, tolerated=2).spec.strategy == KrumSpec(2)
    assert make_run({**attack, "attackers": 1, "strategy": "krum"}, tolerated=3).spec.strategy == KrumSpec(1)


def test_without_attackers_there_is_no_attack() -> None:
    without = make_run({})
    assert make_run({"attack": "none", "attackers": 2, "attack_args": {"sigma": 1}}) == without
    assert make_run({"attack": "alie", "attackers": 0}) == without
    assert make_run({"attack": "alie", "attackers": []}) == without


def test_a_strategy_may_be_a_class_of_ones_own() -> None:
    file = Path(p2pfl.__file__).parent / "examples" / "own_strategy.py"
    run = make_run({"strategy": f"{file}:Smooth", "strategy_args": {"decay": 0.25}})
    assert run.spec.strategy == OwnStrategySpec("own_strategy.py:Smooth", 1, ("velocity",), {"decay": 0.25})
    assert run.places.strategy == f"{file}:Smooth"


def test_own_tasks_are_divided_too(tmp_path: Path) -> None:
    file = write_task(tmp_path, "def model(): ...\ndef data(): ...")
    task = make_run({"task": file, "clients": 7}).spec.task
    assert isinstance(task, FileTask)
    assert (task.partition, task.partitions) == ("iid", 7)
    table = write_table(tmp_path / "t.csv", ["a", "b"], [(1, 2)])
    run = make_run({"data": table, "target": "b", "partition": "natural:a"})
    assert isinstance(run.spec.task, TableTask)
    assert (run.partition, run.places.own) == ("natural:a", table)
    assert make_run({"classes": "a, b"}).places.classes == ("a", "b")
    assert isinstance(make_run({"clients": 3}, is_object=True).spec.task, FileTask)


@pytest.mark.parametrize(
    ("options", "option", "words"),
    [
        ({"client": 3}, "client", "no option 'client'; did you mean 'clients'"),
        ({"xyzzy": 3}, "xyzzy", "no option 'xyzzy'; the options are task, clients"),
        ({"clients": 0}, "clients", "clients is 0, and a whole number from 1 on is expected"),
        ({"clients": True}, "clients", "clients is True"),
        ({"clients": "many"}, "clients", "clients is 'many'"),
        ({"sample": 11}, "sample", "sample is 11, and there are 10 clients"),
        ({"sample": 1, "fraction": 0.1}, "fraction", "say the same"),
        ({"fraction": 1.5}, "fraction", "fraction is 1.5"),
        ({"strategy": "fedavgg"}, "strategy", "no strategy 'fedavgg'; did you mean 'fedavg"),
        ({"strategy": "xyzzy"}, "strategy", "the strategies are fedavg, "),
        ({"strategy": "krum", "strategy_args": {"keep": 3}}, "strategy", "'keep'; its options are attackers"),
        ({"strategy": "fedadam", "strategy_args": {"beta1": 2}}, "strategy", "beta1 is 2, and a number < 1"),
        ({"strategy_args": 3}, "strategy_args", "strategy_args is 3, and options by their names"),
        ({"strategy": "bulyan", "clients": 4}, "strategy", "4 of 4 clients .* at least 7 clients, or let it tolerate"),
        ({"strategy": "median", "sample": 2}, "strategy", r"use at least 3 of them in a round \(sample\)\.$"),
        ({"attackers": 2}, "attack", "attackers is given without attack"),
        ({"attack_args": {"sigma": 1}}, "attack_args", "attack_args is given without attack"),
        ({"attack": "magic", "attackers": 1}, "attack", "no attack 'magic'"),
        ({"attack": "alie"}, "attack", "'alie' is given without attackers; say how many"),
        ({"attackers": 10, "attack": "alie"}, "attackers", "attackers is 10, and there are 10 .* at most 9"),
        ({"attackers": [10], "attack": "alie"}, "attackers", "different numbers of clients from 0 to 9"),
        ({"attackers": [1, 1], "attack": "alie"}, "attackers", "different numbers of clients"),
        ({"attackers": "two", "attack": "alie"}, "attackers", "attackers is 'two', and a whole number"),
        ({"workers": 0}, "workers", "workers is 0, and a whole number from 1"),
        ({"learning_rate": 0.1}, "learning_rate", "did you mean 'lr'"),
        ({"rounds": "3"}, "rounds", r"rounds is '3', and a whole number is expected\.$"),
        ({"data": "nothing.csv"}, "data", "^data is .*nothing.csv, which cannot be used"),
        ({"classes": 5}, "classes", "classes is 5, and a list of names"),
        ({"classes": [1, 2]}, "classes", r"classes is \[1, 2\], and a list of names"),
        ({"download": "no"}, "download", "download is 'no', and true or false"),
        ({"attackers": [True], "attack": "alie"}, "attackers", "different numbers of clients"),
        ({"clients": 10**8}, "clients", "^clients is 100000000, and a whole number <= "),
        ({"strategy": "krum", "strategy_args": {1: 2}}, "strategy_args", r"\{1: 2\}, and options by their names"),
        ({"optimizer": "x"}, "optimizer", "optimizer is 'x', and one of sgd, adam, adamw is expected"),
        ({"personal": [3]}, "personal", r"personal is \[3\], and a text is expected"),
        ({"lora": 3}, "lora", "lora is 3, and a table of options is expected"),
        ({"until": "a b=1"}, "until", "until is 'a b=1', and a text of another form is expected"),
        ({"data_root": 3}, "data_root", "data_root is 3, and a path"),
        ({"task": 3}, "task", "task is 3, and the name of a task"),
        ({"attackers": 1, "attack": "alie", "choose_attackers": "last"}, "choose_attackers", "'first' or 'seed'"),
        ({"partition": "halves"}, "partition", "'halves' cannot be understood"),
        ({"partition": "natural:writer"}, "partition", "^partition natural:writer .* digits have no owners"),
        ({"batch_size": 0}, "batch_size", "batch_size is 0, and a whole number >= 1"),
        ({"lr": -1}, "lr", "lr is -1, and a number > 0"),
        ({"strategy": "ditto", "personalise": 1}, "personalise", "each adapt the model to a device"),
        ({"personal": 3}, "personal", "personal is 3, and a list is expected"),
        ({"until": "soon"}, "until", "^until is 'soon'"),
        ({"model": "lenet"}, "task", "no model 'lenet'"),
        ({"task": "nothing"}, "task", "no task 'nothing'"),
        ({"image_size": 3}, "image_size", "image_size is of no use for this task"),
        ({"engine": "steam"}, "engine", "no engine 'steam'; the engines are local, ray"),
        ({"vectorised": 1}, "vectorised", "vectorised is 1, and true or false is expected"),
        ({"vectorised": True, "strategy": "fedprox"}, "vectorised", "strategy fedprox changes the local"),
        ({"vectorised": True, "personal": ["out.*"]}, "vectorised", "keep tensors for themselves"),
        ({"vectorised": True, "clip": 1.0}, "vectorised", "clip is not the same for clients that are trained"),
        ({"vectorised": True, "class_weights": True}, "vectorised", "class_weights is not the same"),
        ({"vectorised": True, "precision": "mixed"}, "vectorised", "precision is not the same"),
        ({"ray_address": "auto"}, "ray_address", "the engine is 'local'; add engine='ray'"),
        ({"engine": "ray", "ray_address": 6379}, "ray_address", "ray_address is 6379, and a text is expected"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(options: dict[str, Any], option: str, words: str) -> None:
    with pytest.raises(OptionError, match=words) as raised:
        make_run(options)
    assert raised.value.option == option


def test_commands_in_an_error_stay_as_they_are() -> None:
    error = OptionError("task", "--batch-size is odd; `p2pfl node --batch-size 3` and --data-root are not.")
    assert str(error) == "batch_size is odd; `p2pfl node --batch-size 3` and data_root are not."
    assert error.option == "batch_size"


def test_the_address_of_a_cluster_is_that_of_ray() -> None:
    run = make_run({"engine": "ray", "ray_address": "10.0.0.1:6379"})
    assert (run.engine, run.ray_address) == ("ray", "10.0.0.1:6379")


def test_without_ray_its_engine_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"not installed here: pip install 'p2pfl-lan\[ray\]'\.$"):
        make_run({"engine": "ray"})


def test_a_script_cannot_be_simulated(tmp_path: Path) -> None:
    script = write_task(tmp_path, "import p2pfl\nfor round in p2pfl.rounds(model): ...", "train.py")
    with pytest.raises(OptionError, match="train trains in a loop of its own, which a simulation cannot run"):
        make_run({"task": script})
