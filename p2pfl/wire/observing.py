"""What an observer and a node say to each other, on connections of a kind of their own.

An observer is a program of a person: a screen, `p2pfl watch`, a command. It follows what a node tells
(`p2pfl.events`) and may give commands, as far as the node lets it. A connection goes

    observer   WATCH ->                      who asks, from where on, or only to give commands
    node                 <- GREETING         who the node is, what the observer may do; or REFUSAL
    node                 <- HISTORY, HAPPENED, ... CAUGHT_UP    what lies behind, and that this was all of it
    node                 <- HAPPENED ...     what happens, as it happens
    observer   ORDER ->                      a command, at any time
    node                 <- ANSWER           done, or why not

Frames are those of control connections: 4 bytes of length and a MessagePack body. The node checks every
frame of an observer; an observer trusts its node as far as types go and no further: names in events are
other devices' words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from p2pfl.events import Published, RoundRow
from p2pfl.messages import Struct
from p2pfl.wire.codec import understood

OBSERVING_VERSION = 2
"""Of these frames and of the events in them. Another one is refused with a sentence that names both."""

MAX_BATCH_BYTES = 256 * 1024
"""About, of the events or rounds put into one frame: a control frame has at most 1 MiB."""

Item = TypeVar("Item", Published, RoundRow)

Token = Annotated[str, Meta(max_length=64)]

Stream = Annotated[str, Meta(pattern=r"^([0-9a-f]{32})?\Z")]
"""Names one process of a node: sequence numbers belong to it."""

CommandName = Literal["start", "pause", "resume", "stop", "stop-now", "save", "leave"]
"""Commands. "start" ends the node's `--wait`; "pause", "resume", "stop" (after the open round) and "stop-now"
(with the updates there are) are wishes to the whole federation; "save" copies the last committed model into
the node's data directory; "leave" makes this one node leave politely."""


class WatchRequest(Struct, frozen=True, tag="watch"):
    """The observer's first frame."""

    version: Annotated[int, Meta(ge=1, le=2**16)]
    software: Annotated[str, Meta(min_length=1, max_length=64)]
    token: Token
    """What the node wrote into its data directory: who can read it there is the local user. May be empty."""
    follow: bool
    """False: nothing is to be sent but answers to commands."""
    stream: Stream
    """The stream it saw before; empty for none."""
    after: Annotated[int, Meta(ge=0, le=2**53)]
    """The last number it saw of that stream: the node goes on behind it where it still can."""


class ObserverCommand(Struct, frozen=True, tag="order"):
    """A command."""

    number: Annotated[int, Meta(ge=0, le=2**31)]
    """Chosen by the observer; comes back in the answer."""
    what: CommandName


class ObserverWelcome(msgspec.Struct, frozen=True, tag="greeting"):
    """The node's first frame."""

    version: int
    software: str
    name: str
    node: str
    federation: str
    who: str
    """The observer, as the node knows and logs it."""
    role: Literal["local", "operator", "observer"]
    may: tuple[CommandName, ...]
    """What it may command, whatever the moment: "start" is only there where a node has `--wait`."""
    stream: str
    resumed: bool
    """Whether what follows goes on where the observer stopped. Otherwise it is told everything anew."""


class HistoryBatch(msgspec.Struct, frozen=True, tag="history"):
    """Committed rounds that lie behind, in order, from the node's journal."""

    rounds: tuple[RoundRow, ...]


class EventBatch(msgspec.Struct, frozen=True, tag="happened"):
    """Events in order. Of those told anew some are missing: what later ones made void."""

    events: tuple[Published, ...]


class HistoryEnd(msgspec.Struct, frozen=True, tag="caught_up"):
    """All that lies behind was sent."""

    seq: int
    """The number of the last event of this process so far."""


class CommandResult(msgspec.Struct, frozen=True, tag="answer"):
    """What came of a command."""

    number: int
    refused: str
    """Why it was not done; empty when it was."""
    text: str
    """What it did, in half a sentence; empty where it was not done."""


class ObserverRefusal(msgspec.Struct, frozen=True, tag="denial"):
    """The node refuses the observer, or drops it, and closes; the reason is for people."""

    reason: str


class ObserverHeartbeat(msgspec.Struct, frozen=True, tag="beat"):
    """Sent when nothing else was for a second: the node lives."""


ObserverFrame = WatchRequest | ObserverCommand
"""What an observer may send."""

NodeFrame = (
    ObserverWelcome
    | HistoryBatch
    | EventBatch
    | HistoryEnd
    | CommandResult
    | ObserverRefusal
    | ObserverHeartbeat
)
"""What a node may send to an observer."""

_encoder = msgspec.msgpack.Encoder()
_of_observer: msgspec.msgpack.Decoder[ObserverFrame] = msgspec.msgpack.Decoder(ObserverFrame)
_of_node: msgspec.msgpack.Decoder[NodeFrame] = msgspec.msgpack.Decoder(NodeFrame)


def encode(frame: ObserverFrame | NodeFrame) -> bytes:
    """Return the body of *frame*."""
    return _encoder.encode(frame)


def decode_observer(body: bytes) -> ObserverFrame:
    """Return what an observer says.

    Raises:
        ProtocolError: it is not MessagePack, or no frame of an observer.
    """
    return understood(_of_observer, body)


def decode_node(body: bytes) -> NodeFrame:
    """Return what a node says.

    Raises:
        ProtocolError: it is not MessagePack, or no frame of a node to an observer.
    """
    return understood(_of_node, body)


def batches(items: Iterable[Item], max_bytes: int = MAX_BATCH_BYTES) -> Iterator[tuple[Item, ...]]:
    """Cut *items* into runs whose encodings take about *max_bytes*; one item alone may take more."""
    batch: list[Item] = []
    room = max_bytes
    for item in items:
        size = len(_encoder.encode(item))
        if batch and size > room:
            yield tuple(batch)
            batch, room = [], max_bytes
        batch.append(item)
        room -= size
    if batch:
        yield tuple(batch)
