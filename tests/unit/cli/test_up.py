from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from p2pfl.cli import load
from p2pfl.cli.up import _banner, prepare
from p2pfl.enrolment.inviter import Inviter
from p2pfl.enrolment.serving import InvitationOptions, OpenInvitation
from p2pfl.errors import UserError
from p2pfl.identity.authority import create_authority, issue, list_certificates, read_federation
from p2pfl.identity.credentials import load_credentials
from p2pfl.net.transport.addresses import parse_address


def test_a_federation_and_the_first_certificate_are_made_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Desk.example.org")
    certs = tmp_path / "certs"
    assert prepare(certs, None, "lab") == ("desk", None)
    assert load_credentials(certs).federation == "lab"
    assert "Made the federation 'lab'. Keep" in capsys.readouterr().out
    before = load_credentials(certs).node_id
    monkeypatch.setattr("socket.gethostname", lambda: "other")
    assert prepare(certs, None, None) == ("desk", None)
    assert load_credentials(certs).node_id == before
    assert capsys.readouterr().out == ""


def test_a_ca_that_is_there_is_used(tmp_path: Path) -> None:
    create_authority(tmp_path, "lab")
    assert prepare(tmp_path, "ant", "lab") == ("ant", None)
    found = read_federation(tmp_path)
    assert found is not None
    assert found.name == "lab"
    assert [one.name for one in list_certificates(tmp_path)] == ["ant"]


def test_a_ca_with_a_passphrase_is_opened_with_the_file_that_has_it(tmp_path: Path) -> None:
    create_authority(tmp_path / "ca", "lab", passphrase=b"correct horse")
    entered = tmp_path / "entered"
    entered.write_text("correct horse\n")
    entered.chmod(0o600)
    assert prepare(tmp_path / "ca", "ant", None, entered) == ("ant", b"correct horse")
    assert [one.name for one in list_certificates(tmp_path / "ca")] == ["ant"]
    entered.write_text("wrong battery\n")
    with pytest.raises(UserError, match="passphrase"):
        prepare(tmp_path / "ca", "bee", None, entered)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    create_authority(tmp_path / "ca", "lab")
    with pytest.raises(UserError, match=r"--federation is 'club', and .* holds the CA of 'lab'"):
        prepare(tmp_path / "ca", None, "club")
    issue(tmp_path / "ca", "ant")
    issue(tmp_path / "ca", "bee")
    with pytest.raises(UserError, match=r"keys of several devices \(ant, bee\): name this one with --name"):
        prepare(tmp_path / "ca", None, None)
    assert prepare(tmp_path / "ca", "bee", None) == ("bee", None)
    (tmp_path / "joined").mkdir()
    (tmp_path / "ca" / "ant").rename(tmp_path / "joined" / "ant")
    with pytest.raises(
        UserError, match="has joined the federation 'lab' already, as ant: start it with `p2pfl node"
    ):
        prepare(tmp_path / "joined", None, None)


def test_an_option_that_no_node_has_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="No such option: --roundz"):
        load("up").main([f"--certs={tmp_path / 'certs'}", "--yes", "--roundz=5"], standalone_mode=False)
    assert not (tmp_path / "certs").exists()


def test_the_arguments_of_a_script_stay_behind_all_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []

    async def run(_options: object, _own: str, words: list[str], **_: object) -> int:
        started.append(words)
        return 0

    monkeypatch.setattr("p2pfl.cli.up._run", run)
    certs = tmp_path / "certs"
    words = [f"--certs={certs}", "--name=ada", "--yes", "--count=1", "--script", "train.py", "--stay"]
    for script in ([], ["--"], ["--", "--lr", "0.1", "--", "x"]):
        assert load("up").main([*words, *script], standalone_mode=False) == 0
        options = ["--min-nodes=2", "--listen=9000", "--script", "train.py", "--stay"]
        assert started.pop() == [*options, f"--certs={certs / 'ada'}", *script]


@pytest.mark.parametrize(
    ("count", "which"), [(1, "another device is linked"), (3, "3 other devices are linked")]
)
def test_the_banner_says_how_many_devices_start_the_training(count: int, which: str, tmp_path: Path) -> None:
    address = parse_address("127.0.0.1:9010")
    invitation = OpenInvitation("lab", address, "a code", 0.0, goes_on=False, inviter=cast("Inviter", None))
    options = InvitationOptions(tmp_path, count=count, ttl=900.0, listen=None, node_port=9000)
    shown = _banner(invitation, "ada", options, is_held=False, yes=True)
    assert f"The training starts by itself when {which}.\n" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--count=0", "--yes"), "--count is 0, and 1 to 256"),
        (("--ttl=1d", "--yes"), "--ttl is '1d'"),
        (("--listen=a:b", "--yes"), "is not an address"),
        ((), "standard input is no terminal"),
    ],
)
def test_a_bad_option_makes_nothing(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        load("up").main([f"--certs={tmp_path / 'certs'}", *words], standalone_mode=False)
    assert not (tmp_path / "certs").exists()
