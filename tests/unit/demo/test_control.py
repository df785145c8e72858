"""The files through which the terminal UI has the demo kill and start nodes."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from p2pfl import events
from p2pfl.demo.control import (
    COMMANDS_FILE,
    NODES_FILE,
    Command,
    Control,
    LocalOnlyModel,
)
from p2pfl.demo.processes import NodeProcess
from p2pfl.errors import DataDirectoryError
from tui.control import DemoControl


@pytest.fixture
def nodes(tmp_path: Path) -> list[NodeProcess]:
    return [NodeProcess(name, tmp_path) for name in ("node-1", "node-2")]


def test_who_takes_part_is_written_down(tmp_path: Path, nodes: list[NodeProcess]) -> None:
    Control(tmp_path, nodes).close()
    written = json.loads((tmp_path / NODES_FILE).read_text(encoding="utf-8"))
    assert written == {
        "nodes": [{"name": name, "data_dir": str(tmp_path / name)} for name in ("node-1", "node-2")],
    }


def test_the_screen_understands_the_demo_and_the_demo_the_screen(
    tmp_path: Path, nodes: list[NodeProcess]
) -> None:
    with contextlib.closing(Control(tmp_path, nodes)) as control:
        screen = DemoControl(tmp_path)
        assert screen.names == ("node-1", "node-2")
        screen.do("kill", "node-2")
        screen.do("start", "node-2")
        assert control.commands() == [Command("kill", "node-2"), Command("start", "node-2")]
        assert control.commands() == []
        reports = (events.Notice("info", "node-2 is started again"), LocalOnlyModel("node-1", 300, 0.5))
        for report in reports:
            control.report(report)
        assert tuple(one.what for one in screen.read()) == reports
        assert screen.read() == []


def test_a_command_still_being_written_is_read_when_it_is_whole(
    tmp_path: Path, nodes: list[NodeProcess]
) -> None:
    with contextlib.closing(Control(tmp_path, nodes)) as control:
        line = b'{"do":"kill","node":"node-1"}\n'
        with (tmp_path / COMMANDS_FILE).open("ab", buffering=0) as file:
            file.write(line[:10])
            assert control.commands() == []
            file.write(line[10:] + line[:3])
            assert control.commands() == [Command("kill", "node-1")]


@pytest.mark.parametrize("line", ["{", "7", '{"do":"explode","node":"node-1"}', '{"do":"kill"}', ""])
def test_a_line_that_is_no_command_is_left_out(tmp_path: Path, nodes: list[NodeProcess], line: str) -> None:
    with contextlib.closing(Control(tmp_path, nodes)) as control:
        (tmp_path / COMMANDS_FILE).write_text(f'{line}\n{{"do":"kill","node":"node-1"}}\n', encoding="utf-8")
        assert control.commands() == [Command("kill", "node-1")]


def test_what_an_earlier_demo_was_told_is_over(tmp_path: Path, nodes: list[NodeProcess]) -> None:
    first = Control(tmp_path, nodes)
    first.report(events.Notice("info", "old"))
    first.close()
    DemoControl(tmp_path).do("kill", "node-1")
    with contextlib.closing(Control(tmp_path, nodes)) as control:
        assert control.commands() == []
        assert DemoControl(tmp_path).read() == []


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path, nodes: list[NodeProcess]) -> None:
    with pytest.raises(DataDirectoryError):
        Control(tmp_path / "none", nodes)
