from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from p2pfl.cli import app
from p2pfl.errors import CredentialsError, UserError
from p2pfl.identity.exclusions import STATEMENTS_FILE
from p2pfl.identity.known_peers import KnownPeer, read_known_peers, save_known_peers
from p2pfl.identity.signatories import load_signing
from p2pfl.runtime.met_peers import FORGOTTEN_AFTER
from tests.support.federation import make_federation

BEN, CLEO, OTHER = ("b" * 52, "c" * 52, "d" * 52)


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    [ada] = make_federation(tmp_path / "ca", "ada").values()
    return ada.directory


def run(*words: str) -> str:
    result = CliRunner().invoke(app, ["peers", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def save(certs: Path, *peers: tuple[str, str, float]) -> None:
    save_known_peers(
        certs, [KnownPeer(node, name, ("192.0.2.7:9000", "pi.local:9000"), at) for node, name, at in peers]
    )


def test_the_nodes_are_listed_the_last_one_linked_first(certs: Path) -> None:
    save(certs, (CLEO, "cleo", time.time() - FORGOTTEN_AFTER - 60), (BEN, "ben", time.time()))
    heading, first, second = run("--certs", str(certs)).splitlines()
    assert heading.split() == ["NAME", "NODE", "ID", "LAST", "LINKED", "ADDRESSES"]
    assert first.startswith("ben   bbbbbbb  ")
    assert first.endswith("192.0.2.7:9000, pi.local:9000")
    assert "UTC, not waited for" in second


def test_a_banned_node_is_marked_with_who_when_and_why(tmp_path: Path, certs: Path) -> None:
    save(certs, (BEN, "ben", time.time()), (CLEO, "cleo", 1e9))
    statement = load_signing(tmp_path / "ca").sign("ban", BEN, "ben", reason="it was stolen")
    (certs / STATEMENTS_FILE).write_bytes(msgspec.json.encode([statement]))
    _, ben, cleo = run("--certs", str(certs)).splitlines()
    day = time.strftime("%Y-%m-%d", time.gmtime(statement.at))
    assert f"not dialled: it is banned since {day}" in ben
    assert ben.endswith("by the CA: it was stolen")
    assert cleo.endswith("pi.local:9000")
    (certs / STATEMENTS_FILE).write_bytes(b"[")
    assert "Who is banned is not shown: the bans in" in run("--certs", str(certs))


def test_a_device_that_met_nobody_says_so(certs: Path) -> None:
    assert run("--certs", str(certs)) == "This device has met no other node yet.\n"


@pytest.mark.parametrize("which", ["ben", "bbbbbbb", BEN])
@pytest.mark.parametrize("before", [True, False])
def test_a_node_is_forgotten_by_its_name_or_its_id(certs: Path, which: str, before: bool) -> None:
    save(certs, (CLEO, "cleo", 1e9), (BEN, "ben", 1e9))
    place = ("--certs", str(certs))
    words = (*place, "forget", which) if before else ("forget", which, *place)
    assert run(*words) == "Forgot ben (bbbbbbb).\n"
    assert set(read_known_peers(certs)) == {CLEO}


def test_an_unknown_node_or_an_ambiguous_name_changes_nothing(certs: Path) -> None:
    save(certs, (BEN, "ben", 1e9), (OTHER, "ben", 1e9))
    for which, why in (("eve", "knows no node 'eve'. It knows: ben, ben"), ("ben", "give the id of one, of")):
        with pytest.raises(UserError, match=why):
            run("--certs", str(certs), "forget", which)
    assert set(read_known_peers(certs)) == {BEN, OTHER}


def test_a_folder_without_a_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="There is no certificate"):
        run("--certs", str(tmp_path))
