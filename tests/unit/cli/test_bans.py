"""The commands about who is kept out: whom they mean, who signs, and what is said."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from p2pfl.cli import bans, load
from p2pfl.errors import CredentialsError, UserError
from p2pfl.identity.authority import create_authority, issue
from p2pfl.identity.credentials import load_credentials, read_certificate
from p2pfl.identity.exclusions import STATEMENTS_FILE, Exclusions
from p2pfl.identity.revocation import revoke
from p2pfl.identity.signatories import load_signing, verify_statement
from p2pfl.observe import client
from p2pfl.statements import Statement
from p2pfl.wire.observing import CommandResult, HeldBan, KnownNode, MembershipReport

ADA, BEN, BEE, CAS = "ada2" + "a" * 48, "ben2" + "b" * 48, "ben3" + "b" * 48, "cas2" + "c" * 48
REPORT = MembershipReport(
    0,
    (KnownNode(ADA, "ada", 4, True), KnownNode(BEN, "ben", 3, True), KnownNode(BEE, "ben", 1, False)),
    {BEN: 10**13},
    (HeldBan(CAS, "cas", "desk (operator)", "why", 1_700_000_000.0),),
    7,
    (ADA, "d" * 52),
)


class Node:
    """What a node answers, and the statements it got."""

    def __init__(self) -> None:
        self.got: list[Statement] = []
        self.refused = ""

    async def membership(self) -> MembershipReport:
        return REPORT

    async def state(self, statement: Statement) -> CommandResult:
        self.got.append(statement)
        return CommandResult(1, self.refused, "" if self.refused else "it is out")


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    made = Node()

    @contextlib.asynccontextmanager
    async def asking(_target: Any) -> AsyncIterator[Node]:
        yield made

    monkeypatch.setattr(client, "asking", asking)
    monkeypatch.setattr(bans, "find_node", lambda *_: None)
    return made


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    create_authority(tmp_path / "ca", "lab")
    issue(tmp_path / "ca", "ada")
    issue(tmp_path / "ca", "desk", "operator")
    return tmp_path / "ca"


async def invoke(*words: str) -> int:
    command, *rest = words
    return await asyncio.to_thread(load(command).main, rest, standalone_mode=False) or 0


async def test_a_ban_is_signed_by_the_operator_and_above_earlier_statements(
    node: Node, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await invoke("ban", "ben2", f"--certs={folder / 'desk'}", "--reason=stolen") == 0
    (statement,) = node.got
    assert (statement.what, statement.node, statement.name) == ("ban", BEN, "ben")
    assert (statement.number, statement.incarnation, statement.reason) == (10**13 + 1, 0, "stolen")
    assert capsys.readouterr() == ("done: it is out, as desk (operator) says\n", "")


async def test_a_kick_names_the_present_start_and_the_ca_may_sign(node: Node, folder: Path) -> None:
    assert await invoke("kick", "ada", f"--certs={folder}") == 0
    (statement,) = node.got
    assert (statement.what, statement.incarnation) == ("kick", 4)
    signed = verify_statement(statement, read_certificate(folder / "ca.crt"), "lab")
    assert signed is not None
    assert signed.by.is_authority


async def test_only_a_banned_node_is_not_banned_any_more(node: Node, folder: Path) -> None:
    assert await invoke("unban", "cas", f"--certs={folder}", "--name=desk") == 0
    assert [(one.what, one.node) for one in node.got] == [("unban", CAS)]
    with pytest.raises(UserError, match=r"no banned node has the name 'ada'.*there are: cas \(cas2ccc\)"):
        await invoke("unban", "ada", f"--certs={folder}")


async def test_a_refusal_is_exit_code_1(node: Node, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node.refused = "it stays\x1b[2J banned"
    assert await invoke("ban", "ada", f"--certs={folder}") == 1
    assert capsys.readouterr() == ("", "refused: it stays?[2J banned\n")


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        ("eve", r"no node that is known there has the name 'eve'.*ada \(ada2aaa\), ben \(ben2bbb\)"),
        ("ben", r"'ben' names 2 nodes: ben \(ben2bbb\), ben \(ben3bbb\)"),
        ("be", "no node that is known there"),
    ],
)
def test_a_name_that_is_unknown_or_of_several_lists_candidates(subject: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        bans.find_subject(REPORT, subject, is_lifting=False)


def test_a_whole_node_id_needs_no_known_node() -> None:
    assert bans.find_subject(REPORT, "e" * 52, is_lifting=False) == ("e" * 52, "eeeeeee", 0)


async def test_without_a_signer_the_user_is_told_what_is_needed(node: Node, folder: Path) -> None:
    with pytest.raises(CredentialsError, match=r"an operator decides\. Give --certs"):
        await invoke("ban", "ada")
    with pytest.raises(CredentialsError, match="has the role node: members cannot kick or ban each other"):
        await invoke("ban", "ada", f"--certs={folder / 'ada'}")
    assert node.got == []


@pytest.mark.parametrize("reason", ["x" * 301, "two\nlines"])
async def test_a_reason_is_one_short_line(node: Node, folder: Path, reason: str) -> None:
    with pytest.raises(UserError, match="one printable line of at most 300 characters"):
        await invoke("ban", "ada", f"--certs={folder}", f"--reason={reason}")
    assert node.got == []


@pytest.mark.usefixtures("node")
async def test_bans_are_listed_with_reason_signer_and_revocations(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert await invoke("bans") == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("cas (cas2ccc)  banned 2023-11-1")
    assert first.endswith("by desk (operator): why")
    assert second == "ada (ada2aaa)  certificate revoked by the CA, in list 7"
    assert third == "d" * 52 + "  certificate revoked by the CA, in list 7"
    assert await invoke("bans", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bans"] == [
        {"node": CAS, "name": "cas", "by": "desk (operator)", "reason": "why", "at": 1_700_000_000.0}
    ]
    assert (told["revocation_list"], told["revoked"]) == (7, [ADA, "d" * 52])


async def test_the_folder_of_a_device_can_be_read_while_no_node_runs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await invoke("bans", f"--certs={folder / 'ada'}") == 0
    assert capsys.readouterr().out == "nobody is kept out\n"
    known = Exclusions(load_credentials(folder, "ada"))
    known.take(load_signing(folder / "desk").sign("ban", BEN, "ben"))
    known.save()
    revoke(folder, "ada")
    assert await invoke("bans", f"--certs={folder / 'ada'}") == 0
    assert "ben (ben2bbb)  banned" in capsys.readouterr().out
    (folder / "ada" / STATEMENTS_FILE).write_text("nonsense")
    with pytest.raises(UserError, match="cannot be read"):
        await invoke("bans", f"--certs={folder / 'ada'}")
    with pytest.raises(UserError, match="give one"):
        await invoke("bans", f"--certs={folder / 'ada'}", "--node=ada")


async def test_a_revoked_certificate_is_said_with_what_comes_next(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await invoke("certs", "revoke", "ada", f"--certs={folder}") == 0
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first.startswith("Revoked ada (")
    assert "ca.crl into the folder of any one running node" in second
