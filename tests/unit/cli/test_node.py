"""`p2pfl node`: what its options make of a run, and what is said of those that cannot be."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from p2pfl.cli import load, main
from p2pfl.cli import node as node_module
from p2pfl.cli.options import SCREEN_OPTIONS
from p2pfl.errors import CredentialsError, TaskError, UserError
from p2pfl.identity.authority import create_authority, issue
from p2pfl.identity.names import Role
from p2pfl.learning import catalogue
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.scripts.frames import TOKEN_VARIABLE
from p2pfl.runtime.configure import NodeOptions
from p2pfl.runtime.logs import close_logging, set_up_logging
from p2pfl.runtime.node_config import NodeConfig, ScriptSettings
from p2pfl.spec import ScriptTask, task_name
from p2pfl.strategy_specs import TrimmedMeanSpec
from p2pfl.tracking.targets import TrackTarget
from tests.support.images import write_images


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    create_authority(tmp_path / "ca")
    return issue(tmp_path / "ca", "ada")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[NodeConfig]:
    """The configurations nodes are started with, which is all that happens to them."""
    configs: list[NodeConfig] = []

    def run(config: NodeConfig, *rest: object, **more: object) -> int:
        configs.append(config)
        return 5

    monkeypatch.setattr(node_module, "_run_on_console", run)
    return configs


def invoke(*words: str) -> int:
    code = load("node").main(list(words), standalone_mode=False)
    assert isinstance(code, int)
    return code


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that sets no option."""
    for name in [name for name in os.environ if name.startswith("P2PFL_")]:
        monkeypatch.delenv(name)


def test_options_of_a_file_and_of_the_environment_are_as_good_as_given(
    certs: Path, started: list[NodeConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p2pfl.toml").write_text(f'certs = "{certs}"\nrounds = 7\nseed = 1\n')
    monkeypatch.setenv("P2PFL_EPOCHS", "3")
    monkeypatch.setenv("P2PFL_ROUNDS", "8")
    assert invoke("--rounds=9") == 5
    assert started[0].given == {"rounds", "epochs", "seed"}
    assert (started[0].spec.rounds, started[0].spec.training.epochs) == (9, 3)


def test_what_was_set_elsewhere_is_said_and_a_misspelt_variable_too(
    certs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p2pfl.toml").write_text(f'certs = "{certs}"\nmin-nodes = 3\nrounds = 7\n')
    monkeypatch.setenv("P2PFL_EPOCHS", "3")
    monkeypatch.setenv("P2PFL_EPOCH", "3")
    told: list[Sequence[str]] = []

    def run(_config: object, _output: object, notes: Sequence[str], _started: float) -> int:
        told.append(notes)
        return 0

    monkeypatch.setattr(node_module, "_run_on_console", run)
    invoke("--rounds=9")
    assert told == [
        [
            "options from p2pfl.toml: certs, min-nodes",
            "options from the environment: epochs",
            "! the variable P2PFL_EPOCH is no option and is ignored: did you mean P2PFL_EPOCHS?",
        ]
    ]


@pytest.mark.parametrize("number", [0, -3, 257])
def test_a_number_of_nodes_that_no_run_has_is_refused(
    certs: Path, started: list[NodeConfig], number: int
) -> None:
    with pytest.raises(UserError, match=f"--min-nodes is {number}, and a run has 1 to 256 nodes"):
        invoke("--certs", str(certs), f"--min-nodes={number}")
    assert started == []


@pytest.mark.parametrize("role", ["observer", "operator"])
def test_a_persons_certificate_starts_no_node(
    tmp_path: Path, certs: Path, started: list[NodeConfig], role: Role
) -> None:
    with pytest.raises(CredentialsError, match=f"has the role {role}.*p2pfl certs issue NAME"):
        invoke("--certs", str(issue(tmp_path / "ca", "eve", role=role)))
    assert started == []


@pytest.mark.parametrize("command", ["node", "demo"])
def test_the_help_names_every_task(command: str) -> None:
    [option] = [one for one in load(command).params if one.name == "task"]
    assert all(name in option.help for name in catalogue.CATALOGUE)


def test_where_data_are_is_told_to_the_worker_and_is_no_part_of_the_run(
    certs: Path, started: list[NodeConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "mine", 10, 10, side=1)
    invoke("--certs", str(certs), "--task", "fashion-mnist", "--data-root", "mine")
    [config] = started
    assert config.worker.places == DataPlaces(tmp_path / "mine", task=("builtin", "fashion-mnist"))
    assert config.given == {"task"}


def test_missing_data_are_said_before_anything_starts(
    certs: Path, started: list[NodeConfig], tmp_path: Path
) -> None:
    with pytest.raises(TaskError, match="'mnist' are not on this device; use --download"):
        invoke("--certs", str(certs), "--task", "mnist", "--data-root", str(tmp_path))
    assert started == []


def test_data_that_may_be_downloaded_may_be_missing(
    certs: Path, started: list[NodeConfig], tmp_path: Path
) -> None:
    invoke("--certs", str(certs), "--task", "mnist", "--data-root", str(tmp_path), "--download")
    [config] = started
    assert config.worker.places == DataPlaces(tmp_path, download=True, task=("builtin", "mnist"))


def test_options_become_the_configuration_and_its_exit_code_is_the_commands(
    certs: Path, started: list[NodeConfig], tmp_path: Path
) -> None:
    words = f"--certs {certs} --data-dir {tmp_path / 'data'} --peers ben:9001,,cleo --listen 127.0.0.1:0"
    more = "--min-nodes 3 --rounds 4 --lr 0.1 --device cpu --threads 2 --advertise a.example:1 --pace 2.5"
    assert invoke(*words.split(), *more.split(), "--new-run", "--stay") == 5
    [config] = started
    assert config.credentials.name == "ada"
    assert config.data_dir == tmp_path / "data"
    assert config.peers == ("ben:9001", "cleo")
    assert config.listen == ("127.0.0.1", 0)
    assert config.advertise == ("a.example:1",)
    assert (config.min_nodes, config.new_run, config.stay, config.wait) == (
        3,
        True,
        True,
        False,
    )
    assert (config.worker.device, config.worker.threads, config.worker.pace) == ("cpu", 2, 2.5)
    assert (config.spec.rounds, config.spec.training.learning_rate) == (4, 0.1)
    assert config.given == {"rounds", "learning_rate"}


def test_a_strategy_and_its_arguments_are_part_of_the_run(certs: Path, started: list[NodeConfig]) -> None:
    words = ("--strategy=trimmed_mean", "--strategy-arg", "attackers=2")
    assert invoke(f"--certs={certs}", *words) == 5
    assert started[0].spec.strategy == TrimmedMeanSpec(attackers=2)
    assert started[0].given == {"strategy", "strategy_arg"}
    with pytest.raises(UserError, match="--strategy-arg attackers=2 needs a strategy"):
        invoke(f"--certs={certs}", *words[1:])


def test_only_options_the_operator_named_count_as_given(certs: Path, started: list[NodeConfig]) -> None:
    invoke("--certs", str(certs))
    [config] = started
    assert config.given == frozenset()
    assert config.listen == (None, 9000)
    assert config.min_nodes is None


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (["--seed", "1"], {"seed"}),
        (["--task=digits", "--min-updates=1", "--drop-after=60"], {"task", "min_updates", "drop_after"}),
        (["--partitions=0"], set()),
    ],
)
def test_an_option_counts_as_given_also_with_the_value_of_its_default(
    certs: Path, started: list[NodeConfig], words: list[str], given: set[str]
) -> None:
    invoke("--certs", str(certs), *words)
    [config] = started
    assert config.given == given
    assert (config.spec.seed, task_name(config.spec.task)) == (1, "digits")


def test_certificates_that_are_not_there_are_an_error_before_anything_starts(
    tmp_path: Path, started: list[NodeConfig]
) -> None:
    with pytest.raises(CredentialsError):
        invoke("--certs", str(tmp_path / "nowhere"))
    assert started == []


def test_an_unknown_task_ends_the_command_with_a_sentence_and_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["p2pfl", "node", "--task", "chess"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert (
        capsys.readouterr().err
        == "p2pfl: There is no task 'chess'; the tasks are: digits, fashion-mnist, mnist, cifar10.\n"
    )


def test_a_script_trains_with_its_arguments_and_its_name_is_the_task(
    tmp_path: Path, certs: Path, started: list[NodeConfig]
) -> None:
    path = tmp_path / "train.py"
    path.touch()
    place = f"--certs={certs}"
    assert invoke(place, f"--script={path}", "--rounds=3", "--share=none", "--", "--lr", "0.1") == 5
    assert started[0].script == ScriptSettings((str(path), "--lr", "0.1"), share="none")
    assert started[0].spec.task == ScriptTask("train", share="none")
    assert started[0].given == {"rounds", "share"}
    assert invoke(place) == 5
    assert started[1].script is None


def test_a_node_that_waits_for_a_program_takes_its_token_from_the_environment(
    certs: Path, started: list[NodeConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "secret")
    assert invoke(f"--certs={certs}", "--script=-", "--task=mine") == 5
    assert started[0].script == ScriptSettings(token="secret")
    assert task_name(started[0].spec.task) == "mine"
    assert TOKEN_VARIABLE not in os.environ, "no other process inherits it"


@pytest.mark.parametrize("words", [("stray",), ("--script=-", "--", "--lr")])
def test_arguments_without_a_script_are_refused(
    certs: Path, started: list[NodeConfig], words: tuple[str, ...]
) -> None:
    with pytest.raises(UserError, match=r"only a script .* has arguments"):
        invoke(f"--certs={certs}", *words)
    assert started == []


def test_the_process_of_the_command_belongs_to_the_node(
    certs: Path, started: list[NodeConfig], tmp_path: Path
) -> None:
    invoke(f"--certs={certs}", "--until-eof", f"--events={tmp_path / 'events'}")
    invoke(f"--certs={certs}")
    assert [one.owns_process for one in started] == [True, True]
    assert [one.until_eof for one in started] == [True, False]
    assert [one.recorded for one in started] == [True, False]


def test_values_may_be_tracked_in_several_places(
    certs: Path, started: list[NodeConfig], tmp_path: Path
) -> None:
    invoke(f"--certs={certs}", f"--track=csv:{tmp_path / 'a.csv'}", f"--track=csv:{tmp_path / 'b,c.csv'}")
    places = [str(tmp_path / name) for name in ("a.csv", "b,c.csv")]
    assert started[0].track == tuple(TrackTarget("csv", place) for place in places)


def test_every_option_of_the_command_is_one_of_a_node_in_python_or_of_the_terminal() -> None:
    of_terminal = {"config", "isolated", "until_eof", "events", "verbose", "quiet", "help"}
    of_terminal |= {"tui", *SCREEN_OPTIONS}
    names = {one.name for one in load("node").params}
    assert names - of_terminal == set(NodeOptions.__annotations__)
    spelled = {name.removeprefix("--").replace("-", "_") for one in load("node").params for name in one.opts}
    assert set(NodeOptions.__annotations__) <= spelled | {"arguments"}


def test_the_level_of_the_log_is_read_again_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    output = node_module.Output(None, 0, quiet=False, words=("--rounds=3",))
    set_up_logging(output.verbosity, tmp_path / "logs")
    try:
        for text, level in (
            ("verbose = 2\n", logging.DEBUG),
            ("quiet = true\n", logging.ERROR),
            ("", logging.WARNING),
        ):
            (tmp_path / "p2pfl.toml").write_text(text)
            output.reload()
            assert logging.getLogger("p2pfl").handlers[0].level == level
        (tmp_path / "p2pfl.toml").write_text("verbosee = 2\n")
        output.reload()
        assert logging.getLogger("p2pfl").handlers[0].level == logging.WARNING
        assert "there is no option 'verbosee'" in (tmp_path / "logs" / "node.log").read_text()
    finally:
        close_logging()
