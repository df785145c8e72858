"""The driver keeps the order of effects, and "nothing leaves before the disk has it"."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from p2pfl import events
from p2pfl.config import NetSettings
from p2pfl.core import inputs
from p2pfl.core.effects import (
    AnyEffect,
    DeleteUnneededBlobs,
    Exit,
    SaveClosed,
    SaveCommit,
    SavePromise,
    SaveReport,
    SaveUpdate,
    Send,
    SendRecords,
    Sever,
    Tell,
    Train,
)
from p2pfl.errors import DataDirectoryError, OutOfFilesError
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import Member, Message, Prepare, Records
from p2pfl.net.links.peers import LinkedPeer
from p2pfl.net.transport.tasks import run
from p2pfl.runtime.driver import FRAME_MARGIN, LATER_SECONDS, Driver
from p2pfl.runtime.observing.publish import Publisher
from p2pfl.store.blobs import BlobStore
from p2pfl.work import TrainingJob
from tests.support.core import ballot
from tests.support.meshes import until
from tests.support.records import AGREEMENT, SPEC, Chain, digest, evaluation, node, update

RUN = digest("run")
PROMISE = SavePromise(RUN, 1, ballot(1, "ben"), 1)
REPORT = SaveReport(RUN, 1, node("ada"), evaluation(correct=1, total=2, loss=0.5))
UPDATE = SaveUpdate(RUN, 1, RUN, msgspec.structs.replace(update("ada", 1), seconds=LATER_SECONDS))
DEAR_UPDATE = SaveUpdate(RUN, 1, RUN, msgspec.structs.replace(update("ada", 1), seconds=60.0))
CLOSED = SaveClosed(RUN)
PREPARE = Prepare(RUN, 1, ballot(1, "ada"))
BYE = Exit(ExitCode.COMPLETE, "done")


def commit(then: str) -> SaveCommit:
    chain = Chain()
    return SaveCommit(chain.run, chain.commit(then=then), 1.0)


BEN = LinkedPeer(Member(node("ben"), "1" * 32), "ben", "node", "h:1", 1, "2" * 32)


class ScriptedNode:
    """A protocol that answers its start, inputs and ticks with what it was given."""

    ledger = None

    def __init__(self, start: list[AnyEffect], tick: list[AnyEffect] | None = None) -> None:
        self._start = start
        self._tick = tick
        self.inputs: list[inputs.AnyInput] = []

    def start(self, now: float) -> list[AnyEffect]:
        return self._start

    def input(self, event: inputs.AnyInput, now: float) -> list[AnyEffect]:
        self.inputs.append(event)
        return []

    def tick(self, now: float) -> list[AnyEffect]:
        effects, self._tick = self._tick or [], None
        return effects

    def deadline(self) -> float | None:
        return 0.0 if self._tick is not None else None


class Trace:
    """Stands for journal, mesh and work, and writes down what they are asked to do."""

    def __init__(self, save: Callable[[], None] = lambda: None) -> None:
        self.steps: list[Any] = []
        self._save = save

    def save_all(self, effects: list[Any]) -> None:
        self._save()
        self.steps.append(("saved", list(effects)))

    def refuse(self, reason: str) -> None:
        self._save()
        self.steps.append(("refused", reason))

    def drop(self, node: str, reason: str) -> None:
        self.steps.append(("dropped", node, reason))

    def records(self, run: str, after: int, max_bytes: int) -> Records:
        self.steps.append(("read", run, after, max_bytes))
        return Records(run, None, ())

    def send(self, to: str, message: Message) -> bool:
        self.steps.append(("sent", to, message))
        return True

    def begin(self, effect: AnyEffect) -> None:
        self.steps.append(("begun", effect))

    def stop_training(self) -> None:
        self.steps.append("stopped")


class SlowDisk:
    """Holds up a thread that comes by until it may go on."""

    def __init__(self) -> None:
        self._began, self._may_end = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self._began.set()
        assert self._may_end.wait(10)

    async def is_at_work(self) -> bool:
        return await asyncio.to_thread(self._began.wait, 10)

    def go_on(self) -> None:
        self._may_end.set()


class SlowStore(BlobStore):
    """Takes its time before it lists its blobs."""

    def __init__(self, directory: Path, disk: SlowDisk) -> None:
        super().__init__(directory)
        self._disk = disk

    def _files(self) -> list[Path]:
        self._disk()
        return super()._files()


def drive(
    path: Path,
    script: ScriptedNode,
    trace: Any,
    told: list[Any] | None = None,
    store: BlobStore | None = None,
) -> Driver:
    """A driver of *script* whose journal, mesh and work are *trace*."""
    publisher = Publisher(lambda: 0.0)
    if told is not None:
        publisher.add(lambda published: told.append(published.event))
    store = store or BlobStore(path)
    return Driver(script, trace, store, publisher, NetSettings())  # type: ignore[arg-type]


def begin(driver: Driver, before_tick: Callable[[], None] = lambda: None) -> None:
    """Start *driver*: its journal stands for mesh and work, too."""
    trace: Any = driver._journal
    driver.start(trace, trace, before_tick)


async def perform(path: Path, effects: list[AnyEffect], trace: Trace | None = None) -> tuple[Exit, list[Any]]:
    """Carry *effects* out; return how it ended and the steps that were taken."""
    trace = trace or Trace()
    driver = drive(path, ScriptedNode(effects), trace)
    begin(driver)
    return await driver.run(), trace.steps


async def test_saves_in_a_row_are_one_transaction_and_the_rest_keeps_its_order(tmp_path: Path) -> None:
    train = Train(TrainingJob(RUN, 1, SPEC, AGREEMENT, digest("model"), 0))
    ended, steps = await perform(
        tmp_path, [PROMISE, REPORT, Send("ben", PREPARE), train, CLOSED, Send("cleo", PREPARE), BYE]
    )
    assert ended == BYE
    assert steps == [
        ("saved", [PROMISE, REPORT]),
        ("sent", "ben", PREPARE),
        ("begun", train),
        ("saved", [CLOSED]),
        ("sent", "cleo", PREPARE),
    ]


async def test_nothing_is_sent_before_the_save_in_front_of_it_is_durable(tmp_path: Path) -> None:
    disk = SlowDisk()
    trace = Trace(disk)
    driver = drive(tmp_path, ScriptedNode([PROMISE, Send("ben", PREPARE), BYE]), trace)
    begin(driver)
    running = asyncio.create_task(driver.run())
    assert await disk.is_at_work()
    assert trace.steps == [], "the disk is still at work"
    disk.go_on()
    assert await running == BYE
    assert trace.steps == [("saved", [PROMISE]), ("sent", "ben", PREPARE)]


# --- what nobody waits for ----------------------------------------------------------------------------------


async def test_a_report_waits_for_the_next_save_and_holds_nothing_up(tmp_path: Path) -> None:
    _, steps = await perform(
        tmp_path, [REPORT, Send("ben", PREPARE), PROMISE, REPORT, Send("cleo", PREPARE), BYE]
    )
    assert steps == [
        ("sent", "ben", PREPARE),
        ("saved", [REPORT, PROMISE, REPORT]),
        ("sent", "cleo", PREPARE),
    ]


async def test_what_can_wait_is_saved_soon_when_nothing_else_is(tmp_path: Path) -> None:
    trace = Trace()
    driver = drive(tmp_path, ScriptedNode([REPORT, Send("ben", PREPARE), UPDATE]), trace)
    begin(driver)
    running = asyncio.create_task(driver.run())
    await until(lambda: len(trace.steps) == 2)
    assert trace.steps == [("sent", "ben", PREPARE), ("saved", [REPORT, UPDATE])]
    driver.end(ExitCode.COMPLETE, "enough")
    await running


async def test_reports_that_still_wait_are_saved_when_the_node_ends(tmp_path: Path) -> None:
    _, steps = await perform(tmp_path, [PROMISE, Send("ben", PREPARE), REPORT, REPORT, BYE])
    assert steps == [("saved", [PROMISE]), ("sent", "ben", PREPARE), ("saved", [REPORT, REPORT])]


async def test_a_commit_and_an_update_hold_nothing_up_and_are_on_disk_with_the_next_vote(
    tmp_path: Path,
) -> None:
    effects: list[AnyEffect] = [
        commit("go"),
        Send("ben", PREPARE),
        UPDATE,
        Send("ben", PREPARE),
        PROMISE,
        Send("cleo", PREPARE),
        BYE,
    ]
    _, steps = await perform(tmp_path, effects)
    assert steps == [
        ("sent", "ben", PREPARE),
        ("sent", "ben", PREPARE),
        ("saved", [commit("go"), UPDATE, PROMISE]),
        ("sent", "cleo", PREPARE),
    ]


@pytest.mark.parametrize("then", ["pause", "end"])
async def test_a_commit_that_pauses_or_ends_a_run_is_on_disk_before_anybody_is_told(
    tmp_path: Path, then: str
) -> None:
    _, steps = await perform(tmp_path, [commit(then), Send("ben", PREPARE), BYE])
    assert steps == [("saved", [commit(then)]), ("sent", "ben", PREPARE)]


async def test_an_update_that_took_long_is_not_put_off_and_holds_nothing_up(tmp_path: Path) -> None:
    disk = SlowDisk()
    trace = Trace(disk)
    driver = drive(tmp_path, ScriptedNode([REPORT, Send("ben", PREPARE), DEAR_UPDATE]), trace)
    begin(driver)
    assert driver._later == [], "both are on their way to the disk"
    assert await disk.is_at_work()
    assert trace.steps == [("sent", "ben", PREPARE)]
    disk.go_on()
    driver.end(ExitCode.COMPLETE, "enough")
    await driver.run()
    assert trace.steps[1:] == [("saved", [REPORT, DEAR_UPDATE])]


async def test_a_collection_waits_for_the_next_flush_instead_of_making_one(tmp_path: Path) -> None:
    trace = Trace()
    store = BlobStore(tmp_path)
    unused = adopted(store, b"unused")
    driver = drive(tmp_path, ScriptedNode([REPORT, DeleteUnneededBlobs(frozenset())]), trace, store=store)
    begin(driver)
    await until(lambda: driver._flushed is not None)
    assert trace.steps == []
    assert store.has(unused)
    driver._give_out([PROMISE])
    await until(lambda: not store.has(unused))
    assert trace.steps == [("saved", [REPORT, PROMISE])]
    driver.end(ExitCode.COMPLETE, "enough")
    await driver.run()


async def test_records_are_read_after_what_was_put_off_is_saved(tmp_path: Path) -> None:
    _, steps = await perform(tmp_path, [commit("go"), SendRecords("ben", RUN, 0), BYE])
    assert [step[0] for step in steps] == ["saved", "read", "sent"]


async def test_a_disk_that_refuses_the_last_save_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise DataDirectoryError("the disk is full")

    ended, _ = await perform(tmp_path, [REPORT, BYE], Trace(broken))
    assert ended == BYE
    assert "while ending: the disk is full" in caplog.text


async def test_an_update_the_disk_refuses_ends_the_node(tmp_path: Path) -> None:
    def broken() -> None:
        raise DataDirectoryError("the disk is full")

    ended, _ = await perform(tmp_path, [UPDATE], Trace(broken))
    assert ended == Exit(ExitCode.DISK, "the disk is full")


# --- the ways to end ----------------------------------------------------------------------------------------


async def test_a_disk_that_refuses_ends_the_node_and_nothing_is_sent(tmp_path: Path) -> None:
    def broken() -> None:
        raise DataDirectoryError("the disk is full")

    ended, steps = await perform(tmp_path, [PROMISE, Send("ben", PREPARE), BYE], Trace(broken))
    assert ended == Exit(ExitCode.DISK, "the disk is full")
    assert int(ExitCode.DISK) == 7
    assert steps == []


async def test_too_many_open_files_are_told_as_something_to_change_and_not_as_the_disk(
    tmp_path: Path,
) -> None:
    def broken() -> None:
        raise OutOfFilesError("too many files are open")

    ended, _ = await perform(tmp_path, [PROMISE, BYE], Trace(broken))
    assert ended == Exit(ExitCode.UNFIT, "too many files are open")


async def test_a_fault_in_its_own_code_ends_the_node_with_a_log_entry(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("a lower vote")

    ended, steps = await perform(tmp_path, [PROMISE, Send("ben", PREPARE)], Trace(broken))
    assert ended.code == ExitCode.BUG
    assert "a lower vote" in ended.reason
    assert "RuntimeError" in caplog.text
    assert steps == []


async def test_what_the_system_refuses_is_no_fault_of_this_program(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refused() -> None:
        raise OSError(24, "Too many open files", "blobs")

    ended, _ = await perform(tmp_path, [PROMISE, Send("ben", PREPARE)], Trace(refused))
    assert ended == Exit(
        ExitCode.SYSTEM,
        "the operating system refused a call that this node needs (blobs): Too many open files; see its log",
    )
    assert int(ExitCode.SYSTEM) == 71
    assert "the operating system refused a call" in caplog.text


async def test_effects_after_an_exit_are_left_undone(tmp_path: Path) -> None:
    _, steps = await perform(tmp_path, [BYE, Send("ben", PREPARE)])
    assert steps == []


async def test_the_protocol_is_ticked_when_its_deadline_comes(tmp_path: Path) -> None:
    ticks = []
    driver = drive(tmp_path, ScriptedNode([], tick=[BYE]), Trace())
    begin(driver, lambda: ticks.append(1))
    assert await driver.run() == BYE
    assert ticks == [1]


def test_an_input_while_a_deadline_is_already_past_changes_nothing_on_a_node_s_own_loop(
    tmp_path: Path,
) -> None:
    # What is due at once gets a handle of another kind on uvloop.
    async def main() -> Exit:
        script = ScriptedNode([], tick=[BYE])
        driver = drive(tmp_path, script, Trace())
        begin(driver)
        for peer in ("ben", "cleo"):
            driver.feed(inputs.Unlinked(peer))
        return await driver.run()

    assert run(main()) == BYE


async def test_records_are_read_with_room_for_the_frame_around_them(tmp_path: Path) -> None:
    _, steps = await perform(tmp_path, [SendRecords("ben", RUN, 3), BYE])
    assert steps == [
        ("read", RUN, 3, NetSettings().max_frame_bytes - FRAME_MARGIN),
        ("sent", "ben", Records(RUN, None, ())),
    ]


async def test_a_pinned_blob_survives_a_collection_until_its_turn_to_be_unpinned_has_come(
    tmp_path: Path,
) -> None:
    store = BlobStore(tmp_path)
    blobs = {name: adopted(store, name.encode()) for name in ("kept", "pinned", "unused")}
    trace = Trace()
    store.pin(blobs["pinned"])
    driver = drive(
        tmp_path, ScriptedNode([DeleteUnneededBlobs(frozenset({blobs["kept"]}))]), trace, store=store
    )
    begin(driver)
    driver.unpin_later(blobs["pinned"])
    driver._give_out([BYE])
    await driver.run()
    assert store.digests() == {blobs["kept"], blobs["pinned"]}
    assert not store.is_pinned(blobs["pinned"])


async def test_a_collection_holds_nothing_up_and_spares_what_comes_in_while_it_lists(tmp_path: Path) -> None:
    disk = SlowDisk()
    store = SlowStore(tmp_path, disk)
    unused = adopted(store, b"unused")
    trace = Trace()
    script = ScriptedNode([DeleteUnneededBlobs(frozenset()), Send("ben", PREPARE)])
    driver = drive(tmp_path, script, trace, store=store)
    begin(driver)
    running = asyncio.create_task(driver.run())
    assert await disk.is_at_work()
    await until(lambda: trace.steps == [("sent", "ben", PREPARE)])
    store.pin(digest("an update"))
    arrived = adopted(store, b"an update")
    driver.unpin_later(arrived)
    driver._give_out([PROMISE])
    await until(lambda: ("saved", [PROMISE]) in trace.steps)
    assert store.is_pinned(arrived), "the collection under way does not know that it is needed"
    disk.go_on()
    driver._give_out([BYE])
    assert await running == BYE
    assert store.digests() == {arrived}
    assert not store.has(unused)
    assert not store.is_pinned(arrived)
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_a_fault_in_carrying_an_effect_out_ends_the_node_and_not_whoever_gave_the_input(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Trace):
        def begin(self, effect: AnyEffect) -> None:
            raise RuntimeError("no such job")

    driver = drive(tmp_path, ScriptedNode([]), Broken())
    begin(driver)
    driver._give_out([Train(TrainingJob(RUN, 1, SPEC, AGREEMENT, digest("model"), 0))])
    assert (await driver.run()).code == ExitCode.BUG
    assert "no such job" in caplog.text


def adopted(store: BlobStore, data: bytes) -> str:
    path = store.new_path()
    path.write_bytes(data)
    store.adopt(path, digest(data.decode()))
    return digest(data.decode())


async def test_what_the_mesh_tells_reaches_people_and_a_copied_disk_ends_the_node(tmp_path: Path) -> None:
    told: list[events.AnyEvent] = []
    script = ScriptedNode([Tell(events.Notice("info", "hello"))])
    trace = Trace()
    driver = drive(tmp_path, script, trace, told)
    begin(driver)
    driver.refused("192.0.2.7:1", "another CA")
    driver.journal_cloned("this data directory is a copy")
    driver.journal_cloned("it is told twice")
    assert trace.steps == [("refused", "this data directory is a copy")], "durably, before the node ends"
    assert await driver.run() == Exit(ExitCode.CLONED, "this data directory is a copy")
    assert told == [events.Notice("info", "hello"), events.PeerRefused("192.0.2.7:1", "another CA")]
    assert script.inputs == []


async def test_where_a_copy_cannot_be_marked_the_disk_is_what_ends_the_node(tmp_path: Path) -> None:
    def refuse() -> None:
        raise DataDirectoryError("the disk is full")

    driver = drive(tmp_path, ScriptedNode([]), Trace(refuse))
    driver.journal_cloned("this data directory is a copy")
    assert await driver.run() == Exit(ExitCode.DISK, "the disk is full")


async def test_a_link_the_protocol_wants_ended_is_cut(tmp_path: Path) -> None:
    trace = Trace()
    driver = drive(tmp_path, ScriptedNode([Sever("ben", "it has forgotten votes")]), trace)
    begin(driver)
    assert trace.steps == [("dropped", "ben", "it has forgotten votes")]


# --- for people ---------------------------------------------------------------------------------------------


async def test_a_blob_on_its_way_to_a_peer_is_shown(tmp_path: Path) -> None:
    told: list[events.AnyEvent] = []
    drive(tmp_path, ScriptedNode([]), Trace(), told).served("ben", 3, 9)
    assert told == [events.ProgressMade(0, "push", 3, 9, "ben")]
