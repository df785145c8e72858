"""The text of a unit, as systemd itself reads it."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from p2pfl.cli.service_unit import CLOSE_SECONDS, SystemdService, unit_name, unit_text
from p2pfl.exit_codes import ExitCode
from p2pfl.runtime.leaving import CLOSE_WITHIN


def service(**changes: object) -> SystemdService:
    settings: dict[str, object] = {
        "name": "ada",
        "federation": "lab",
        "words": [shutil.which("true") or "/bin/true", "node", "--certs=/a b/certs"],
        "folder": Path("/"),
        "writable": [Path("/srv/a b"), Path("/srv/data")],
        "leave_within": 7.0,
    }
    return SystemdService(**settings | changes)  # type: ignore[arg-type]


def section(text: str, name: str = "Service") -> dict[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=["="])
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return dict(parser[name])


ALL = {
    "user": service(),
    "user-without-namespaces": service(has_namespaces=False),
    "system": service(user="root"),
    "system-with-state": service(user="root", state="p2pfl/ada", low_port=True),
    "strange-names": service(
        words=["/bin/true", "--a=%h $HOME 'x' \"y\" \\z;", "", "ü"], writable=[Path('/srv/%n "q"')]
    ),
}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("kind", ALL)
def test_systemd_finds_nothing_wrong_with_the_unit(kind: str, tmp_path: Path) -> None:
    path = tmp_path / unit_name(ALL[kind].name)
    path.write_text(unit_text(ALL[kind]), encoding="utf-8")
    scope = "--system" if ALL[kind].is_of_system else "--user"
    done = subprocess.run(
        ["systemd-analyze", "verify", scope, "--man=no", str(path)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_cannot_heal_is_not_started_again() -> None:
    found = section(unit_text(service()))
    prevented = {int(code) for code in found["RestartPreventExitStatus"].split()}
    assert prevented == {
        ExitCode.UNFIT,
        ExitCode.CONFLICT,
        ExitCode.LOST_MODEL,
        ExitCode.CLONED,
        ExitCode.LEFT_BEHIND,
        ExitCode.UNTRAINED,
    }
    assert found["SuccessExitStatus"] == "3 130"
    assert found["Restart"] == "on-failure"


def test_the_manager_waits_longer_than_the_node_takes_to_leave_and_close() -> None:
    assert CLOSE_SECONDS > CLOSE_WITHIN
    found = section(unit_text(service(leave_within=7.4)))
    assert int(found["TimeoutStopSec"]) == 7 + CLOSE_SECONDS
    assert (found["KillSignal"], found["KillMode"]) == ("SIGTERM", "mixed")


@pytest.mark.parametrize("kind", ALL)
def test_torch_may_write_its_kernels_and_see_gpus(kind: str) -> None:
    found = section(unit_text(ALL[kind]))
    assert not found.keys() & {"MemoryDenyWriteExecute", "PrivateDevices", "DevicePolicy", "ProtectClock"}
    assert "AF_NETLINK" in found["RestrictAddressFamilies"]


def test_a_node_writes_to_its_own_folders_only() -> None:
    text = unit_text(service())
    assert section(text)["ProtectSystem"] == "strict"
    assert 'ReadWritePaths="-/srv/a b"\nReadWritePaths=-/srv/data\n' in text


def test_without_namespaces_no_directive_needs_them() -> None:
    found = section(unit_text(service(has_namespaces=False)))
    assert not found.keys() & {"PrivateUsers", "ProtectSystem", "ReadWritePaths", "PrivateTmp"}
    assert found["NoNewPrivileges"] == "true"
    assert "PrivateUsers" in section(unit_text(service()))


def test_a_service_of_the_system_runs_as_its_user_without_capabilities() -> None:
    text = unit_text(service(user="ada", state="p2pfl/ada"))
    found = section(text)
    assert (found["User"], found["CapabilityBoundingSet"]) == ("ada", "")
    assert found["StateDirectory"] == "p2pfl/ada"
    assert section(text, "Install")["WantedBy"] == "multi-user.target"
    assert section(unit_text(service()), "Install")["WantedBy"] == "default.target"
    low = section(unit_text(service(user="ada", low_port=True)))
    assert low["AmbientCapabilities"] == "CAP_NET_BIND_SERVICE"


def test_the_name_of_a_unit_is_one_that_systemd_takes() -> None:
    assert unit_name("ada") == "p2pfl-ada.service"
    assert unit_name("a/b ü") == "p2pfl-a_b__.service"
