"""The commands to a running node: what is sent, and what is said and returned."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from p2pfl.cli import load, orders
from tests.support.observed import observed


async def invoke(*words: str) -> int:
    """Run a command in a thread, as it brings an event loop of its own; return its exit code."""
    command, *rest = words
    return await asyncio.to_thread(load(command).main, rest, standalone_mode=False) or 0


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("start",), "start"),
        (("pause",), "pause"),
        (("resume",), "resume"),
        (("stop",), "stop"),
        (("stop", "--now"), "stop-now"),
        (("leave",), "leave"),
        (("save",), "save"),
    ],
)
async def test_what_was_done_is_said(
    words: tuple[str, ...],
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with observed(tmp_path) as node:
        monkeypatch.setattr(orders, "find_node", lambda *_: node.target())
        assert await invoke(*words) == 0
        assert node.orders == [(what, "the local user")]
    assert capsys.readouterr() == (f"done: did {what}\n", "")


async def test_a_refusal_is_exit_code_1_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with observed(tmp_path) as node:
        node.refused = "the run is\x1b[2J complete"
        monkeypatch.setattr(orders, "find_node", lambda *_: node.target())
        assert await invoke("pause") == 1
    assert capsys.readouterr() == ("", "refused: the run is?[2J complete\n")
