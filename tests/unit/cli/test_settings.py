"""Where options come from: command line, environment, file, default; and what is said of wrong ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from p2pfl.cli import load
from p2pfl.cli.settings import (
    data_dir_here,
    misspelt_variables,
    node_context,
    read_file,
    read_settings,
    settings_file,
    source_of,
    sources_in_errors,
)
from p2pfl.errors import TaskError, UserError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, and an environment that sets no option."""
    for name in [name for name in os.environ if name.startswith("P2PFL_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str, name: str = "p2pfl.toml") -> Path:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def read(text: str) -> dict[str, Any]:
    return {name: one.value for name, one in read_file(load("node"), write(text)).items()}


def refused(text: str) -> str:
    with pytest.raises(UserError) as caught:
        read(text)
    return str(caught.value)


def test_flags_come_before_the_environment_and_that_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write("rounds = 1\nepochs = 1\nseed = 1\n")
    monkeypatch.setenv("P2PFL_ROUNDS", "2")
    monkeypatch.setenv("P2PFL_EPOCHS", "2")
    node = node_context(["--rounds=3"])
    names = ("rounds", "epochs", "seed", "lr")
    assert [node.params[name] for name in names] == [3, 2, 1, None]
    assert [source_of(node, name) for name in names] == [
        "flag",
        "environment P2PFL_EPOCHS",
        "p2pfl.toml:3",
        "default",
    ]


def test_a_flag_with_the_value_of_the_file_is_a_flag() -> None:
    write("rounds = 3\n")
    assert source_of(node_context(["--rounds=3"]), "rounds") == "flag"


def test_keys_are_the_long_options_and_may_have_underscores() -> None:
    text = 'min-nodes = 3\ndata_dir = "run"\npeers = ["a:1", "b:2"]\n[strategy-arg]\nattackers = 2\n'
    assert read(text) == {
        "min_nodes": 3,
        "data_dir": Path("run").absolute(),
        "peers": "a:1,b:2",
        "strategy_arg": ["attackers=2"],
    }


def test_paths_are_relative_to_the_file() -> None:
    path = write('data-dir = "run"\ntask = "mine.py"\n', "sub/p2pfl.toml")
    found = read_file(load("node"), path)
    assert found["data_dir"].value == Path("sub/run").absolute()
    assert found["task"].value == str(Path("sub/mine.py").absolute())


def test_an_unknown_key_is_told_with_its_line_and_the_nearest_right_one() -> None:
    assert refused("seed = 1\n\nround = 3\n") == (
        "p2pfl.toml, line 3: there is no option 'round'; did you mean rounds?"
    )
    assert "`p2pfl config init` writes a file with all" in refused("zzz = 3\n")


@pytest.mark.parametrize("key", ["config", "isolated", "until-eof", "pace", "help"])
def test_options_that_make_no_sense_in_a_file_are_unknown_there(key: str) -> None:
    assert f"there is no option '{key}'" in refused(f"{key} = 1\n")


def test_a_table_is_no_place_for_options() -> None:
    assert "there is no table [node]: all options stand at the top level" in refused("[node]\nrounds = 3\n")


def test_a_wrong_type_is_one_sentence_with_file_key_value_and_what_is_expected() -> None:
    assert refused('seed = 1\nrounds = "ten"\n') == (
        'p2pfl.toml, line 2: rounds is "ten", and a whole number is expected, such as rounds = 1'
    )


def test_a_key_that_is_set_twice_is_refused() -> None:
    assert "min_nodes is set twice" in refused("min-nodes = 1\nmin_nodes = 2\n")
    assert "is no TOML file: cannot overwrite a value" in refused("seed = 1\nseed = 2\n")


def test_a_file_that_is_no_toml_is_told_with_the_place() -> None:
    assert "p2pfl.toml is no TOML file: invalid value (at line 1, column 10)" in refused("rounds = ten\n")


def test_a_file_that_is_no_text_is_told() -> None:
    Path("p2pfl.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="no text in UTF-8"):
        read_settings(load("node"))


def test_a_file_that_is_named_must_be_there() -> None:
    with pytest.raises(UserError, match=r"the file none.toml cannot be read: No such file"):
        node_context(["--config=none.toml"])


def test_a_named_file_is_read_in_place_of_the_one_here(monkeypatch: pytest.MonkeyPatch) -> None:
    write("rounds = 1\n")
    write("rounds = 2\n", "other.toml")
    assert node_context(["--config=other.toml"]).params["rounds"] == 2
    monkeypatch.setenv("P2PFL_CONFIG", "other.toml")
    assert node_context([]).params["rounds"] == 2
    assert settings_file() == Path("other.toml")
    assert settings_file("p2pfl.toml") == Path("p2pfl.toml")


@pytest.mark.parametrize("key", ["new-run", "new-journal"])
def test_what_acts_at_one_start_is_refused_where_it_would_act_at_each(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"{key} would act at every start; give --{key} on the command line" in refused(f"{key} = true\n")
    Path("p2pfl.toml").unlink()
    monkeypatch.setenv(f"P2PFL_{key.replace('-', '_').upper()}", "1")
    with pytest.raises(UserError, match="would act at every start"):
        node_context([])


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PFL_ROUNDS", "ten")
    with pytest.raises(UserError, match="variable P2PFL_ROUNDS is 'ten', and a whole number is expected"):
        node_context([])


def test_an_empty_variable_sets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PFL_ROUNDS", "")
    assert source_of(node_context([]), "rounds") == "default"


def test_a_value_out_of_range_is_told_with_its_place_and_a_flag_as_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("workers = -1\n")
    with pytest.raises(UserError, match=r"p2pfl.toml:1: workers = -1, which cannot be used: .*0"):
        node_context([])
    with pytest.raises(Exception, match="greater than or equal to 0") as caught:
        node_context(["--workers=-2"])
    assert not isinstance(caught.value, UserError), "Typer tells it with the name of the flag"


def test_a_flag_that_a_file_sets_is_unset_with_no() -> None:
    write("wait = true\n")
    assert node_context([]).params["wait"] is True
    node = node_context(["--no-wait"])
    assert (node.params["wait"], source_of(node, "wait")) == (False, "flag")


def test_an_isolated_node_takes_nothing_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    write("this is no TOML\n")
    monkeypatch.setenv("P2PFL_ROUNDS", "x")
    node = node_context(["--isolated"])
    assert source_of(node, "rounds") == "default"


def test_the_help_needs_no_right_file(capsys: pytest.CaptureFixture[str]) -> None:
    write("this is no TOML\n")
    assert load("node").main(["--help"], standalone_mode=False) == 0
    assert "--config" in capsys.readouterr().out


def test_an_unknown_flag_is_told_as_without_a_file() -> None:
    write("this is no TOML\n")
    with pytest.raises(Exception, match="No such option: --peerz"):
        node_context(["--peerz"])


def test_an_error_about_an_option_says_where_the_option_is_set() -> None:
    write("min-nodes = 999\nseed = 1\n")
    node = node_context(["--seed=2"])
    where = r"^--min-nodes is 999. \(--min-nodes comes from p2pfl.toml:1.\)$"
    with pytest.raises(TaskError, match=where), sources_in_errors(node):
        raise TaskError("--min-nodes is 999.")
    with pytest.raises(UserError, match=r"^--seed is 2.$"), sources_in_errors(node):
        raise UserError("--seed is 2.")


def test_misspelt_variables_are_found_and_those_of_others_left_alone() -> None:
    given = {"P2PFL_ROUND": "1", "P2PFL_TRAINER": "x", "P2PFL_ROUNDS": "2", "P2PFL_GOLDEN": "", "PATH": ""}
    assert misspelt_variables(load("node"), given) == {"P2PFL_ROUND": "P2PFL_ROUNDS"}


def test_commands_to_a_node_are_about_the_one_that_is_configured_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert data_dir_here() is None
    write('data-dir = "run"\n')
    assert data_dir_here() == Path("run").absolute()
    monkeypatch.setenv("P2PFL_DATA_DIR", "other")
    assert data_dir_here() == Path("other")
