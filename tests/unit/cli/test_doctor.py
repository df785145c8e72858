from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner, Result

from p2pfl.cli.doctor import doctor
from p2pfl.doctor.finding import Finding
from p2pfl.errors import UserError
from tests.support.federation import make_federation

app = Typer(rich_markup_mode=None)
app.command()(doctor)


def run(*words: str, catch: bool = True) -> Result:
    return CliRunner().invoke(app, ["--no-mdns", *words], catch_exceptions=catch)


@pytest.fixture
def ant(tmp_path: Path) -> Path:
    """The folder of a device's certificate."""
    return make_federation(tmp_path / "ca", "ant")["ant"].directory


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of loopback on which another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_device_where_all_is_well_gets_a_line_a_finding_and_exit_code_0(tmp_path: Path, ant: Path) -> None:
    result = run("--certs", str(ant), "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data"))
    lines = result.output.splitlines()
    assert [line[:6] for line in lines[:-1]] == ["✓ ok  "] * 7
    assert lines[-1] == "A node can run here."
    assert result.exit_code == 0
    assert not (tmp_path / "data").exists()


def test_what_stands_in_the_way_is_counted_and_gives_exit_code_1(tmp_path: Path, taken: int) -> None:
    places = ("--certs", str(tmp_path), "--listen", f"127.0.0.1:{taken}", "--peers", "127.0.0.1:1")
    result = run(*places, "--task", "chess")
    levels = [line.split()[1] for line in result.output.splitlines() if line[:1] in "✓!✗"]
    assert levels == ["ok", "FAIL", "FAIL", "ok", "warn", "FAIL", "ok", "warn"]
    assert "There is no certificate" in result.output
    assert "another program does already" in result.output
    assert "the tasks are: digits" in result.output
    assert "Commands that may help: the same with --fix" in result.output
    assert "3 of these to solve (✗)" in result.output
    assert result.exit_code == 1


def test_only_some_checks_are_run(ant: Path) -> None:
    places = ("--certs", str(ant), "--listen", "127.0.0.1:0")
    found = json.loads(run(*places, "--only", "certificate,port", "--json").output)["findings"]
    assert [one["check"] for one in found] == ["certificate", "port"]
    with pytest.raises(UserError, match=r"no check with 'ports'; the checks are: software, certificate"):
        run(*places, "--only", "port,ports", catch=False)


def test_some_checks_say_nothing_about_the_others(ant: Path) -> None:
    places = ("--certs", str(ant), "--listen", "127.0.0.1:0")
    assert run(*places, "--only", "port").output.splitlines()[-1] == "Nothing to solve in these checks."
    assert run(*places, "--only", "peers,way").output == "These checks had nothing to look at.\n"


def test_fix_prints_commands_and_runs_none(tmp_path: Path, ant: Path) -> None:
    key = ant / "node.key"
    key.chmod(0o644)
    result = run("--certs", str(ant), "--listen", "127.0.0.1:0", "--fix")
    assert "Commands that may help. Nothing was run: read them first.\n" in result.output
    assert f"\nchmod 600 {key}\n" in result.output
    assert key.stat().st_mode & 0o777 == 0o644
    assert result.exit_code == 1


def test_json_is_one_object_and_nothing_else(tmp_path: Path, ant: Path) -> None:
    places = ("--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data"))
    good = run("--certs", str(ant), *places, "--json")
    said = json.loads(good.output)
    assert (good.exit_code, said["ok"]) == (0, True)
    assert {"check": "software", "state": "ok", "advice": "", "commands": []}.items() <= said["findings"][
        0
    ].items()
    bad = run("--certs", str(tmp_path), *places, "--json")
    said = json.loads(bad.output)
    assert (bad.exit_code, said["ok"]) == (1, False)
    assert [one["check"] for one in said["findings"] if one["state"] == "fail"] == ["certificate"]


def test_mdns_is_tried_unless_it_is_turned_off(
    tmp_path: Path, ant: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check_mdns(*_: object) -> Finding:
        return Finding("warn", "mDNS was tried")

    monkeypatch.setattr("p2pfl.doctor.table.check_mdns", check_mdns)
    words = ["--certs", str(ant), "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data")]
    assert "mDNS was tried" in CliRunner().invoke(app, words).output
    assert "mDNS was tried" not in run(*words).output


def test_without_a_home_folder_the_data_directory_must_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = make_federation(tmp_path, "ant")
    monkeypatch.setattr("p2pfl.store.directory.user_data", lambda name: None)
    result = run("--certs", str(federation["ant"].directory), "--listen", "127.0.0.1:0")
    assert result.exit_code == 1
    assert "FAIL  this user has no home folder" in result.output
    assert "A node can run here" not in result.output


def test_the_data_root_is_an_option(tmp_path: Path, ant: Path) -> None:
    words = ("--certs", str(ant), "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data"))
    result = run(*words, "--task", "mnist", "--data-root", str(tmp_path))
    assert f"{tmp_path}/MNIST/raw" in result.output
    assert result.exit_code == 1
