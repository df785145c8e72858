"""Publishes events: numbers and dates them and passes them to every sink in order."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import stat
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import msgspec

from p2pfl.errors import UserError
from p2pfl.events import AnyEvent, Ended, Published
from p2pfl.numbering import Numbering

logger = logging.getLogger(__name__)

MAX_EVENTS_BYTES = 64 * 1024 * 1024
"""Size at which the events file is rotated; one earlier file is kept. A round of five members takes 20 to
100 KB, so the files hold some thousand rounds."""

PATIENCE_SECONDS = 1.0
"""Time to wait for the reader of an events file that is a pipe; then the file is closed."""

Sink = Callable[[Published], None]
"""Takes each event; called in the event loop, so it must return quickly."""


class Publisher:
    """Numbers and dates events and passes them to its sinks."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sinks: list[Sink] = []
        self._faulty: list[Sink] = []
        """Sinks whose failure has been logged."""
        self._seq = 0
        self._numbering = Numbering()
        self._is_over = False

    def add(self, sink: Sink) -> None:
        """Pass every later event to *sink*."""
        self._sinks.append(sink)

    def publish(self, event: AnyEvent) -> None:
        """Pass *event* to every sink; a sink that fails affects neither the others nor the caller.

        `Ended` is the last event: the links that end while the node closes are no news.
        """
        if self._is_over:
            return
        self._is_over = isinstance(event, Ended)
        self._seq += 1
        published = Published(self._seq, self._clock(), event, self._numbering.take(event))
        for sink in self._sinks:
            try:
                sink(published)
            except Exception as error:
                if sink not in self._faulty:
                    self._faulty.append(sink)
                    logger.error(
                        "an event could not be processed (%r); the node continues", event, exc_info=error
                    )


def as_json(published: Published) -> bytes:
    """Return one flat object: `seq`, `time`, `training_round` if any, `event` (its kind), then its fields."""
    event, number = msgspec.json.encode(published.event), published.training_round
    about = b"" if number is None else b'"training_round":%d,' % number
    time = msgspec.json.encode(published.time)
    return b'{"seq":%d,"time":%s,%s%s' % (published.seq, time, about, event[1:])


def earlier_file(path: Path) -> Path:
    """Return the path that the events file *path* is renamed to when it is rotated."""
    return path.with_name(f"{path.name}.1")


class EventFile:
    """Writes every event as a line of JSON, flushed at once so that a reader can follow.

    Its size is bounded, see `MAX_EVENTS_BYTES`.
    """

    def __init__(self, path: str, max_bytes: int = MAX_EVENTS_BYTES) -> None:
        """Open *path* for appending.

        Raises:
            UserError: it cannot be written.
        """
        self._path = path
        self._max_bytes = max_bytes
        self._room: int | None = None
        """Bytes until the file is rotated; None if it is no regular file."""
        self._file: FileIO | None
        try:
            self._file = self._open()
        except OSError as error:
            raise UserError(
                f"The events file {path} cannot be written: {error.strerror}. Choose another --events."
            ) from error

    def _open(self) -> FileIO:
        # Unbuffered, so that each line is visible at once, and without waiting for the reader of a pipe.
        flags = os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        try:
            descriptor = os.open(self._path, os.O_WRONLY | flags, 0o666)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            descriptor = os.open(self._path, os.O_RDWR | flags)  # a named pipe without a reader yet
        file = FileIO(descriptor, "ab")
        status = os.fstat(file.fileno())
        self._room = self._max_bytes - status.st_size if stat.S_ISREG(status.st_mode) else None
        return file

    def write(self, published: Published) -> None:
        """Write one event; if the disk is full the file is closed and the node continues."""
        if self._file is None:
            return
        try:
            line = as_json(published) + b"\n"
            written = 0
            while written < len(line):
                count = self._file.write(line[written:])
                if count is None and not select.select([], [self._file], [], PATIENCE_SECONDS)[1]:
                    raise TimeoutError(errno.ETIMEDOUT, f"nobody reads it for {PATIENCE_SECONDS:g} s")
                written += count or 0
            if self._room is not None:
                self._room -= len(line)
            if self._room is not None and self._room <= 0:
                self._file.close()
                Path(self._path).replace(earlier_file(Path(self._path)))
                self._file = self._open()
        except OSError as error:
            logger.warning("the events file %s cannot be written any more: %s", self._path, error)
            self.close()

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # the failure has been logged
                file.close()
