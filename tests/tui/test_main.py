"""The command line, what it imports, and what it says when there is nothing to show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from p2pfl.demo.control import COMMANDS_FILE, NODES_FILE, REPORTS_FILE, DemoReport, LocalOnlyModel
from p2pfl.errors import UserError
from p2pfl.exit_codes import ExitCode
from p2pfl.runtime.observing.publish import as_json
from tests.support import recordings
from tests.support.source import ROOT
from tui.__main__ import main, parse
from tui.control import DemoControl


def test_neither_torch_nor_numpy_is_imported() -> None:
    code = (
        "import sys, tui.app, tui.__main__, tui.export;"
        "print(sorted({'torch', 'torchvision', 'numpy', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_connections_need_is_not_imported_before_there_is_one() -> None:
    code = "import sys, tui.app, tui.source; print('cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_options_are_read() -> None:
    options = parse(["192.0.2.7:9000", "--certs", "eve", "--ascii", "--theme", "light"])
    assert (options.address, str(options.certs), options.ascii, options.theme) == (
        "192.0.2.7:9000",
        "eve",
        True,
        "light",
    )


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--data-dir", "nowhere"], "there is no data directory"),
        (["--replay", "nowhere"], "cannot be read"),
        (["--replay", "nowhere", "--theme", "blue"], "cannot be read"),
        (["--node", "a", "--data-dir", "b"], "give one of them"),
    ],
)
def test_what_a_user_gets_wrong_is_one_sentence(
    arguments: list[str],
    part: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == ExitCode.UNFIT
    told = capsys.readouterr().err
    assert told.startswith("p2pfl: ")
    assert part in told
    assert told.count("\n") == 1


def test_a_recording_is_told_in_plain_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(as_json(one) + b"\n" for one in recordings.hostile()))
    assert main(["--plain", "--replay", str(path)]) == 0
    told = capsys.readouterr().out
    assert "round 4 committed by" in told
    assert "\x1b" not in told


def test_a_demo_is_controlled_through_its_files(tmp_path: Path) -> None:
    (tmp_path / NODES_FILE).write_text(
        '{"nodes": [{"name": "node-1", "data_dir": "x"}, {"name": "node-2", "data_dir": "y"}]}'
    )
    demo = DemoControl(tmp_path)
    assert demo.names == ("node-1", "node-2")
    demo.do("kill", "node-2")
    demo.do("start", "node-2")
    assert (tmp_path / COMMANDS_FILE).read_text().splitlines() == [
        '{"do":"kill","node":"node-2"}',
        '{"do":"start","node":"node-2"}',
    ]
    assert demo.read() == []
    report = DemoReport(1.5, LocalOnlyModel("node-1", 300, 0.75))
    (tmp_path / REPORTS_FILE).write_bytes(msgspec.json.encode(report) + b"\n")
    assert demo.read() == [report]


def test_a_folder_without_a_demo_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no demo"):
        DemoControl(tmp_path)
