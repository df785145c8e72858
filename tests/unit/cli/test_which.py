"""The options that say which node is meant are the same for every command."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.cli import load
from p2pfl.cli.which import find
from p2pfl.errors import UserError

COMMANDS = ("status", "watch", "tui", "start", "pause", "resume", "stop", "leave", "save")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_them_all(command: str) -> None:
    assert {"address", "data_dir", "node", "certs", "name"} <= {one.name for one in load(command).params}


@pytest.mark.parametrize("command", COMMANDS)
def test_none_of_them_is_needed(command: str) -> None:
    assert not any(one.required for one in load(command).params)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_names_no_node_is_an_error_of_the_user(command: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no data directory"):
        load(command).main(["--data-dir", str(tmp_path / "none")], standalone_mode=False)


def test_they_mean_what_a_target_is_made_of(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give one of them"):
        find("10.0.0.1:9000", tmp_path, None, None, None)
