"""What the options of `p2pfl.Node` make of a node; those of the command line are in `tests/unit/cli`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast, get_type_hints

import pytest

from p2pfl.errors import UserError
from p2pfl.identity.authority import create_authority, issue
from p2pfl.learning.data import DataPlaces
from p2pfl.personal_specs import LoraSpec, Personalisation
from p2pfl.runtime.configure import LISTS, RUN_OPTIONS, NodeOptions, configure
from p2pfl.runtime.node_config import NodeConfig, ScriptSettings
from p2pfl.spec import FileTask, MetricTarget, Stopping, TableTask
from p2pfl.store.directory import default_data_dir
from p2pfl.strategy_specs import FedAdamSpec, OwnStrategySpec
from tests.support.user_tasks import write_task


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    create_authority(tmp_path / "ca")
    return issue(tmp_path / "ca", "ada")


def make(certs: Path, **options: Any) -> NodeConfig:
    return configure(cast("NodeOptions", {"certs": certs, **options}))


def test_without_options_it_is_the_node_of_the_command_without_the_process(certs: Path) -> None:
    config = make(certs)
    assert config.given == frozenset()
    assert config.listen == (None, 9000)
    assert config.data_dir == default_data_dir("ada")
    assert config.worker.places == DataPlaces(task=("builtin", "digits"))
    assert not config.owns_process
    assert not config.until_eof


def test_paths_and_lists_may_be_texts_or_objects(certs: Path, tmp_path: Path) -> None:
    places = {"data_dir": tmp_path / "run", "data_root": tmp_path, "save_dir": tmp_path / "saved"}
    plain = make(certs, peers="ben:9001, cleo", **{name: str(path) for name, path in places.items()})
    rich = make(certs, peers=["ben:9001", "cleo"], **places)
    assert plain == rich
    assert rich.peers == ("ben:9001", "cleo")
    assert rich.data_dir == tmp_path / "run"


def test_what_is_none_is_not_given(certs: Path) -> None:
    assert make(certs, rounds=None, name=None, peers=None) == make(certs)


def test_options_of_the_run_count_as_given(certs: Path) -> None:
    config = make(certs, rounds=7, lr=1, until="accuracy=0.9", augment=False, partitions=0)
    assert config.given == {"rounds", "learning_rate", "until"}
    assert config.spec.rounds == 7
    assert config.spec.training.learning_rate == 1.0
    assert config.spec.stopping == Stopping(MetricTarget("accuracy", 0.9))


def test_what_stays_on_the_device_is_part_of_the_run(certs: Path) -> None:
    spec = make(certs, personal=("out.*", "*.bn*"), personalise=2).spec
    assert spec.personalisation == Personalisation(("out.*", "*.bn*"), 2)
    assert make(certs, personal="out.*").spec.personalisation == Personalisation(("out.*",))


@pytest.mark.parametrize(
    ("options", "adapters"),
    [
        ({"lora_target": "hidden"}, LoraSpec(("hidden",))),
        ({"lora": "rank=4", "lora_target": ("a", "b")}, LoraSpec(("a", "b"), 4)),
        (
            {"lora": ("rank=4,alpha=2",), "lora_target": "a", "lora_train": "out.*"},
            LoraSpec(("a",), 4, 2.0, ("out.*",)),
        ),
    ],
)
def test_adapters_have_a_rank_and_targets(certs: Path, options: dict[str, Any], adapters: LoraSpec) -> None:
    assert make(certs, **options).spec.lora == adapters


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"lora": "rank=8"}, "--lora needs the layers that get adapters: name them with --lora-target"),
        ({"lora_train": "out.*"}, "--lora needs the layers"),
        (
            {"lora": "rank=x", "lora_target": "a"},
            "--lora is 'rank=x', and rank=NUMBER or alpha=NUMBER is exp",
        ),
        ({"lora": "size=8", "lora_target": "a"}, "--lora is 'size=8'"),
        ({"lora": "rank=0", "lora_target": "a"}, "--rank is out of range"),
    ],
)
def test_adapters_that_cannot_be_are_refused(certs: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=f"^{told}"):
        make(certs, **options)


def test_a_table_and_a_task_file_are_private_data(certs: Path, tmp_path: Path) -> None:
    table, code = tmp_path / "people.csv", tmp_path / "mine.py"
    table.write_text("a,b\n1,2\n", encoding="utf-8")
    code.touch()
    config = make(certs, data=table, target="b")
    assert isinstance(config.spec.task, TableTask)
    assert config.worker.places.own == table
    config = make(certs, task=str(code), data=table, classes=["x", "y"], workers=2)
    assert config.spec.task == FileTask("mine")
    assert config.worker.places == DataPlaces(
        own=table, code=str(code), task=("file", "mine"), classes=("x", "y"), loader_workers=2
    )


def test_a_script_has_arguments(certs: Path, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("import p2pfl\nfor round in p2pfl.rounds(None):\n    pass\n", encoding="utf-8")
    config = make(certs, script=script, arguments=["--lr", "0.1"])
    assert config.script == ScriptSettings((str(script), "--lr", "0.1"))
    assert make(certs, task=str(script), arguments="--lr,0.1").script == config.script, (
        "it is found to be one"
    )
    assert configure(NodeOptions(certs=certs, script="-"), token="secret").script == ScriptSettings(
        (), "secret"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epoch": 3}, "A node has no option 'epoch'; `p2pfl node --help` lists all of them"),
        ({"rounds": "ten"}, "The option rounds is 'ten': expected `int`, got `str`"),
        ({"rounds": 0}, "--rounds is out of range"),
        ({"wait": 1}, "The option wait is 1: expected `bool`"),
        ({"peers": [1]}, r"The option peers is \[1\]: expected `str`"),
        ({"peers": 9000}, "The option peers is 9000: expected `array`"),
        ({"data": 3}, "The option data is 3: a path is expected, not int"),
        ({"task": object()}, "The option task is <object object at .*>: expected `str`"),
        ({"share": "all"}, "--share is 'all', and one of labels, counts, none|--share is 'all', and one of"),
        ({"until": "0.9"}, "--until is '0.9', and a metric with a number is expected"),
        ({"min_nodes": 0}, "--min-nodes is 0, and a run has 1 to 256 nodes"),
        ({"arguments": ["x"]}, "only a script .* has arguments"),
        ({"strategy": "fedadm"}, "no strategy 'fedadm' .did you mean 'fedadam'"),
        ({"strategy": "fedprox", "strategy_arg": {"mu": -1}}, "--strategy-arg mu=-1 is out of range"),
        ({"strategy_arg": ["mu=1"]}, "--strategy-arg mu=1 needs a strategy"),
        ({"strategy": "fedprox", "script": Path("-")}, "The strategy fedprox changes local training"),
        ({"track": "excel:x"}, "--track is 'excel:x'"),
        ({"metrics": "x:y"}, "'x:y' is not an address: the port must be a number"),
    ],
)
def test_an_option_that_cannot_be_is_refused_with_its_name(
    certs: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        make(certs, **options)


def test_metrics_are_served_on_request_and_on_loopback(certs: Path) -> None:
    assert make(certs).metrics is None
    assert make(certs, metrics="9100").metrics == ("127.0.0.1", 9100)


def test_every_option_of_a_run_is_an_option_of_a_node() -> None:
    assert set(RUN_OPTIONS) <= set(NodeOptions.__annotations__)
    assert {
        "peers",
        "interface",
        "track",
        "classes",
        "advertise",
        "arguments",
        "continue_with",
        "strategy_arg",
        "personal",
        "lora",
        "lora_target",
        "lora_train",
    } == LISTS
    assert set(get_type_hints(NodeOptions).values()) == {
        Path,
        str,
        int,
        float,
        bool,
        tuple[str, ...],
    }


def test_a_founder_that_could_aggregate_in_no_round_is_refused(certs: Path) -> None:
    said = (
        "The strategy median needs the updates of at least 3 nodes in each round, and --min-nodes is 2: "
        "give --min-nodes 3 or more, or another strategy."
    )
    with pytest.raises(UserError, match=f"^{re.escape(said)}$"):
        make(certs, strategy="median", min_nodes=2)
    assert make(certs, strategy="median", min_nodes=3, sample=3).min_nodes == 3
    assert make(certs, strategy="median").min_nodes is None


@pytest.mark.parametrize(
    "arguments", [["server_lr=0.5", "tau=0.1"], "server-lr=0.5,tau=0.1", {"server_lr": 0.5, "tau": 0.1}]
)
def test_a_strategy_has_arguments_as_texts_or_as_a_dictionary(certs: Path, arguments: object) -> None:
    config = make(certs, strategy="fedadam", strategy_arg=arguments)
    assert config.spec.strategy == FedAdamSpec(server_lr=0.5, tau=0.1)
    assert config.given == {"strategy", "strategy_arg"}


def test_the_file_of_an_own_strategy_is_told_to_the_worker(certs: Path, tmp_path: Path) -> None:
    path = write_task(tmp_path, "class Mine(Elementwise):\n    least_updates = 3\n")
    for options in ({}, {"script": Path("-")}):
        config = make(certs, strategy=f"{path}:Mine", **options)
        assert config.spec.strategy == OwnStrategySpec("mine.py:Mine", 3)
        assert config.worker.places.strategy == f"{path}:Mine"
