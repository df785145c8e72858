"""Makes standard output and standard error safe to write to, whatever their encoding and reader.

`install_outlets` puts an `Outlet` under both streams, so that it handles all output (Typer, rich, logging,
`Console`):

- A character that the stream's encoding lacks is replaced by an ASCII character or an escape sequence.
- A closed standard stream is replaced by the null device, so that no opened file gets its descriptor.
- After a write error (closed pipe, closed terminal, full disk) the stream is not used any more. A command
  that only prints ends then, see `OutputLost`. A node continues: after `go_on`, the error is logged once, and
  a reader that does not read never blocks the node.
"""

from __future__ import annotations

import codecs
import errno
import io
import logging
import os
import select
import sys
import time
from typing import cast

logger = logging.getLogger(__name__)

ERRORS = "p2pfl.ascii"
"""The name of the error handler for characters that an encoding lacks."""

PATIENCE_SECONDS = 0.1
"""Time that a node waits for a slow reader. Then the reader counts as stalled, and the node does not wait
until the reader reads again."""

DRAIN_SECONDS = 2.0
"""Time that an ending node waits for a slow reader to read the rest."""

MAX_BUFFERED_BYTES = 64 * 1024
"""Maximum output buffered for a stalled reader: some hundred lines. Later output is dropped."""

TWINS = {
    **dict(zip("▁▂▃▄▅▆▇█", "_.:-=+*#", strict=True)),
    "✓": "+",
    "✗": "x",
    "★": "*",
    "◎": "o",
    "·": ".",
    "░": ".",
    "─": "-",
    "━": "-",
    "→": "->",
    "…": "...",
    "×": "x",
    "–": "-",
}
"""ASCII replacements of the symbols that this program prints; other characters are escaped."""


class OutputLost(Exception):  # noqa: N818 - the name says what happened
    """Standard output cannot be written to any more, so the command ends."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror or str(error))
        self.is_reader_gone = error.errno in (errno.EPIPE, errno.EIO)
        """Whether the reader closed the stream, which is no failure: `p2pfl history | head`."""


class Outlet(io.RawIOBase):
    """The raw stream under a standard stream."""

    def __init__(self, descriptor: int, name: str, *, must_go_on: bool) -> None:
        """Write to *descriptor*; with *must_go_on* write errors are logged instead of raised."""
        self._descriptor = descriptor
        self._name = name
        self._must_go_on = must_go_on
        self._is_lost = False
        self._never_waits = False
        """Whether output is buffered for a reader that does not read."""
        self._buffered = bytearray()
        self._is_stalled = False
        self._dropped = 0

    def go_on(self) -> None:
        """From now on drop output instead of blocking or raising."""
        self._must_go_on = True
        # On Windows, select supports only sockets, so a reader that does not read blocks the node there.
        self._never_waits = sys.platform != "win32"
        if self._never_waits and self.isatty():
            # A stopped terminal (Ctrl-S, a sleeping ssh client) is writable as long as it has room for one
            # byte, so writes must not block. The shell shares the open file and with it its non-blocking
            # mode, so the terminal is opened again.
            try:
                flags = os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK
                self._descriptor = os.open(os.ttyname(self._descriptor), flags)
            except OSError:
                return

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer
        """Write *data*, buffer it, or drop it if the stream is lost; return the length of *data*.

        Raises:
            OutputLost: a write error, without *must_go_on*.
        """
        length = len(data)
        if self._is_lost:
            return length
        try:
            if self._never_waits:
                self._buffered += data
                self._pass_on(0.0 if self._is_stalled else PATIENCE_SECONDS)
            else:
                self._write_all(bytes(data))
        except OSError as error:
            self._lose(error)
        return length

    def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Wait at most *seconds* until the buffered output is written."""
        deadline = time.monotonic() + seconds
        try:
            while self._buffered and not self._is_lost and (left := deadline - time.monotonic()) > 0:
                self._pass_on(left)
        except OSError as error:
            self._lose(error)

    def _write_all(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # another process made the terminal non-blocking
                select.select([], [self._descriptor], [])

    def _pass_on(self, patience: float) -> None:
        """Write buffered output; stop if the stream is not writable for *patience* seconds."""
        while self._buffered:
            if not select.select([], [self._descriptor], [], patience)[1]:
                break
            try:
                del self._buffered[: os.write(self._descriptor, self._buffered[: select.PIPE_BUF])]
            except BlockingIOError:
                break
        is_stalled = bool(self._buffered)
        if is_stalled and not self._is_stalled:
            logger.info("%s is not read: output is buffered, and dropped if the buffer is full", self._name)
        self._is_stalled = is_stalled
        if len(self._buffered) > MAX_BUFFERED_BYTES:
            self._dropped += len(self._buffered) - MAX_BUFFERED_BYTES
            del self._buffered[MAX_BUFFERED_BYTES:]
        elif self._dropped and not is_stalled:
            self._buffered += b"\n(%d bytes of output were dropped here: nobody read them)\n" % self._dropped
            self._dropped = 0

    def _lose(self, error: OSError) -> None:
        """Stop writing to the stream and log the error.

        Raises:
            OutputLost: without *must_go_on*.
        """
        self._is_lost = True
        self._buffered.clear()
        if not self._must_go_on:
            raise OutputLost(error) from error
        logger.warning(
            "%s cannot be written to any more (%s): later output is dropped",
            self._name,
            error.strerror or error,
        )


def replace_lacking(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return ASCII replacements of the characters that an encoding lacks: an error handler of `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    parts = []
    for index in range(error.start, error.end):
        twin = TWINS.get(error.object[index])
        one = UnicodeEncodeError(error.encoding, error.object, index, index + 1, error.reason)
        parts.append(str(codecs.backslashreplace_errors(one)[0]) if twin is None else twin)
    return "".join(parts), error.end


def install_outlets() -> None:
    """Put an outlet under standard output and standard error; open the null device for closed streams.

    Replaced streams, such as those of a test, are not changed.
    """
    codecs.register_error(ERRORS, replace_lacking)
    for descriptor in range(3):
        _fill(descriptor)
    sys.stdout = _with_outlet(sys.stdout, sys.__stdout__, 1, "standard output", must_go_on=False)
    sys.stderr = _with_outlet(sys.stderr, sys.__stderr__, 2, "standard error", must_go_on=True)
    if _has_outlet(sys.stderr):
        # Textual writes to this stream in a thread. A write error would end the thread, and Textual would
        # wait for it forever.
        sys.__stderr__ = sys.stderr  # type: ignore[misc]
    if sys.stdin is None:  # the descriptor was closed
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123


def go_on() -> None:
    """Make this process a node: from now on no standard stream ends or blocks it."""
    for outlet in _outlets():
        outlet.go_on()


def drain() -> None:
    """Flush both streams; wait up to `DRAIN_SECONDS` for a slow reader.

    Raises:
        OutputLost: standard output cannot be written to, in a command that only prints.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for outlet in _outlets():
        outlet.drain()


def can_encode(stream: io.TextIOBase | object, text: str) -> bool:
    """Return whether the encoding of *stream* has all characters of *text*."""
    encoding = getattr(stream, "encoding", None) or "ascii"
    try:
        text.encode(encoding)
    except (UnicodeError, LookupError):
        return False
    return True


def _fill(descriptor: int) -> None:
    """Open the null device as *descriptor* if *descriptor* is closed."""
    try:
        os.fstat(descriptor)
    except OSError:
        # The system assigns the lowest free number. This is *descriptor*, since all lower ones are open.
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)


def _with_outlet(stream, own, descriptor: int, name: str, *, must_go_on: bool):  # type: ignore[no-untyped-def]
    """Return *stream* with an outlet for *descriptor* under it; unchanged unless it is *own*."""
    if stream is not own:
        return stream
    if sys.platform == "win32" and stream is not None:
        stream.reconfigure(
            errors=ERRORS
        )  # the console shows all characters, but only through its own raw stream
        return stream
    encoding = "utf-8" if stream is None else stream.encoding
    outlet = Outlet(descriptor, name, must_go_on=must_go_on)
    text: type[io.TextIOWrapper] = _AsciiText if codecs.lookup(encoding).name == "ascii" else io.TextIOWrapper
    return text(
        io.BufferedWriter(cast("io.RawIOBase", outlet)),
        encoding=encoding,
        errors=ERRORS,
        line_buffering=outlet.isatty() or descriptor == 2,
    )


class _AsciiText(io.TextIOWrapper):
    """An ASCII stream whose encoding is named Latin-1: for ASCII, Typer assumes an error and writes UTF-8."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Return a name that Typer accepts."""
        return "iso-8859-1"


def _outlets() -> list[Outlet]:
    """Return the outlets under the standard streams."""
    raws = [_raw(stream) for stream in (sys.stdout, sys.stderr)]
    return [raw for raw in raws if isinstance(raw, Outlet)]


def _has_outlet(stream: object) -> bool:
    return isinstance(_raw(stream), Outlet)


def _raw(stream: object) -> object:
    return getattr(getattr(stream, "buffer", None), "raw", None)
