from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.cli import load
from p2pfl.cli.up import prepare
from p2pfl.errors import UserError
from p2pfl.identity.authority import create_authority, issue, list_certificates, read_federation
from p2pfl.identity.credentials import load_credentials


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
