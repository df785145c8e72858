"""An observer without a network: it writes directly into the node's end of a connection."""

from __future__ import annotations

from typing import TypeVar

from p2pfl import __version__, events
from p2pfl.config import NetSettings
from p2pfl.wire.frames import FrameDecoder, encode_frame
from p2pfl.wire.observing import (
    OBSERVING_VERSION,
    CommandName,
    EventBatch,
    NodeFrame,
    ObserverCommand,
    ObserverFrame,
    WatchRequest,
    decode_node,
    encode,
)
from tests.support.transports import NearEnd

MAX_BYTES = NetSettings().max_frame_bytes

FrameT = TypeVar("FrameT")


def watch(
    *,
    token: str = "",
    follow: bool = True,
    stream: str = "",
    after: int = 0,
    version: int = OBSERVING_VERSION,
) -> WatchRequest:
    return WatchRequest(version, __version__, token, follow, stream, after)


class Watcher:
    """An observer; `stream` is the node's end of its connection."""

    def __init__(self) -> None:
        self._near = NearEnd(MAX_BYTES)
        self.stream = self._near.stream
        self.stop_reading = self._near.stop_reading
        self.read_on = self._near.read_on
        self.leave = self._near.receive_end
        self.abort = self._near.abort

    def say(self, *frames: ObserverFrame | bytes) -> None:
        """Send frames, or raw bytes."""
        for frame in frames:
            self._near.receive(frame if isinstance(frame, bytes) else encode_frame(encode(frame), MAX_BYTES))

    def order(self, what: CommandName, number: int = 1) -> None:
        self.say(ObserverCommand(number, what))

    @property
    def frames(self) -> list[NodeFrame]:
        """The frames that the node has sent so far."""
        return [decode_node(body) for body in FrameDecoder(MAX_BYTES).feed(self._near.written)]

    def all(self, kind: type[FrameT]) -> list[FrameT]:
        """Return the frames of *kind* that the node has sent so far."""
        return [frame for frame in self.frames if isinstance(frame, kind)]

    @property
    def told(self) -> list[events.Published]:
        """The events that the node has sent so far."""
        return [published for frame in self.all(EventBatch) for published in frame.events]

    @property
    def numbers(self) -> list[int]:
        return [published.seq for published in self.told]

    @property
    def is_closed(self) -> bool:
        """Whether the node has closed the connection."""
        return self._near.is_closed
