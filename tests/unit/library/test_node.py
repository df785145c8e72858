"""Nodes inside this process, with workers that do not train: they start, meet, run, and leave."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from p2pfl import events
from p2pfl.errors import DataDirectoryError, UserError
from p2pfl.exit_codes import ExitCode
from p2pfl.learning.process import Worker, WorkerSettings
from p2pfl.library import node as module
from p2pfl.library.certificates import issue
from p2pfl.library.node import EmbeddedNode, EventReader
from p2pfl.runtime import start
from p2pfl.store.verify import verify

MakeNode = Callable[..., EmbeddedNode]


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    program = (sys.executable, "-P", "-m", "tests.support.light_worker")

    def light(settings: WorkerSettings, **options: Any) -> Worker:
        return Worker(msgspec.structs.replace(settings, program=program), **options)

    monkeypatch.setattr(start, "Worker", light)


@pytest.fixture
def make(tmp_path: Path) -> MakeNode:
    def make(name: str, **options: Any) -> EmbeddedNode:
        shared = {"listen": "127.0.0.1:0", "rounds": 3, "model": "2nn", "partition": "iid"}
        certs = issue(name, tmp_path / "certs")
        return EmbeddedNode(**{"certs": certs, "data_dir": tmp_path / name, **shared, **options})

    return make


@pytest.fixture(autouse=True)
def _process_stays_the_programs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test does, the nodes leave signals and logging alone."""

    def refused(*_: object) -> None:
        raise AssertionError("a node in a program takes over its signals")

    monkeypatch.setattr(asyncio.SelectorEventLoop, "add_signal_handler", refused)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.getsignal(number) for number in numbers}
    log = logging.getLogger("p2pfl")
    before = (log.level, log.propagate, log.handlers[:])
    yield
    assert {number: signal.getsignal(number) for number in numbers} == handlers
    assert (log.level, log.propagate, log.handlers) == before


@contextlib.asynccontextmanager
async def two(make: MakeNode, **options: Any) -> AsyncIterator[tuple[EmbeddedNode, EmbeddedNode]]:
    async with (
        make("ada", min_nodes=2, **options) as ada,
        make("ben", min_nodes=2, peers=ada.addresses[:1], **options) as ben,
    ):
        yield ada, ben


async def test_two_nodes_in_one_process_train_together_and_hold_the_same_model(
    make: MakeNode, tmp_path: Path
) -> None:
    async with two(make) as (ada, ben):
        said = [event async for event in ada.events()]
        codes = [await ada.wait(), await ben.wait()]
    assert codes == [ExitCode.COMPLETE, ExitCode.COMPLETE]
    assert isinstance(said[0], events.Started)
    assert isinstance(said[-1], events.Ended)
    commits = [event for event in said if isinstance(event, events.Committed) and event.kind == "train"]
    assert [event.trained for event in commits] == [1, 2, 3]
    assert {name for event in commits for name in event.contributors} == {"ada", "ben"}
    assert [row.digest for row in ada.history()] == [row.digest for row in ben.history()]
    assert verify([tmp_path / "ada", tmp_path / "ben"]).is_clean


async def test_leaving_the_block_leaves_politely_and_the_other_goes_on(make: MakeNode) -> None:
    async with make("ada", min_nodes=2, rounds=100_000, drop_after=600.0, pace=0.05) as ada:
        async with make("ben", min_nodes=2, rounds=100_000, peers=ada.addresses[:1], pace=0.05) as ben:
            async for event in ben.events():
                if isinstance(event, events.Committed):
                    break
        assert await ben.wait() == ExitCode.LEFT
        assert not ben.is_running
        async for event in ada.events():
            if isinstance(event, events.RosterChanged) and event.left:
                assert event.left == ("ben",)
                break
        assert ada.is_running
    assert repr(ada) == "<node ada, ended>"


async def test_a_node_of_a_block_that_fails_ends_too(make: MakeNode) -> None:
    node = make("ada", min_nodes=2)
    with pytest.raises(KeyError):
        async with node:
            raise KeyError("of the program")
    assert not node.is_running


async def test_a_cancelled_block_ends_its_node(make: MakeNode) -> None:
    node = make("ada", min_nodes=2)
    entered = asyncio.Event()

    async def block() -> None:
        async with node:
            entered.set()
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(block())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not node.is_running


async def test_a_node_that_cannot_start_says_why_and_its_port_is_free_again(make: MakeNode) -> None:
    async with make("ada", min_nodes=2) as ada:
        with pytest.raises(UserError, match=r"cannot listen on .* another program does already"):
            async with make("ben", listen=ada.addresses[0]):
                raise AssertionError("not reached")
        with pytest.raises(DataDirectoryError, match="in use"):
            async with make("ben", data_dir=ada.data_dir):
                raise AssertionError("not reached")
    async with make("ben", listen=ada.addresses[0], min_nodes=2) as ben:
        assert ben.addresses == ada.addresses


async def test_standard_input_stays_the_programs(make: MakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.write(writing, b"\n")
    with os.fdopen(reading, encoding="utf-8") as standard_input, os.fdopen(writing, "w"):
        monkeypatch.setattr(sys, "stdin", standard_input)
        async with make("ada", min_nodes=1, wait=True, leave_within=0.1) as node:
            async for event in node.events():
                if isinstance(event, events.Waiting):
                    break
        assert os.read(reading, 9) == b"\n"
        assert not any(isinstance(event, events.RunJoined) for event in node._past)


async def test_a_node_is_started_once(make: MakeNode) -> None:
    node = make("ada", min_nodes=2)
    assert repr(node) == "<node ada, not started>"
    with pytest.raises(UserError, match="has not started"):
        node.addresses  # noqa: B018
    with pytest.raises(UserError, match="has not started"):
        await node.wait()
    async with node:
        assert repr(node) == "<node ada, running>"
        with pytest.raises(UserError, match="was started before"):
            await node.__aenter__()


def test_options_are_checked_before_anything_starts(make: MakeNode, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="A node has no option 'epoch'"):
        make("ada", epoch=3)
    assert not (tmp_path / "ada").exists()


async def test_every_reader_gets_what_happened_before_it_and_one_of_an_ended_node_ends(
    make: MakeNode,
) -> None:
    async with make("ada", min_nodes=1, rounds=1) as node:
        early = node.events()
        await node.wait()
        late = node.events()
        first = [event async for event in early]
        assert [event async for event in late] == [
            event for event in first if not isinstance(event, module.LIVE)
        ]
        assert [event async for event in late] == [], "it stays at its end"


async def test_a_reader_that_is_far_too_slow_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from collections import deque

    monkeypatch.setattr(module, "MAX_BEHIND", 3)
    reader = EventReader(deque(), has_ended=False)
    for number in range(3):
        reader.add(events.Notice("info", str(number)))
    assert await anext(reader) == events.Notice("info", "0")
    for number in range(3, 5):
        reader.add(events.Notice("info", str(number)))
    with pytest.raises(UserError, match="more than 3 waited"):
        await anext(reader)


async def test_a_reader_that_is_not_used_any_more_is_forgotten(make: MakeNode) -> None:
    node = make("ada", min_nodes=2)
    kept = node.events()
    node.events()
    assert [*node._readers] == [kept]


async def test_values_are_tracked_where_the_options_say(make: MakeNode, tmp_path: Path) -> None:
    path = tmp_path / "values.csv"
    async with make("ada", min_nodes=1, rounds=2, track=[f"csv:{path}"]) as node:
        assert await node.wait() == ExitCode.COMPLETE
    rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    found = {(row[2], row[3], row[4]) for row in rows}
    for number in ("1", "2"):
        for name in ("accuracy", "loss", "updates", "seconds"):
            assert (number, "", name) in found
        for name in ("accuracy", "training_loss", "bytes_sent", "bytes_received"):
            assert (number, "ada", name) in found
