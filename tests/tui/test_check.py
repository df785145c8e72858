"""The network check: what it asks the doctor, what it shows, and that it ends with its dialog."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from p2pfl.doctor.finding import NOBODY_TRAINS
from p2pfl.errors import UserError
from p2pfl.identity.names import Role
from p2pfl.net.transport.addresses import Address
from p2pfl.observe.state import State
from p2pfl.observe.target import Target
from tests.support import recordings
from tests.support.federation import make_federation
from tests.support.meshes import until
from tests.support.recordings import state_of
from tests.support.screens import Node, settle, shown, text_of
from tui import check
from tui.check import CheckFinding, check_lines, doctor_words, run_doctor
from tui.dialogs import CheckDialog
from tui.symbols import glyphs

WORDS = ["doctor", "--json"]


def target(folder: Path, role: Role = "node") -> Target:
    return Target(
        (Address("192.0.2.20", 9000),), make_federation(folder, "ada", role=role)["ada"], "", None, None
    )


def words(target: Target, state: State) -> dict[str, str]:
    command, as_json, *rest = doctor_words(target, state)
    assert (command, as_json) == ("doctor", "--json")
    return dict(word.removeprefix("--").split("=", 1) for word in rest)


def test_a_node_of_this_device_is_checked_with_the_way_to_its_peers(tmp_path: Path) -> None:
    mine, state = target(tmp_path), state_of(recordings.running())
    asked = words(mine, state)
    assert asked["certs"] == str(mine.credentials.directory)
    assert asked["only"] == "certificate,port,peers,way,links"
    assert asked["listen"] == state.address
    others = {peer.address for peer in state.peers.values() if not peer.is_me}
    assert set(asked["peers"].split(",")) == others
    waiting = state_of(recordings.checklist())
    waiting.addresses = tuple(replace(one, address=f"bob at {one.address}") for one in waiting.addresses)
    asked = words(mine, waiting)
    assert asked["only"].endswith(",mdns"), "nobody may have been found yet"
    assert {"192.168.1.33:9000", "192.168.1.77:9000"} <= set(asked["peers"].split(","))


def test_what_the_observed_node_states_as_an_address_is_asked_only_if_it_is_one(tmp_path: Path) -> None:
    mine, state = target(tmp_path), state_of(recordings.running(4, 2))
    others = [peer for peer in state.peers.values() if not peer.is_me]
    stated = ["192.0.2.1:9000,192.0.2.2:9000", "no address", " [2001:db8::1]:9000 "]
    for peer, address in zip(others, stated, strict=True):
        peer.address = address
    state.address = "--help, 192.0.2.20:9000"
    asked = words(mine, state)
    assert asked["peers"] == "[2001:db8::1]:9000"
    assert asked["listen"] == "9000"


def test_a_certificate_that_watches_is_checked_for_that(tmp_path: Path) -> None:
    asked = words(target(tmp_path, "observer"), state_of(recordings.running()))
    assert asked["only"] == "certificate,peers"
    assert asked["peers"].startswith("192.0.2.20:9000,")
    assert "listen" not in asked


@pytest.fixture
def doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def write(program: str) -> None:
        script = tmp_path / "doctor.py"
        script.write_text(f"import json, sys, time\n{program}\n", encoding="utf-8")
        monkeypatch.setattr(check, "PYTHON", (sys.executable, str(script)))

    return write


def report(*findings: tuple[str, str, str]) -> str:
    values = [
        {"check": name, "state": state, "text": text, "advice": "do it", "commands": []}
        for name, state, text in findings
    ]
    return json.dumps({"ok": False, "findings": values})


async def test_what_the_doctor_finds_is_returned_also_if_something_is_wrong(doctor: Any) -> None:
    found = report(("peers", "fail", "pi is off"), ("certificate", "fail", f"eve: {NOBODY_TRAINS}"))
    doctor(f"assert sys.argv[1:] == ['p2pfl', 'doctor', '--json']; print({found!r}); sys.exit(1)")
    assert await run_doctor(WORDS) == [CheckFinding("peers", "fail", "pi is off", "do it")]


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("sys.exit('p2pfl: there is no certificate')", "the check failed: there is no certificate"),
        ("sys.stderr.write('p2pfl: bad\\n'); sys.exit(2)", "the check failed: bad"),
        ("sys.exit(3)", "the check failed: exit code 3"),
    ],
)
async def test_a_failed_check_is_one_sentence(doctor: Any, program: str, why: str) -> None:
    doctor(program)
    with pytest.raises(UserError) as caught:
        await run_doctor(WORDS)
    assert str(caught.value) == why


async def test_a_check_that_does_not_end_is_ended(doctor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "LIMIT_SECONDS", 0.01)
    doctor("time.sleep(100)")
    with pytest.raises(UserError, match="did not end within 0 s: run `p2pfl doctor` in a shell"):
        await run_doctor(WORDS)
    monkeypatch.setattr(check, "PYTHON", ("/nonexistent/python",))
    with pytest.raises(UserError, match="could not be started: No such file"):
        await run_doctor(WORDS)


def test_findings_are_marked_in_words_too() -> None:
    findings = [
        CheckFinding("port", "ok", "port 1"),
        CheckFinding("peers", "fail", "\x1b[1mpi is off", "ping it"),
    ]
    text = "\n".join(line.plain for line in check_lines(findings, glyphs(ascii_only=True)))
    assert (
        text
        == "+ ok    port 1\nx fail  ?[1mpi is off\n        > ping it\n\n1 of these to solve, then check again."
    )
    assert check_lines(findings[:1], glyphs(ascii_only=True))[-1].plain == "Nothing is in the way."


async def test_d_checks_and_the_screen_goes_on(tmp_path: Path, doctor: Any) -> None:
    gate = tmp_path / "gate"
    found = report(("peers", "warn", "bee (bbbbbbb) is banned"))
    doctor(f"import os\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\nprint({found!r})")
    node = Node()
    node.target = target(tmp_path / "ca")
    async with shown(recordings.running(), (100, 30), source=node) as (app, pilot, _):
        await pilot.press("d")
        await settle(app, pilot)
        assert isinstance(app.screen, CheckDialog)
        assert "Checking: a node that does not answer takes a few seconds" in text_of(app)
        gate.touch()
        await app.workers.wait_for_complete([one for one in app.workers if one.name == "check"])
        await settle(app, pilot)
        assert "! warn  bee (bbbbbbb) is banned" in text_of(app)
        assert "▸ do it" in text_of(app)
        await pilot.press("escape")
        assert not isinstance(app.screen, CheckDialog)


async def test_a_check_ends_with_its_dialog(tmp_path: Path, doctor: Any) -> None:
    begun = tmp_path / "begun"
    doctor(f"import os; open({str(begun)!r}, 'w').write(str(os.getpid())); time.sleep(100)")
    node = Node()
    node.target = target(tmp_path / "ca")
    async with shown(recordings.running(), (100, 30), source=node) as (app, pilot, _):
        await pilot.press("d")
        await until(lambda: begun.exists() and begun.read_text() != "")
        process = Path(f"/proc/{begun.read_text()}")
        await pilot.press("escape")
        await until(lambda: not process.exists())
        assert not isinstance(app.screen, CheckDialog)


async def test_in_a_browser_and_in_a_recording_nothing_is_checked() -> None:
    async with shown(recordings.running(), (100, 30)) as (app, pilot, _):
        app.session.writes_files = False
        await pilot.press("d")
        await settle(app, pilot)
        assert not isinstance(app.screen, CheckDialog)
        assert "Check the network" not in {one.title for one in app.get_system_commands(app.screen)}
