"""An observer's connection: real TLS on loopback, to a node's observers with nothing behind them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfl import events
from p2pfl.errors import NetworkError
from p2pfl.net.transport.addresses import Address
from p2pfl.observe import client as module
from p2pfl.observe.client import Observer, command
from p2pfl.wire.observing import EventBatch, HistoryBatch, HistoryEnd
from tests.support.federation import make_federation
from tests.support.observed import STREAM, observed
from tests.support.recordings import finished, rows_of
from tests.support.records import SPEC
from tests.support.source import ROOT

ROWS = rows_of(finished())[:2]
JOINED = events.RunJoined(ROWS[0].run, "resumed", 2, SPEC, ("ada", "ben"))


def note(text: str) -> events.Notice:
    return events.Notice("info", text)


async def test_the_local_user_is_told_what_has_happened_and_what_happens(tmp_path: Path) -> None:
    async with observed(tmp_path, ROWS) as node:
        node.tell(JOINED, note("before"))
        async with await Observer.connect(node.target()) as observer:
            assert (observer.greeting.name, observer.greeting.role) == ("ada", "local")
            assert (observer.greeting.stream, observer.greeting.resumed) == (STREAM, False)
            frames = observer.frames()
            assert await anext(frames) == HistoryBatch(tuple(ROWS))
            history = await anext(frames)
            assert isinstance(history, EventBatch)
            assert [one.event for one in history.events] == [JOINED, note("before")]
            assert await anext(frames) == HistoryEnd(2)
            node.tell(note("now"))
            happened = await anext(frames)
            assert isinstance(happened, EventBatch)
            assert [(one.seq, one.event) for one in happened.events] == [(3, note("now"))]
            await frames.aclose()


async def test_an_observer_that_comes_back_goes_on_after_what_it_saw(tmp_path: Path) -> None:
    async with observed(tmp_path, ROWS) as node:
        node.tell(JOINED, note("seen"), note("missed"))
        async with await Observer.connect(node.target(), stream=STREAM, after=2) as observer:
            assert observer.greeting.resumed
            frames = observer.frames()
            happened = await anext(frames)
            assert isinstance(happened, EventBatch)
            assert [one.event for one in happened.events] == [note("missed")]
            await frames.aclose()


async def test_the_end_of_the_node_ends_the_connection_with_its_reason(tmp_path: Path) -> None:
    async with observed(tmp_path) as node, await Observer.connect(node.target()) as observer:
        frames = observer.frames()
        assert await anext(frames) == HistoryEnd(0)
        await node.observers.close("the run is complete")
        with pytest.raises(NetworkError, match=r"the run is complete$"):
            await anext(frames)


async def test_an_operators_command_is_done_and_an_observers_is_refused(tmp_path: Path) -> None:
    async with observed(tmp_path) as node:
        answer = await command(node.target("eve", "operator"), "pause")
        assert (answer.refused, answer.text) == ("", "did pause")
        answer = await command(node.target("owl", "observer"), "pause")
        assert "need a certificate of role operator" in answer.refused
        assert node.orders == [("pause", "eve (operator)")]


async def test_a_command_can_be_given_while_following(tmp_path: Path) -> None:
    async with observed(tmp_path) as node, await Observer.connect(node.target()) as observer:
        reading = asyncio.create_task(anext(observer.frames()))
        assert await reading == HistoryEnd(0)
        rest = asyncio.create_task(_drain(observer))
        assert (await observer.order("save")).text == "did save"
        rest.cancel()
        await asyncio.gather(rest, return_exceptions=True)
        assert node.orders == [("save", "the local user")]


async def _drain(observer: Observer) -> None:
    async for _ in observer.frames():
        pass


async def test_a_command_whose_answer_cannot_come_any_more_fails(tmp_path: Path) -> None:
    async with observed(tmp_path) as node, await Observer.connect(node.target()) as observer:
        await node.observers.close("gone")
        with pytest.raises(NetworkError):
            await _drain(observer)
        with pytest.raises(NetworkError, match=r"gone|closed"):
            await observer.order("pause")


async def test_a_wrong_token_is_refused_with_a_sentence(tmp_path: Path) -> None:
    async with observed(tmp_path) as node:
        with pytest.raises(NetworkError, match="proves that it can read the node's data directory"):
            await Observer.connect(node.target(token="0" * 64))


async def test_another_federations_certificate_is_refused_with_a_sentence(tmp_path: Path) -> None:
    other = make_federation(tmp_path / "other", "eve", federation="elsewhere", role="operator")["eve"]
    async with observed(tmp_path) as node:
        target = node.target()._replace(credentials=other, node=None)
        with pytest.raises(NetworkError, match=r"CA|federation"):
            await Observer.connect(target)


async def test_another_node_where_one_was_expected_is_not_watched(tmp_path: Path) -> None:
    async with observed(tmp_path) as node:
        with pytest.raises(NetworkError, match="was expected: that node no longer runs"):
            await Observer.connect(node.target()._replace(node="z" * 52))


async def test_addresses_are_tried_in_order(tmp_path: Path) -> None:
    async with observed(tmp_path) as node:
        there = node.target().addresses[0]
        target = node.target()._replace(addresses=(Address("127.0.0.1", 1), there))
        async with await Observer.connect(target, follow=False) as observer:
            assert observer.address == there


async def test_nobody_there_is_an_error_that_names_the_address(tmp_path: Path) -> None:
    async with observed(tmp_path) as node:
        target = node.target()._replace(addresses=(Address("127.0.0.1", 1),))
        with pytest.raises(NetworkError, match=r"^No connection with 127.0.0.1:1: nothing listens there"):
            await Observer.connect(target)


async def test_a_node_that_is_silent_is_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE_SECONDS", 0.05)
    async with observed(tmp_path) as node, await Observer.connect(node.target(), follow=False) as observer:
        with pytest.raises(NetworkError, match=r"nothing was heard from the node for 0.05 s"):
            await _drain(observer)


@pytest.mark.parametrize("name", ["p2pfl.observe.client", "p2pfl.cli.watching", "p2pfl.cli.orders"])
def test_who_watches_a_node_weighs_less_than_it(name: str) -> None:
    code = (
        f"import sys, {name}, p2pfl.observe.follow, p2pfl.observe.snapshot, p2pfl.observe.printer; "
        "print([name for name in ('torch', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"
