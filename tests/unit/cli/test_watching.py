"""`p2pfl status` and `p2pfl watch` on nodes that only observers see."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from p2pfl import events
from p2pfl.cli import load, watching
from p2pfl.errors import NetworkError
from p2pfl.net.transport.addresses import Address
from p2pfl.observe.target import Target
from tests.support.meshes import until
from tests.support.observed import Observed, observed


class Invoked:
    """Runs commands in a thread, as they bring an event loop of their own, on *target*."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
        monkeypatch.setattr(watching, "find_node", lambda *_: target)

    async def run(self, command: str, *words: str) -> None:
        await asyncio.to_thread(load(command).main, list(words), standalone_mode=False)


def begin(node: Observed) -> None:
    node.tell(
        events.Started("ada", node.credentials.node_id, "lab", "127.0.0.1:1", "/data", 0.1),
        events.Waiting(1, 2, "1 of 2 nodes is here"),
    )


async def tell_more(node: Observed, *more: events.AnyEvent) -> None:
    """Tell more as soon as somebody follows."""
    await until(lambda: node.observers.count > 0)
    node.tell(*more)


async def test_status_is_lines_for_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with observed(tmp_path) as node:
        begin(node)
        measuring = asyncio.create_task(tell_more(node, events.Measured(0.1, 2**20, ())))
        await Invoked(monkeypatch, node.target()).run("status")
        await measuring
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("node        ada (")
    assert "run         waiting: 1 of 2 nodes is here" in lines
    assert "memory      1 MiB, node and worker" in lines


async def test_status_is_one_object_for_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with observed(tmp_path) as node:
        begin(node)
        measuring = asyncio.create_task(tell_more(node, events.Measured(0.1, 2**20, ())))
        await Invoked(monkeypatch, node.target("owl")).run("status", "--json")
        await measuring
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (found["name"], found["phase"], found["watched_as"]) == ("ada", "waiting", "owl (observer)")


async def test_watch_prints_until_the_node_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with observed(tmp_path) as node:
        begin(node)
        running = asyncio.create_task(Invoked(monkeypatch, node.target()).run("watch"))
        await tell_more(node, events.Notice("info", "hello"), events.Ended(0, "the run is complete"))
        await node.observers.close("the run is complete")
        await running
    shown = capsys.readouterr()
    assert [line[9:] for line in shown.out.splitlines()][1:] == [
        "· waiting: 1 of 2 nodes is here",
        "· hello",
        "· ended: the run is complete",
    ]
    assert shown.err.splitlines() == [
        "-- connected to ada of lab as the local user",
        "-- the run is complete",
    ]


async def test_watch_can_be_read_by_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with observed(tmp_path) as node:
        begin(node)
        running = asyncio.create_task(Invoked(monkeypatch, node.target()).run("watch", "--json"))
        await tell_more(node, events.Ended(0, "enough"))
        await node.observers.close("enough")
        await running
    decoded = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["seq"], one["event"]) for one in decoded] == [(1, "started"), (2, "waiting"), (3, "ended")]


@pytest.mark.parametrize("command", ["status", "watch"])
async def test_a_node_that_does_not_answer_is_an_error(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with observed(tmp_path) as node:
        target = node.target()._replace(addresses=(Address("127.0.0.1", 1),))
        with pytest.raises(NetworkError, match=r"127.0.0.1:1"):
            await Invoked(monkeypatch, target).run(command)


def test_ctrl_c_ends_watching_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(coroutine: Any) -> None:
        coroutine.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(watching, "find_node", lambda *_: None)
    monkeypatch.setattr(asyncio, "run", interrupt)
    assert not load("watch").main([], standalone_mode=False)
