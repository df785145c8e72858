"""The frames between an observer and a node, on connections of their own kind.

An observer is a program that a person uses: a screen, `p2pfl watch`, a command. It follows the events of a
node (`p2pfl.events`) and may send commands, as far as the node allows it. On a connection are sent

    observer   WATCH ->                      who asks, and from which event on; or that only commands follow
    node                 <- GREETING         who the node is, and the observer's rights; or DENIAL
    node                 <- HISTORY, HAPPENED, ... CAUGHT_UP    the past, and its end
    node                 <- HAPPENED ...     new events
    observer   ORDER ->                      a command, at any time
    node                 <- ANSWER           the command is done, or why not

Frames are encoded like those of control connections: 4 bytes of length and a MessagePack body. The node
checks every frame of an observer. The observer checks types only, and treats names in events as text of other
devices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from p2pfl.events import Published, RoundRow
from p2pfl.messages import Struct
from p2pfl.statements import Statement
from p2pfl.wire.codec import understood

OBSERVING_VERSION = 2
"""Version of these frames and of the events in them. Another version is refused with a message that names
both."""

MAX_BATCH_BYTES = 256 * 1024
"""Approximate size of the events or rounds in one frame; a control frame has at most 1 MiB."""

Item = TypeVar("Item", Published, RoundRow)

Token = Annotated[str, Meta(max_length=64)]

Stream = Annotated[str, Meta(pattern=r"^([0-9a-f]{32})?\Z")]
"""Identifier of a node's process: sequence numbers are counted in one process."""

CommandName = Literal["start", "pause", "resume", "stop", "stop-now", "save", "leave"]
"""Names of commands. "start" starts a run with the node's options. "pause", "resume", "stop" (after the open
round) and "stop-now" (with the updates that are here) are control requests to the whole federation. "save"
copies the last committed model into the node's data directory. "leave" makes this node leave politely."""


class WatchRequest(Struct, frozen=True, tag="watch"):
    """The observer's first frame."""

    version: Annotated[int, Meta(ge=1, le=2**16)]
    software: Annotated[str, Meta(min_length=1, max_length=64)]
    token: Token
    """Secret in the node's data directory: only the local user can read it. Empty for other users."""
    follow: bool
    """Whether events are wanted; if not, the node sends only results of commands."""
    stream: Stream
    """The stream that the observer followed before; empty for none."""
    after: Annotated[int, Meta(ge=0, le=2**53)]
    """The last sequence number it saw in that stream; the node continues behind it where it can."""


class ObserverCommand(Struct, frozen=True, tag="order"):
    """A command."""

    number: Annotated[int, Meta(ge=0, le=2**31)]
    """Chosen by the observer; repeated in the result."""
    what: CommandName


MAX_BANS = 256
"""Maximum number of bans in one report: the size of the largest roster."""


class MembershipRequest(Struct, frozen=True, tag="members"):
    """Asks which nodes the node knows, and who is kept out of the federation."""

    number: Annotated[int, Meta(ge=0, le=2**31)]
    """As in `ObserverCommand`."""


class StatementOrder(Struct, frozen=True, tag="statement"):
    """Hands a signed statement about a node to the federation. Answered as a command."""

    number: Annotated[int, Meta(ge=0, le=2**31)]
    statement: Statement


class ObserverWelcome(msgspec.Struct, frozen=True, tag="greeting"):
    """The node's first frame."""

    version: int
    software: str
    name: str
    node: str
    federation: str
    who: str
    """The observer's name, as the node logs it."""
    role: Literal["local", "operator", "observer"]
    may: tuple[CommandName, ...]
    """Commands that the observer may send at some time; "start" only before a run."""
    stream: str
    resumed: bool
    """Whether the node continues where the observer stopped; otherwise it sends everything again."""


class HistoryBatch(msgspec.Struct, frozen=True, tag="history"):
    """Earlier committed rounds from the node's journal, in order."""

    rounds: tuple[RoundRow, ...]


class EventBatch(msgspec.Struct, frozen=True, tag="happened"):
    """Events in order. Events that are sent again leave out those that later events replace."""

    events: tuple[Published, ...]


class HistoryEnd(msgspec.Struct, frozen=True, tag="caught_up"):
    """End of the past: everything after this frame is new."""

    seq: int
    """Sequence number of this process's last event so far."""


class CommandResult(msgspec.Struct, frozen=True, tag="answer"):
    """The result of a command."""

    number: int
    refused: str
    """Why the command was refused; empty when it was done."""
    text: str
    """What the command did, in half a sentence; empty when it was refused."""


class KnownNode(msgspec.Struct, frozen=True, array_like=True):
    """A node that the observed node is linked to, or a member of its run."""

    node: str
    name: str
    incarnation: int
    """Its last start that the observed node knows of; 0 for none."""
    is_member: bool


class HeldBan(msgspec.Struct, frozen=True, array_like=True):
    """A ban that holds."""

    node: str
    name: str
    by: str
    reason: str
    at: float
    """In seconds since the epoch, by the clock of its signer."""


class MembershipReport(msgspec.Struct, frozen=True, tag="membership"):
    """The answer to `MembershipRequest`."""

    number: int
    nodes: tuple[KnownNode, ...]
    numbers: dict[str, int]
    """By node id: the highest number of a statement about it. A new one needs a higher number."""
    bans: tuple[HeldBan, ...]
    """Those that hold, the newest first; as many as `MAX_BANS`."""
    revocations: int
    """The number of the revocation list; 0 for none."""
    revoked: tuple[str, ...]
    """Ids of revoked keys."""


class ObserverRefusal(msgspec.Struct, frozen=True, tag="denial"):
    """The node refuses or drops the observer, and closes the connection; the reason is for people."""

    reason: str


class ObserverHeartbeat(msgspec.Struct, frozen=True, tag="beat"):
    """Sent after a second without other frames, to show that the node lives."""


ObserverFrame = WatchRequest | ObserverCommand | MembershipRequest | StatementOrder
"""All frames of an observer."""

NodeFrame = (
    ObserverWelcome
    | HistoryBatch
    | EventBatch
    | HistoryEnd
    | CommandResult
    | MembershipReport
    | ObserverRefusal
    | ObserverHeartbeat
)
"""All frames of a node to an observer."""

_encoder = msgspec.msgpack.Encoder()
_of_observer: msgspec.msgpack.Decoder[ObserverFrame] = msgspec.msgpack.Decoder(ObserverFrame)
_of_node: msgspec.msgpack.Decoder[NodeFrame] = msgspec.msgpack.Decoder(NodeFrame)


def encode(frame: ObserverFrame | NodeFrame) -> bytes:
    """Return the body of *frame*."""
    return _encoder.encode(frame)


def decode_observer(body: bytes) -> ObserverFrame:
    """Return the frame of an observer in *body*.

    Raises:
        ProtocolError: it is not MessagePack, or no frame of an observer.
    """
    return understood(_of_observer, body)


def decode_node(body: bytes) -> NodeFrame:
    """Return the frame of a node in *body*.

    Raises:
        ProtocolError: it is not MessagePack, or no frame of a node to an observer.
    """
    return understood(_of_node, body)


def batches(items: Iterable[Item], max_bytes: int = MAX_BATCH_BYTES) -> Iterator[tuple[Item, ...]]:
    """Split *items* into batches of about *max_bytes*, encoded; a single item may be longer."""
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
