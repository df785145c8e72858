"""Reads the file that a node writes with `--events`, also while the node is writing it.

This is the counterpart of `publish.EventFile`, for programs that watch a node from another process. The file
has all events, and it remains when the node is killed.
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
"""Maximum size of one read. A program that starts late in a long run needs several reads."""


class _Envelope(msgspec.Struct, frozen=True):
    """The fields that `as_json` adds to those of an event."""

    seq: int
    time: float
    training_round: int | None = None


_envelopes = msgspec.json.Decoder(_Envelope)
_events: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


def parse_line(line: bytes) -> Published:
    """Return the event on one *line* of an events file.

    Raises:
        msgspec.DecodeError: it is not an event, or one that this version does not know.
    """
    envelope = _envelopes.decode(line)
    return Published(envelope.seq, envelope.time, _events.decode(line), envelope.training_round)


class EventFollower:
    """Reads the events of a file in order, each once, as they are written."""

    def __init__(self, path: Path, *, skip: bool = False) -> None:
        """Follow the file *path*, which need not exist yet; with *skip* from its present end."""
        self._path = path
        self._offset, self._inode = 0, 0
        """The position after the last read, and the inode of its file, since the node rotates long files."""
        if skip and path.exists():
            self._offset, self._inode = path.stat().st_size, path.stat().st_ino
        self._rest = b""

    def read(self) -> list[Published]:
        """Return the events written since the last call; an incomplete line is read by a later call.

        An invalid line is skipped and logged: a node that was killed while it wrote leaves an incomplete
        line.
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
        """Return the bytes after the last read; first those of the old file if the file was rotated."""
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
