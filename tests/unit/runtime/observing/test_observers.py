"""Who may watch a node, what it is told, and that it slows nobody down."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from p2pfl import __version__, events
from p2pfl.config import NetSettings
from p2pfl.core.effects import SaveCommit, SaveGenesis
from p2pfl.errors import DataDirectoryError, HandshakeRefused
from p2pfl.events import Published, RoundRow
from p2pfl.identity.credentials import Credentials
from p2pfl.identity.peer import PeerIdentity
from p2pfl.net.transport.tasks import BackgroundTasks
from p2pfl.runtime.observing import observers as module
from p2pfl.runtime.observing.observers import FEDERATION_WIDE, TOO_SLOW, Observers, last_rounds
from p2pfl.statements import Statement
from p2pfl.store.directory import DataDirectory
from p2pfl.store.journal import Journal
from p2pfl.wire.observing import (
    OBSERVING_VERSION,
    CommandName,
    CommandResult,
    EventBatch,
    HistoryBatch,
    HistoryEnd,
    MembershipReport,
    MembershipRequest,
    NodeFrame,
    ObserverCommand,
    ObserverRefusal,
    ObserverWelcome,
    StatementOrder,
    WatchRequest,
    batches,
    encode,
)
from tests.support.federation import make_federation
from tests.support.meshes import until
from tests.support.recordings import finished, rows_of
from tests.support.records import SPEC, Chain, evaluations, node
from tests.support.watchers import Watcher, watch

TOKEN, STREAM = "5e" * 32, "0a" * 16
ROWS = rows_of(finished())[:3]
RUN = ROWS[0].run
JOINED = events.RunJoined(RUN, "resumed", 3, SPEC, ("ada", "ben"))
OWL = PeerIdentity("o" * 52, "owl", "observer", "lab")
"""May watch."""
EVE = PeerIdentity("e" * 52, "eve", "operator", "lab")
"""May command."""

STATUS = events.PeerStatus("b" * 52, "x" * 1000, "", 0, False, "idle", 0.0, 0.0, 0, False, False)
"""A long event, of which only the latest matters."""


def note(text: str) -> events.Notice:
    return events.Notice("info", text)


class Gate:
    """The membership of a node, as its observers use it."""

    def __init__(self) -> None:
        self.banned: set[str] = set()
        self.given: list[tuple[Statement, str]] = []

    def reason(self, peer: PeerIdentity) -> str:
        return "is banned" if peer.node_id in self.banned else ""

    def report(self, number: int) -> MembershipReport:
        return MembershipReport(number, (), {}, (), 0, ())

    def give(self, statement: Statement, who: str) -> tuple[str, str]:
        self.given.append((statement, who))
        return "", "it is out"


STATEMENT = Statement("ban", "b" * 52, "ben", 5, 0, "", b"certificate", b"signature")


class Stage:
    """The observers of node "ada", and what is done for them."""

    def __init__(self, credentials: Credentials, settings: NetSettings) -> None:
        self.credentials = credentials
        self.me = PeerIdentity(credentials.node_id, "ada", "node", "lab")
        self.commands: list[tuple[CommandName, str]] = []
        self.asked: list[str] = []
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.may_obey = asyncio.Event()
        self.may_obey.set()
        self.gate = Gate()
        self.it = Observers(
            credentials,
            settings,
            TOKEN,
            STREAM,
            self.history,
            self.command,
            membership=cast("Any", self.gate),
        )
        self.tasks = BackgroundTasks()
        self._seq = 0

    async def history(self, run: str) -> list[RoundRow]:
        self.asked.append(run)
        await self.may_read.wait()
        return list(ROWS)

    async def command(self, what: CommandName, who: str) -> CommandResult:
        self.commands.append((what, who))
        await self.may_obey.wait()
        return CommandResult(0, "", f"{what} is done")

    def tell(self, *told: events.AnyEvent) -> None:
        for event in told:
            self._seq += 1
            self.it.write(Published(self._seq, float(self._seq), event))

    async def connect(self, identity: PeerIdentity, first: WatchRequest | ObserverCommand | bytes) -> Watcher:
        """Connect *identity*, who says *first*, and serve it until the test ends."""
        watcher = Watcher()
        watcher.say(first)
        serve = await self.it.hear(watcher.stream, identity, "127.0.0.1")
        assert serve is not None

        async def served() -> None:
            await serve()

        self.tasks.start(served())
        await until(lambda: bool(watcher.frames))
        return watcher

    async def following(self, identity: PeerIdentity = OWL, *, stream: str = "", after: int = 0) -> Watcher:
        """Connect *identity* and wait until it was told what has happened."""
        watcher = await self.connect(identity, watch(stream=stream, after=after))
        await until(lambda: bool(watcher.all(HistoryEnd)))
        return watcher

    async def refuse(self, identity: PeerIdentity, first: WatchRequest | ObserverCommand | bytes) -> str:
        """Connect *identity*, who is not let in; return what it is told."""
        watcher = Watcher()
        watcher.say(first)
        with pytest.raises(HandshakeRefused, match=rf"refused an observer, {identity.name}") as caught:
            await self.it.hear(watcher.stream, identity, "127.0.0.1")
        [denial] = watcher.frames
        assert isinstance(denial, ObserverRefusal)
        assert denial.reason in str(caught.value)
        assert watcher.is_closed
        return denial.reason


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    return make_federation(tmp_path / "ca", "ada")["ada"]


@pytest.fixture
async def make(credentials: Credentials) -> AsyncIterator[Callable[..., Stage]]:
    made: list[Stage] = []

    def stage(**settings: object) -> Stage:
        changed = msgspec.structs.replace(NetSettings(), **settings)
        made.append(Stage(credentials, changed))
        return made[-1]

    yield stage
    for one in made:
        await one.tasks.close()


@pytest.fixture
def stage(make: Callable[..., Stage]) -> Stage:
    return make()


# --- who is let in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "who", "may"),
    [
        ("observer", "eve (observer)", ()),
        ("operator", "eve (operator)", ("start", *FEDERATION_WIDE, "save")),
        ("local", "the local user", ("start", *FEDERATION_WIDE, "save", "leave")),
    ],
)
async def test_an_observer_is_greeted_with_what_it_may_do(
    make: Callable[..., Stage], role: str, who: str, may: tuple[CommandName, ...]
) -> None:
    stage = make()
    identity = stage.me if role == "local" else PeerIdentity("e" * 52, "eve", role, "lab")  # type: ignore[arg-type]
    watcher = await stage.connect(identity, watch(token=TOKEN if role == "local" else ""))
    assert watcher.frames[0] == ObserverWelcome(
        OBSERVING_VERSION,
        __version__,
        "ada",
        stage.credentials.node_id,
        "lab",
        who,
        role,  # type: ignore[arg-type]
        may,
        STREAM,
        False,
    )


@pytest.mark.parametrize("token", ["", "5f" * 32, TOKEN[:-1], "ü" * 60])
async def test_a_local_user_without_the_token_is_refused(stage: Stage, token: str) -> None:
    assert "proves that it can read the node's data directory" in await stage.refuse(
        stage.me, watch(token=token)
    )


async def test_the_certificate_of_another_node_is_refused_even_with_the_token(stage: Stage) -> None:
    ben = PeerIdentity("b" * 52, "ben", "node", "lab")
    reason = await stage.refuse(ben, watch(token=TOKEN))
    assert "the certificate of ben is a node's" in reason
    assert "p2pfl certs issue NAME --role observer" in reason


async def test_another_version_is_refused_with_both(stage: Stage) -> None:
    reason = await stage.refuse(OWL, watch(version=OBSERVING_VERSION + 1))
    assert reason.count(f"p2pfl {__version__}") == 2


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (ObserverCommand(1, "pause"), "first frame must be WATCH"),
        (b"\x00\x00\x00\x03abc", "cannot be understood"),
        (b"\xff\xff\xff\xff", "a frame of 4294967295 bytes was announced"),
    ],
)
async def test_who_begins_otherwise_is_refused(
    stage: Stage, first: ObserverCommand | bytes, why: str
) -> None:
    assert why in await stage.refuse(OWL, first)


async def test_who_says_nothing_is_refused_in_time(make: Callable[..., Stage]) -> None:
    stage = make(handshake_seconds=0.01)
    assert await stage.refuse(OWL, b"") == "it sent no request in time"


async def test_who_closes_without_a_word_is_nobodys_fault(stage: Stage) -> None:
    watcher = Watcher()
    watcher.leave()
    assert await stage.it.hear(watcher.stream, OWL, "127.0.0.1") is None
    assert watcher.is_closed


async def test_a_pending_connection_is_closed_when_the_node_stops_listening(stage: Stage) -> None:
    watcher = Watcher()
    hearing = asyncio.create_task(stage.it.hear(watcher.stream, OWL, "127.0.0.1"))
    await asyncio.sleep(0)
    hearing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hearing
    assert watcher.is_closed


async def test_no_more_than_the_limit_are_let_in_until_one_goes(make: Callable[..., Stage]) -> None:
    stage = make(max_observers=2, kept_for_operators=0)
    first = await stage.following()
    await stage.connect(EVE, watch(follow=False))
    assert "2 observers are connected" in await stage.refuse(OWL, watch())
    first.leave()
    await until(lambda: first.is_closed)
    await stage.following()


async def test_idle_observers_lock_out_neither_operators_nor_the_local_user(
    make: Callable[..., Stage],
) -> None:
    stage = make(max_observers=3, kept_for_operators=1)
    for _ in range(2):
        await stage.following()
    assert "2 observers are connected" in await stage.refuse(OWL, watch())
    await stage.connect(EVE, watch())
    assert "3 observers are connected" in await stage.refuse(EVE, watch())
    await stage.connect(stage.me, watch(token=TOKEN))


async def test_one_certificate_does_not_take_all_places(make: Callable[..., Stage]) -> None:
    stage = make(max_observers_of_certificate=2)
    for identity, first in ((OWL, watch()), (EVE, watch()), (stage.me, watch(token=TOKEN))):
        for _ in range(2):
            await stage.connect(identity, first)
        assert "is connected 2 times, the maximum" in await stage.refuse(identity, first)


async def test_long_events_are_kept_for_who_comes_back_only_as_far_as_they_take_little_room(
    make: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESUMABLE_BYTES", 10_000)
    stage = make()
    first = await stage.following()
    for _ in range(20):
        stage.tell(note("x" * 2000))
    assert len(stage.it._recent) < 5
    await until(lambda: len(first.told) == 20)
    back = await stage.following(stream=STREAM, after=19)
    assert back.all(ObserverWelcome)[0].resumed
    late = await stage.following(stream=STREAM, after=2)
    assert not late.all(ObserverWelcome)[0].resumed


# --- what it is told ----------------------------------------------------------------------------------------


async def test_a_new_observer_is_told_what_has_happened_and_then_what_happens(stage: Stage) -> None:
    stage.tell(JOINED, note("before"))
    watcher = await stage.following()
    assert stage.asked == [RUN]
    stage.tell(note("after"))
    await until(lambda: len(watcher.told) == 3)
    assert [type(frame) for frame in watcher.frames] == [
        ObserverWelcome,
        HistoryBatch,
        EventBatch,
        HistoryEnd,
        EventBatch,
    ]
    assert watcher.all(HistoryBatch)[0].rounds == tuple(ROWS)
    assert watcher.all(HistoryEnd) == [HistoryEnd(2)]
    assert [one.event for one in watcher.told] == [JOINED, note("before"), note("after")]


async def test_without_a_run_no_history_is_asked_for(stage: Stage) -> None:
    watcher = await stage.following()
    assert stage.asked == []
    assert [type(frame) for frame in watcher.frames] == [ObserverWelcome, HistoryEnd]


async def test_what_happens_while_the_journal_is_read_is_told_once(stage: Stage) -> None:
    early = await stage.following()
    stage.tell(JOINED)
    stage.may_read.clear()
    watcher = await stage.connect(OWL, watch())
    stage.tell(note("meanwhile"))
    stage.may_read.set()
    await until(lambda: bool(watcher.all(HistoryEnd)))
    stage.tell(note("after"))
    await until(lambda: watcher.numbers[-1:] == [3])
    assert watcher.numbers == early.numbers == [1, 2, 3]


async def test_what_happens_in_the_very_turn_that_a_newcomer_is_told_in_is_told_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def history(run: str) -> list[RoundRow]:
        stage.tell(note("just now"))
        return []

    early = await stage.following()
    stage.tell(JOINED)
    monkeypatch.setattr(stage.it, "_history", history)
    watcher = await stage.following()
    stage.tell(note("after"))
    await until(lambda: watcher.numbers[-1:] == early.numbers[-1:] == [3])
    assert watcher.numbers == early.numbers == [1, 2, 3]


async def test_events_of_one_turn_of_the_loop_come_in_one_frame(stage: Stage) -> None:
    watcher = await stage.following()
    stage.tell(note("one"), note("two"), note("three"))
    assert watcher.told == [], "nothing is sent before the turn is over"
    await until(lambda: bool(watcher.told))
    assert [len(frame.events) for frame in watcher.all(EventBatch)] == [3]


async def test_more_than_a_frame_holds_comes_in_several(stage: Stage) -> None:
    watcher = await stage.following()
    long = note("x" * 100_000)
    stage.tell(*[long] * 12)
    await until(lambda: len(watcher.told) == 12)
    assert watcher.numbers == list(range(1, 13))
    assert len(watcher.all(EventBatch)) > 1


async def test_an_event_is_encoded_once_for_all_observers(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    watchers = [await stage.following(identity) for identity in (OWL, EVE, OWL)]
    assert stage.it.count == 3
    encoded: list[object] = []

    def recorded(frame: NodeFrame) -> bytes:
        encoded.append(frame)
        return encode(frame)

    monkeypatch.setattr(module, "encode", recorded)
    stage.tell(note("one"))
    await until(lambda: all(watcher.told for watcher in watchers))
    assert len(encoded) == 1


async def test_who_does_not_follow_is_told_nothing(stage: Stage) -> None:
    watcher = await stage.connect(EVE, watch(follow=False))
    stage.tell(JOINED)
    watcher.order("pause")
    await until(lambda: len(watcher.frames) == 2)
    assert [type(frame) for frame in watcher.frames] == [ObserverWelcome, CommandResult]
    assert stage.it.count == 0, "nothing is measured for it"


async def test_a_history_longer_than_may_wait_is_told_as_fast_as_it_is_read(
    make: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROWS", ROWS * 100)
    monkeypatch.setattr(module, "batches", partial(batches, max_bytes=2000))
    stage = make(max_observer_bytes=20_000)
    stage.tell(JOINED)
    assert sum(len(encode(HistoryBatch((row,)))) for row in ROWS) > 5 * 20_000
    watcher = await stage.following()
    assert [row for frame in watcher.all(HistoryBatch) for row in frame.rounds] == ROWS


def has_been_told(watcher: Watcher, count: int) -> bool:
    return len(watcher.told) == count


async def test_who_reads_too_slowly_is_dropped_and_may_come_back(
    make: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESUMABLE", 5)
    stage = make(max_observer_bytes=20_000)
    slow, quick = await stage.following(OWL), await stage.following(EVE)
    slow.stop_reading()
    for number in range(1, 41):
        stage.tell(msgspec.structs.replace(STATUS, links=number))
        await until(partial(has_been_told, quick, number))
    await until(lambda: slow.is_closed)
    assert slow.frames[-1] == ObserverRefusal(TOO_SLOW)
    assert slow.numbers == [1], "what waited is not sent any more"
    assert quick.numbers == list(range(1, 41)), "the others miss nothing"
    assert stage.it.count == 1
    again = await stage.following(OWL, stream=STREAM, after=slow.numbers[-1])
    assert not again.all(ObserverWelcome)[0].resumed
    assert again.numbers[-1] == 40


async def test_a_journal_that_cannot_be_read_is_told_to_who_asked_and_to_nobody_else(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def history(run: str) -> list[RoundRow]:
        raise DataDirectoryError("cannot read the journal: the disk reports an error")

    stage.tell(JOINED)
    early = await stage.following()
    monkeypatch.setattr(stage.it, "_history", history)
    watcher = await stage.connect(OWL, watch())
    await until(lambda: watcher.is_closed)
    assert watcher.frames[-1] == ObserverRefusal("cannot read the journal: the disk reports an error")
    stage.tell(note("after"))
    await until(lambda: early.numbers[-1:] == [2])


def test_of_a_long_run_the_last_rounds_are_told_and_of_fewer_the_counts_of_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HISTORY_ROUNDS", 3)
    chain = Chain()
    with DataDirectory(tmp_path).open() as directory:
        journal = Journal.open(directory.journal_path, node("ada"), new_journal=False)
        journal.save_all([SaveGenesis(chain.run, chain.genesis)])
        parts = evaluations((8, 10), (9, 10))
        journal.save_all(
            [
                SaveCommit(chain.run, chain.commit(evaluated=parts if number else ()), 1.0)
                for number in range(5)
            ]
        )
        monkeypatch.setattr(module, "CLASS_ROUNDS", 2)
        rows = last_rounds(directory, chain.run)
        assert [(row.round, len(row.classes)) for row in rows] == [(3, 0), (4, 10), (5, 0)]
        journal.close()


# --- coming back --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 2, 5])
async def test_an_observer_that_comes_back_goes_on_after_the_last_number_it_saw(
    stage: Stage, after: int
) -> None:
    stage.tell(JOINED, *(note(str(number)) for number in range(2, 6)))
    watcher = await stage.following(stream=STREAM, after=after)
    assert watcher.all(ObserverWelcome)[0].resumed
    assert stage.asked == []
    assert watcher.numbers == list(range(after + 1, 6))
    stage.tell(note("6"))
    await until(lambda: watcher.numbers == list(range(after + 1, 7)))


@pytest.mark.parametrize(
    ("stream", "after"),
    [
        pytest.param("0b" * 16, 3, id="of another process"),
        pytest.param(STREAM, 6, id="ahead of what was told"),
    ],
)
async def test_who_comes_from_elsewhere_is_told_anew(stage: Stage, stream: str, after: int) -> None:
    stage.tell(JOINED, *(note(str(number)) for number in range(2, 6)))
    watcher = await stage.following(stream=stream, after=after)
    assert not watcher.all(ObserverWelcome)[0].resumed
    assert watcher.numbers == [1, 2, 3, 4, 5]
    assert watcher.all(HistoryBatch)


async def test_who_missed_more_than_is_kept_is_told_anew(
    make: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESUMABLE", 3)
    stage = make()
    stage.tell(JOINED, *(note(str(number)) for number in range(2, 7)))  # 4, 5 and 6 are kept
    just = await stage.following(stream=STREAM, after=3)
    assert just.all(ObserverWelcome)[0].resumed
    assert just.numbers == [4, 5, 6]
    late = await stage.following(stream=STREAM, after=2)
    assert not late.all(ObserverWelcome)[0].resumed
    assert late.numbers == [1, 2, 3, 4, 5, 6], "all that matters, from the compacted events"


# --- commands -----------------------------------------------------------------------------------------------


async def test_a_command_is_carried_out_and_answered_under_its_number(stage: Stage) -> None:
    watcher = await stage.connect(EVE, watch(follow=False))
    watcher.order("pause", 7)
    watcher.order("save", 8)
    await until(lambda: len(watcher.all(CommandResult)) == 2)
    assert stage.commands == [("pause", "eve (operator)"), ("save", "eve (operator)")]
    assert watcher.all(CommandResult) == [
        CommandResult(7, "", "pause is done"),
        CommandResult(8, "", "save is done"),
    ]


@pytest.mark.parametrize(
    ("identity", "what", "why"),
    [
        (OWL, "pause", "owl (observer) may watch, not command: commands need a certificate of role operator"),
        (OWL, "save", "owl (observer) may watch, not command: commands need a certificate of role operator"),
        (OWL, "leave", "only the local user of a node can make it leave"),
        (EVE, "leave", "only the local user of a node can make it leave"),
        (OWL, "start", "owl (observer) may watch, not command: commands need a certificate of role operator"),
    ],
)
async def test_a_command_beyond_ones_role_is_refused_and_not_carried_out(
    stage: Stage, identity: PeerIdentity, what: CommandName, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    watcher = await stage.connect(identity, watch())
    watcher.order(what, 3)
    await until(lambda: bool(watcher.all(CommandResult)))
    assert watcher.all(CommandResult) == [CommandResult(3, why, "")]
    assert stage.commands == []
    assert f"{identity.name} ({identity.role}) commands {what}: refused" in caplog.text


async def test_the_local_user_may_let_the_node_leave(stage: Stage) -> None:
    watcher = await stage.connect(stage.me, watch(token=TOKEN))
    watcher.order("leave")
    await until(lambda: bool(watcher.all(CommandResult)))
    assert stage.commands == [("leave", "the local user")]


async def test_who_sends_what_is_no_frame_loses_the_connection_and_nobody_else(stage: Stage) -> None:
    bad, good = await stage.following(OWL), await stage.following(EVE)
    bad.say(b"\x00\x00\x00\x03abc")
    await until(lambda: bad.is_closed)
    stage.tell(note("after"))
    await until(lambda: bool(good.told))


# --- the end ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("follow", [True, False])
async def test_at_the_end_everybody_is_told_why_after_all_else(stage: Stage, follow: bool) -> None:
    watcher = await stage.connect(EVE, watch(follow=follow))
    stage.tell(events.Ended(0, "done"))
    await stage.it.close("done")
    assert watcher.frames[-1] == ObserverRefusal("the node ends: done")
    assert [one.event for one in watcher.told] == ([events.Ended(0, "done")] if follow else [])
    assert watcher.is_closed


async def test_who_makes_the_node_leave_gets_its_answer_before_the_end(stage: Stage) -> None:
    watcher = await stage.connect(stage.me, watch(token=TOKEN, follow=False))
    watcher.order("leave")
    await until(lambda: bool(stage.commands))
    await stage.it.close("it left")
    assert watcher.frames[1:] == [
        CommandResult(1, "", "leave is done"),
        ObserverRefusal("the node ends: it left"),
    ]


async def test_who_comes_at_the_end_is_sent_away(stage: Stage) -> None:
    stage.tell(JOINED)
    await stage.it.close("done")
    assert await stage.refuse(OWL, watch()) == "this node ends"
    assert stage.asked == [], "the journal is closed"


async def test_who_does_not_read_does_not_hold_up_the_end(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LAST_WORDS_SECONDS", 0.01)
    watcher = await stage.following()
    watcher.stop_reading()
    stage.tell(note("never read"))
    async with asyncio.timeout(5):
        await stage.it.close("done")
    assert not watcher.is_closed


# --- who is kept out ----------------------------------------------------------------------------------------


async def test_an_observer_that_is_banned_is_refused_and_one_that_becomes_so_is_sent_away(
    stage: Stage,
) -> None:
    watcher = await stage.following(EVE)
    stage.it.recheck()
    assert not watcher.all(ObserverRefusal)
    stage.gate.banned.add(EVE.node_id)
    stage.it.recheck()
    await until(lambda: watcher.is_closed)
    assert watcher.all(ObserverRefusal) == [ObserverRefusal("eve is banned")]
    assert await stage.refuse(EVE, watch()) == "eve is banned"


async def test_operators_hand_on_statements_and_everybody_may_ask(stage: Stage) -> None:
    eve, owl = await stage.connect(EVE, watch()), await stage.connect(OWL, watch())
    for one in (eve, owl):
        one.say(MembershipRequest(7), StatementOrder(8, STATEMENT))
        await until(lambda one=one: bool(one.all(CommandResult)))  # type: ignore[misc]
        assert one.all(MembershipReport) == [MembershipReport(7, (), {}, (), 0, ())]
    assert eve.all(CommandResult) == [CommandResult(8, "", "it is out")]
    assert "may watch, not command" in owl.all(CommandResult)[0].refused
    assert stage.gate.given == [(STATEMENT, "eve (operator)")]
