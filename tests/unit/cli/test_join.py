from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from p2pfl.cli import join as module
from p2pfl.cli import load
from p2pfl.enrolment.finding import FoundInviter
from p2pfl.errors import NetworkError, ReplyLostError, UserError
from p2pfl.net.transport.addresses import Address
from tests.support.enrolling import Inviting, inviting

CODE = "lemon-tiger-voyage"


def join(*words: str) -> int:
    code: int | None = load("join").main(list(words), standalone_mode=False)
    return code or 0


@pytest.mark.parametrize(
    ("words", "address", "code"),
    [
        ([], None, ""),
        (["192.0.2.7"], Address("192.0.2.7", 9010), ""),
        (["192.0.2.7:9011", CODE], Address("192.0.2.7", 9011), CODE),
        (["desk.local", "Lemon", "tiger", "VOYAGE"], Address("desk.local", 9010), CODE),
        (["lemon", "tiger", "voyage"], None, CODE),
        ([CODE], None, CODE),
    ],
)
def test_address_and_code_are_told_apart(words: list[str], address: Address | None, code: str) -> None:
    assert module._read_words(words) == (address, code)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["192.0.2.7", "lemon-tigre-voyage"], "'tigre' is in no code"),
        (["192.0.2.7", "lemon"], "A code has 3 words"),
        (["a:b", CODE], "is not an address"),
        (["192.0.2.7", CODE, "--name=Ant"], "cannot be the name of a device"),
        (["192.0.2.7", CODE, "--listen=9001"], "--listen is for the node: give it with --start"),
        (["192.0.2.7"], "The code is missing"),
    ],
)
def test_what_cannot_be_right_is_named_before_any_connection(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_join", None)
    with pytest.raises(UserError, match=said):
        join(*words, f"--certs={tmp_path / 'certs'}")
    assert not (tmp_path / "certs").exists()


def find(monkeypatch: pytest.MonkeyPatch, *found: FoundInviter) -> None:
    """Let this network have the inviters *found*."""

    async def find_inviters() -> list[FoundInviter]:
        return list(found)

    monkeypatch.setattr("p2pfl.enrolment.finding.find_inviters", find_inviters)


DESK = FoundInviter("lab", "desk", Address("192.0.2.7", 9010))
PI = FoundInviter("club", "pi", Address("192.0.2.8", 9010))


def test_without_an_address_it_is_that_of_the_only_inviter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find(monkeypatch, DESK)
    assert module._find() == DESK.address
    assert "desk invites to 'lab', at 192.0.2.7:9010." in capsys.readouterr().err


def test_of_several_inviters_the_person_chooses_one(monkeypatch: pytest.MonkeyPatch) -> None:
    find(monkeypatch, DESK, PI)
    with pytest.raises(UserError, match="Several devices invite: give the address"):
        module._find()
    monkeypatch.setattr("p2pfl.cli.keyboard.has_terminal", lambda: True)
    monkeypatch.setattr("typer.prompt", lambda *_, **__: "2")
    assert module._find() == PI.address
    monkeypatch.setattr("typer.prompt", lambda *_, **__: "3")
    with pytest.raises(UserError, match="'3' is none of them: give a number from 1 to 2"):
        module._find()


def test_where_nobody_invites_the_other_way_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find(monkeypatch)
    with pytest.raises(UserError, match="No inviting device was found in this network: run `p2pfl invite`"):
        module._find()


async def run(open_: Inviting, *words: str) -> int:
    return await asyncio.to_thread(join, str(open_.address), open_.code, *words)


async def test_it_says_what_the_device_is_called_and_what_comes_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with inviting(tmp_path / "ca", count=2) as open_:
        (tmp_path / "ca" / "ant").mkdir()
        assert await run(open_, "--name=ant", f"--certs={tmp_path / 'certs'}") == 0
    said = capsys.readouterr()
    place = tmp_path / "certs" / "ant-2"
    assert f"Joined the federation 'lab' as ant-2 (the name ant is taken there): {place}\n" in said.out
    assert f"Next: p2pfl node --certs {place}\n" in said.out


async def test_a_refused_join_leaves_no_file(tmp_path: Path) -> None:
    async with inviting(tmp_path / "ca") as open_:
        with pytest.raises(NetworkError, match="did not accept the code"):
            await asyncio.to_thread(
                join, str(open_.address), open_.wrong_code, "--name=ant", f"--certs={tmp_path / 'certs'}"
            )
    assert not (tmp_path / "certs").exists()


async def test_a_lost_answer_keeps_the_key_and_says_how_to_fetch_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(*_: Any) -> None:
        raise ReplyLostError("The answer of 192.0.2.7:9010 was lost.")

    monkeypatch.setattr("p2pfl.enrolment.joiner.join", lose)
    with pytest.raises(
        ReplyLostError, match=r"was lost\. This device may have been let in: run the same command"
    ):
        await asyncio.to_thread(join, "192.0.2.7", CODE, "--name=ant", f"--certs={tmp_path}")
    assert (tmp_path / ".ant.joining" / "node.key").is_file()


async def test_start_goes_straight_on_to_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[tuple[list[str], str]] = []
    before = time.time()

    class Node:
        def main(self, words: list[str], name: str, *, standalone_mode: bool, obj: float) -> int:
            assert not standalone_mode
            assert before < obj <= time.time(), "the node counts its seconds from here"
            started.append((words, name))
            return 3

    async with inviting(tmp_path / "ca") as open_:
        command = load("join")
        monkeypatch.setattr("p2pfl.cli.load", lambda _: Node())
        words = [str(open_.address), open_.code, "--name=ant", f"--certs={tmp_path / 'certs'}", "--start"]
        code = await asyncio.to_thread(command.main, [*words, "--data=photos"], standalone_mode=False)
    assert code == 3
    assert (
        f"Its node starts now; later: p2pfl node --certs {tmp_path / 'certs' / 'ant'}\n"
        in capsys.readouterr().out
    )
    assert started == [([f"--certs={tmp_path / 'certs' / 'ant'}", "--data=photos"], "p2pfl node")]


async def test_a_wrong_clock_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with inviting(tmp_path / "ca", clock=lambda: time.time() + 7200) as open_:
        await run(open_, "--name=ant", f"--certs={tmp_path / 'certs'}")
    assert (
        "This device's clock is 120 minutes behind the inviting device's: set it right."
        in capsys.readouterr().err
    )
