"""Reads the file a node writes with `--events`, also while the node is writing it.

The counterpart of `publish.EventFile`, for programs that watch a node from outside: they learn all that its
own terminal does, and a node that dies takes none of it along.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

import msgspec

from p2pfl.events import AnyEvent, Published
from p2pfl.runtime.observing.publish import earlier_file

logger = logging.getLogger(__name__)

READ_BYTES = 1024 * 1024
"""Taken at a time: a watcher that comes late to a long run reads on at the next look."""


class _Envelope(msgspec.Struct, frozen=True):
    """What `as_json` adds to an event's own fields."""

    seq: int
    time: float
    training_round: int | None = None


_envelopes = msgspec.json.Decoder(_Envelope)
_events: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


def parse_line(line: bytes) -> Published:
    """Return the event on one *line* of an events file.

    Raises:
        msgspec.DecodeError: it is none, or one this version does not know.
    """
    envelope = _envelopes.decode(line)
    return Published(envelope.seq, envelope.time, _events.decode(line), envelope.training_round)


class EventFollower:
    """Gives the events of a file in order, each once, as they are written."""

    def __init__(self, path: Path, *, skip: bool = False) -> None:
        """Follow the file at *path*, which need not exist yet; with *skip* only what comes from now on."""
        self._path = path
        self._offset, self._inode = 0, 0
        """How far the file was read, and which one it was: its node turns long files over."""
        if skip and path.exists():
            self._offset, self._inode = path.stat().st_size, path.stat().st_ino
        self._rest = b""

    def read(self) -> list[Published]:
        """Return the events written since the last call; a line still being written waits for the next one.

        A line that cannot be read is left out: a process that was killed while it wrote leaves half a one.
        """
        *lines, self._rest = (self._rest + self._next_piece()).split(b"\n")
        published = []
        for line in lines:
            try:
                published.append(parse_line(line))
            except msgspec.DecodeError as error:
                logger.warning("a line of the events file %s cannot be read: %s", self._path, error)
        return published

    def _next_piece(self) -> bytes:
        """Return what follows the last piece, at first from the file that was turned over meanwhile."""
        earlier = earlier_file(self._path)
        for path in (earlier, self._path):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                if path == earlier and inode != self._inode:
                    continue
                if inode != self._inode:
                    self._offset, self._inode = 0, inode
                file.seek(self._offset)
                if piece := file.read(READ_BYTES):
                    self._offset += len(piece)
                    return piece
        return b""
