"""`p2pfl service`: which unit it makes of the options of a node, and what it does with systemd, played by a script."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from p2pfl.cli import load
from p2pfl.cli import service as module
from p2pfl.errors import UserError
from p2pfl.identity.authority import create_authority, issue

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")

Output = pytest.CaptureFixture[str]

FAKE = """#!/bin/sh
echo "$@" >> "$CALLS"
[ -z "$REFUSED" ] || { echo "$REFUSED" >&2; exit 1; }
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a device, with a systemd that notes what it is told in the file `calls`."""
    for name in [name for name in os.environ if name.startswith("P2PFL_")]:
        monkeypatch.delenv(name)
    create_authority(tmp_path / "ca", "lab")
    issue(tmp_path / "ca", "ada")
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "systemctl"
    fake.write_text(FAKE)
    fake.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr(module, "MANAGED", tmp_path)
    monkeypatch.setattr(module, "LINGER", tmp_path / "linger")
    monkeypatch.setattr(module, "TEMPORARY", ())
    monkeypatch.setattr(module, "SYSTEM_UNITS", tmp_path / "system")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def service(*words: str) -> int:
    return load("service").main(list(words), standalone_mode=False) or 0


def unit(*words: str, capsys: Output) -> dict[str, str]:
    service("install", "--dry-run", *words)
    lines = capsys.readouterr().out.splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


CERTS = "--certs=ca/ada"


def test_options_of_flags_and_of_the_environment_are_in_the_command(
    folder: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PFL_ROUNDS", "9")
    started = unit(CERTS, "--data-dir=run", "--peers=a:1", "--wait", capsys=capsys)["ExecStart"]
    assert started.startswith(f"{sys.executable} -P -m p2pfl node ")
    assert started.endswith(f"--peers=a:1 --certs={folder}/ca/ada --data-dir={folder}/run --wait --rounds=9")


def test_a_file_stays_the_place_of_its_options(folder: Path, capsys: Output) -> None:
    Path("p2pfl.toml").write_text('certs = "ca/ada"\ndata-dir = "run"\nleave-within = 20\n')
    found = unit("--seed=3", capsys=capsys)
    assert found["ExecStart"].endswith(f"p2pfl node --config={folder}/p2pfl.toml --seed=3")
    assert found["TimeoutStopSec"] == "35"
    assert found["WorkingDirectory"] == str(folder)


def test_arguments_of_a_script_are_last(folder: Path, capsys: Output) -> None:
    Path("train.py").touch()
    started = unit(CERTS, "--script=train.py", "--", "--lr", "1", capsys=capsys)["ExecStart"]
    assert started.endswith(f"--script={folder}/train.py -- --lr 1")


def test_the_folders_that_a_node_writes_to_are_writable(folder: Path, capsys: Output) -> None:
    service("install", "--dry-run", CERTS, "--data-dir=run", "--events=e/x.jsonl", "--track=csv:t/x.csv")
    text = capsys.readouterr().out
    for name in ("ca/ada", "run", "e", "t"):
        assert f"ReadWritePaths=-{folder / name}\n" in text
    assert not Path("run").exists(), "nothing is changed"


@pytest.mark.parametrize("word", ["--new-run", "--new-journal", "--tui"])
def test_options_for_one_start_are_none_of_a_service(word: str) -> None:
    with pytest.raises(UserError, match=f"a service takes no {word}"):
        service("install", "--dry-run", CERTS, word)


def test_options_of_the_screen_are_none_of_a_service(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    with pytest.raises(UserError, match="a service opens no terminal UI: leave --notify out"):
        service("install", "--dry-run", CERTS, "--notify")
    monkeypatch.setenv("P2PFL_THEME", "nord")
    assert "theme" not in unit(CERTS, "--data-dir=run", capsys=capsys)["ExecStart"]


def test_a_node_that_could_not_start_becomes_no_service() -> None:
    with pytest.raises(UserError, match="There is no certificate in none"):
        service("install", "--dry-run", "--certs=none")
    with pytest.raises(UserError, match="There is no strategy"):
        service("install", "--dry-run", CERTS, "--strategy=best")


def test_the_unit_is_written_enabled_and_started(folder: Path, capsys: Output) -> None:
    service("install", CERTS, "--data-dir=run")
    path = folder / "config" / "systemd" / "user" / "p2pfl-ada.service"
    assert "Description=p2pfl node ada of federation lab" in path.read_text()
    assert (folder / "run").stat().st_mode & 0o777 == 0o700
    assert (folder / "calls").read_text().splitlines() == [
        "--user daemon-reload",
        "--user enable --now p2pfl-ada.service",
    ]
    text = capsys.readouterr().out
    assert "journalctl --user -u p2pfl-ada.service -f" in text
    assert "loginctl enable-linger" in text


def test_who_lingers_is_not_told_to(folder: Path, capsys: Output) -> None:
    (folder / "linger").mkdir()
    (folder / "linger" / module._own_name()).touch()
    service("install", CERTS, "--no-start")
    assert "enable-linger" not in capsys.readouterr().out
    assert (folder / "calls").read_text().splitlines()[-1] == "--user enable p2pfl-ada.service"


def test_a_refusal_of_systemd_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSED", "Failed to connect to bus")
    with pytest.raises(UserError, match=r"`systemctl --user daemon-reload` failed: Failed to connect to bus"):
        service("install", CERTS, "--data-dir=run")


def test_uninstall_stops_and_removes_the_only_service(folder: Path) -> None:
    service("install", CERTS, "--data-dir=run")
    (folder / "calls").unlink()
    service("uninstall")
    assert (folder / "calls").read_text().splitlines() == [
        "--user disable --now p2pfl-ada.service",
        "--user daemon-reload",
    ]
    assert not (folder / "config" / "systemd" / "user" / "p2pfl-ada.service").exists()
    assert (folder / "run").is_dir()
    with pytest.raises(UserError, match=r"there is no service of a node in .*with --system"):
        service("uninstall")


def test_of_several_services_one_is_named(folder: Path) -> None:
    issue(folder / "ca", "ben")
    for name in ("ada", "ben"):
        service("install", f"--certs=ca/{name}", f"--data-dir={name}")
    with pytest.raises(UserError, match="there are several services: name one of ada, ben"):
        service("status")
    with pytest.raises(UserError, match="no service of a node 'cleo'"):
        service("status", "cleo")
    assert service("status", "ben") == 0
    assert (folder / "calls").read_text().splitlines()[-1].endswith("status p2pfl-ben.service")


def test_a_service_that_does_not_run_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    service("install", CERTS, "--data-dir=run")
    monkeypatch.setenv("REFUSED", "inactive")
    assert service("status") == 1


def test_a_service_of_the_system_needs_a_user_who_can_read_the_key(capsys: Output) -> None:
    with pytest.raises(UserError, match="--as USER"):
        service("install", "--dry-run", "--system", CERTS)
    with pytest.raises(UserError, match="there is no user 'nobody-at-all'"):
        service("install", "--dry-run", "--system", "--as=nobody-at-all", CERTS)
    own = module._own_name()
    other = "root" if own != "root" else "daemon"
    with pytest.raises(UserError, match=f"does not belong to {other}"):
        service("install", "--dry-run", "--system", f"--as={other}", CERTS)
    found = unit("--system", f"--as={own}", CERTS, capsys=capsys)
    assert found["User"] == own
    assert found["StateDirectory"] == "p2pfl/ada"
    assert "--data-dir=/var/lib/p2pfl/ada" in found["ExecStart"]


def test_who_called_sudo_runs_a_service_of_the_system(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", module._own_name())
    service("install", "--system", CERTS, "--data-dir=run")
    assert (folder / "system" / "p2pfl-ada.service").is_file()
    assert (folder / "calls").read_text().splitlines()[0] == "daemon-reload"


def test_a_user_is_named_for_services_of_the_system_only() -> None:
    with pytest.raises(UserError, match="--as goes with --system"):
        service("install", "--dry-run", "--as=root", CERTS)


def test_temporary_places_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TEMPORARY", (str(folder),))
    with pytest.raises(UserError, match="is a temporary place, which the system empties"):
        service("install", CERTS)


def test_without_systemd_it_is_said_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MANAGED", folder / "none")
    with pytest.raises(UserError, match="systemd does not manage this system, as in a container"):
        service("install", CERTS)
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(UserError, match="launchd of macOS is not supported"):
        service("install", CERTS)


@pytest.mark.parametrize(("text", "allowed"), [("0", False), ("1", True), (None, True)])
def test_namespaces_are_used_where_users_may_make_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, allowed: bool
) -> None:
    path = folder / "setting"
    if text is not None:
        path.write_text(f"{text}\n")
    monkeypatch.setattr(module, "FORBIDS_NAMESPACES", {str(path): "0"})
    assert module._has_namespaces() is allowed
