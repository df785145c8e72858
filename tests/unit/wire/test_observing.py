from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors import ProtocolError
from p2pfl.events import Notice, Published
from p2pfl.statements import Statement
from p2pfl.wire.observing import (
    CommandName,
    CommandResult,
    EventBatch,
    HeldBan,
    HistoryBatch,
    HistoryEnd,
    KnownNode,
    MembershipReport,
    MembershipRequest,
    NodeFrame,
    ObserverCommand,
    ObserverFrame,
    ObserverHeartbeat,
    ObserverRefusal,
    ObserverWelcome,
    StatementOrder,
    WatchRequest,
    batches,
    decode_node,
    decode_observer,
    encode,
)
from tests.support.any_events import any_event
from tests.support.recordings import finished, rows_of

STREAM = "0a" * 16
OBSERVERS: list[ObserverFrame] = [
    WatchRequest(1, "0.1", "5e" * 32, True, STREAM, 7),
    ObserverCommand(3, "stop-now"),
    MembershipRequest(4),
    StatementOrder(5, Statement("ban", "a" * 52, "ada", 5, 0, "why", b"certificate", b"signature")),
]
NODES: list[NodeFrame] = [
    ObserverWelcome(
        1, "0.1", "ada", "a" * 52, "lab", "eve (operator)", "operator", ("pause",), STREAM, False
    ),
    HistoryBatch(tuple(rows_of(finished()))),
    EventBatch(tuple(finished())),
    HistoryEnd(7),
    CommandResult(3, "", "done"),
    MembershipReport(
        4,
        (KnownNode("a" * 52, "ada", 3, True),),
        {"b" * 52: 5},
        (HeldBan("b" * 52, "ben", "desk (operator)", "why", 1.5),),
        7,
        ("c" * 52,),
    ),
    ObserverRefusal("no"),
    ObserverHeartbeat(),
]


def kind(frame: object) -> str:
    return type(frame).__name__


@pytest.mark.parametrize("frame", OBSERVERS, ids=kind)
def test_what_an_observer_says_comes_back_equal(frame: ObserverFrame) -> None:
    assert decode_observer(encode(frame)) == frame


@pytest.mark.parametrize("frame", NODES, ids=kind)
def test_what_a_node_says_comes_back_equal(frame: NodeFrame) -> None:
    assert decode_node(encode(frame)) == frame


def test_every_frame_has_an_example() -> None:
    assert {type(frame) for frame in OBSERVERS} == set(get_args(ObserverFrame))
    assert {type(frame) for frame in NODES} == set(get_args(NodeFrame))


@given(any_event)
def test_every_event_comes_back_equal(event: Any) -> None:
    frame = EventBatch((Published(1, 2.0, event),))
    assert decode_node(encode(frame)) == frame


@pytest.mark.parametrize("what", get_args(CommandName))
def test_every_command_is_understood(what: CommandName) -> None:
    assert decode_observer(encode(ObserverCommand(1, what))) == ObserverCommand(1, what)


@pytest.mark.parametrize("frame", NODES, ids=kind)
def test_an_observer_cannot_speak_for_a_node(frame: NodeFrame) -> None:
    with pytest.raises(ProtocolError, match="cannot be understood"):
        decode_observer(encode(frame))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 0},
        {"version": "1"},
        {"software": ""},
        {"software": "x" * 65},
        {"token": "x" * 65},
        {"token": None},
        {"follow": 1},
        {"stream": "0a"},
        {"stream": "G" * 32},
        {"stream": "0a" * 16 + "\n"},
        {"after": -1},
        {"after": 2**60},
        {"more": 1},
    ],
)
def test_a_watch_out_of_bounds_is_refused(changes: dict[str, object]) -> None:
    fields = msgspec.msgpack.decode(encode(OBSERVERS[0])) | changes
    with pytest.raises(ProtocolError):
        decode_observer(msgspec.msgpack.encode(fields))


@pytest.mark.parametrize("changes", [{"what": "format disk"}, {"number": -1}, {"number": 2**40}])
def test_an_order_out_of_bounds_is_refused(changes: dict[str, object]) -> None:
    fields = msgspec.msgpack.decode(encode(OBSERVERS[1])) | changes
    with pytest.raises(ProtocolError):
        decode_observer(msgspec.msgpack.encode(fields))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_a_protocol_error(body: bytes) -> None:
    for decode in (decode_observer, decode_node):
        said = ""
        try:
            decode(body)
        except ProtocolError as error:
            said = str(error)
        assert len(said) < 300


# --- batches ------------------------------------------------------------------------------------------------


def notes(*lengths: int) -> list[Published]:
    return [Published(number, 0.0, Notice("info", "x" * length)) for number, length in enumerate(lengths)]


def test_nothing_makes_no_batch() -> None:
    assert list(batches(notes())) == []


@given(st.lists(st.integers(0, 300), max_size=30))
def test_batches_hold_everything_in_order_and_keep_to_their_size(lengths: list[int]) -> None:
    items = notes(*lengths)
    found = list(batches(items, 500))
    assert [item for batch in found for item in batch] == items
    for batch in found:
        assert len(batch) == 1 or sum(len(msgspec.msgpack.encode(item)) for item in batch) <= 500


def test_what_is_longer_than_a_batch_goes_alone() -> None:
    items = notes(10, 1000, 10)
    assert [len(batch) for batch in batches(items, 200)] == [1, 1, 1]
