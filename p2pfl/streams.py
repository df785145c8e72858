"""Standard output and standard error as this program writes them.

`mend` puts an `Outlet` under both, so every way of printing (Typer, rich, logging, `Console`) passes here:

- A character that the stream's encoding lacks becomes an ASCII one, or an escape; it never raises.
- A closed standard stream becomes the null device, so that no file of ours gets its number.
- A stream that refuses to be written to (reader gone, terminal closed, disk full) is lost. A command that
  only prints ends then, see `OutputLost`. A node goes on: after `go_on` a lost stream is noted once in the
  log, and a reader that does not read never holds the node up.
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
"""How long a node waits for a slow reader, once: then it counts as stalled until it reads again."""

DRAIN_SECONDS = 2.0
"""How long a node that ends waits for a slow reader to take the rest."""

MAX_HELD_BYTES = 64 * 1024
"""What a node keeps for a stalled reader: some hundred lines. Later output is left out."""

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
"""ASCII for the symbols this program prints; other characters are escaped."""


class OutputLost(Exception):  # noqa: N818 - says what happened
    """Standard output cannot be written to any more; the command has nobody left to print for."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror or str(error))
        self.is_reader_gone = error.errno in (errno.EPIPE, errno.EIO)
        """Whether the reader went away, which is no fault: `p2pfl history | head`."""


class Outlet(io.RawIOBase):
    """The raw side of a standard stream."""

    def __init__(self, descriptor: int, name: str, *, must_go_on: bool) -> None:
        """Write to *descriptor*; with *must_go_on* nothing that happens to it raises."""
        self._descriptor = descriptor
        self._name = name
        self._must_go_on = must_go_on
        self._is_lost = False
        self._never_waits = False
        """Whether output is held back for a reader that does not read."""
        self._held = bytearray()
        self._is_stalled = False
        self._left_out = 0

    def go_on(self) -> None:
        """From now on lose output rather than time or the program."""
        self._must_go_on = True
        # Windows selects on sockets only: there a reader that does not read holds the node up.
        self._never_waits = sys.platform != "win32"
        if self._never_waits and self.isatty():
            # A terminal that is held (Ctrl-S, a sleeping ssh client) says that it is writable while it has
            # room for one byte. Non-blocking mode belongs to an open file, which the shell shares: open anew.
            try:
                flags = os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK
                self._descriptor = os.open(os.ttyname(self._descriptor), flags)
            except OSError:
                return

    def writable(self) -> bool:
        """Return true: that is what it is for."""
        return True

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer
        """Write all of *data*, or as much as this stream takes without harm; return the length of *data*.

        Raises:
            OutputLost: it cannot be written to, and nobody said that the program must go on.
        """
        length = len(data)
        if self._is_lost:
            return length
        try:
            if self._never_waits:
                self._held += data
                self._pass_on(0.0 if self._is_stalled else PATIENCE_SECONDS)
            else:
                self._write_all(bytes(data))
        except OSError as error:
            self._lose(error)
        return length

    def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Wait at most *seconds* until the reader has what was held back."""
        deadline = time.monotonic() + seconds
        try:
            while self._held and not self._is_lost and (left := deadline - time.monotonic()) > 0:
                self._pass_on(left)
        except OSError as error:
            self._lose(error)

    def _write_all(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # somebody else made the terminal non-blocking
                select.select([], [self._descriptor], [])

    def _pass_on(self, patience: float) -> None:
        """Write what is held while the reader takes it, waiting at most *patience* seconds for it once."""
        while self._held:
            if not select.select([], [self._descriptor], [], patience)[1]:
                break
            try:
                del self._held[: os.write(self._descriptor, self._held[: select.PIPE_BUF])]
            except BlockingIOError:
                break
        is_stalled = bool(self._held)
        if is_stalled and not self._is_stalled:
            logger.info("%s is not read: what is printed waits, and is left out beyond a limit", self._name)
        self._is_stalled = is_stalled
        if len(self._held) > MAX_HELD_BYTES:
            self._left_out += len(self._held) - MAX_HELD_BYTES
            del self._held[MAX_HELD_BYTES:]
        elif self._left_out and not is_stalled:
            self._held += b"\n(%d bytes were left out here: nobody read them)\n" % self._left_out
            self._left_out = 0

    def _lose(self, error: OSError) -> None:
        """Stop writing.

        Raises:
            OutputLost: nobody said that the program must go on.
        """
        self._is_lost = True
        self._held.clear()
        if not self._must_go_on:
            raise OutputLost(error) from error
        logger.warning(
            "%s cannot be written to any more (%s): nothing is printed there from now on",
            self._name,
            error.strerror or error,
        )


def replace_lacking(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return ASCII for the characters that an encoding lacks, as an error handler of `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    parts = []
    for index in range(error.start, error.end):
        twin = TWINS.get(error.object[index])
        one = UnicodeEncodeError(error.encoding, error.object, index, index + 1, error.reason)
        parts.append(str(codecs.backslashreplace_errors(one)[0]) if twin is None else twin)
    return "".join(parts), error.end


def mend() -> None:
    """Put an outlet under standard output and standard error, and the null device where one is closed.

    Streams that are not this process's own (a test's) are left as they are.
    """
    codecs.register_error(ERRORS, replace_lacking)
    for descriptor in range(3):
        _fill(descriptor)
    sys.stdout = _mended(sys.stdout, sys.__stdout__, 1, "standard output", must_go_on=False)
    sys.stderr = _mended(sys.stderr, sys.__stderr__, 2, "standard error", must_go_on=True)
    if _is_mended(sys.stderr):
        # Textual draws on this one in a thread: a lost terminal would end it, and Textual waits for it.
        sys.__stderr__ = sys.stderr  # type: ignore[misc]
    if sys.stdin is None:  # so it is where the descriptor was closed
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123


def go_on() -> None:
    """Say that this process is a node: from now on no standard stream may end it or hold it up."""
    for outlet in _outlets():
        outlet.go_on()


def drain() -> None:
    """Flush both streams, and give a slow reader a moment.

    Raises:
        OutputLost: standard output cannot be written to, in a command that only prints.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for outlet in _outlets():
        outlet.drain()


def holds(stream: io.TextIOBase | object, text: str) -> bool:
    """Return whether *stream* can show all characters of *text*."""
    encoding = getattr(stream, "encoding", None) or "ascii"
    try:
        text.encode(encoding)
    except (UnicodeError, LookupError):
        return False
    return True


def _fill(descriptor: int) -> None:
    """Open the null device as *descriptor* if that is closed."""
    try:
        os.fstat(descriptor)
    except OSError:
        # The lowest free number is the one asked for: lower ones are filled already.
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)


def _mended(stream, own, descriptor: int, name: str, *, must_go_on: bool):  # type: ignore[no-untyped-def]
    """Return *stream* with an outlet for *descriptor* under it; a stream that is not *own* as it is."""
    if stream is not own:
        return stream
    if sys.platform == "win32" and stream is not None:
        stream.reconfigure(errors=ERRORS)  # its console takes any character, but only from its own raw side
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
    """An ASCII stream that calls itself Latin-1: Typer takes ASCII for a mistake and would write UTF-8."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Return a name that Typer believes."""
        return "iso-8859-1"


def _outlets() -> list[Outlet]:
    """Return the outlets under the standard streams."""
    raws = [_raw(stream) for stream in (sys.stdout, sys.stderr)]
    return [raw for raw in raws if isinstance(raw, Outlet)]


def _is_mended(stream: object) -> bool:
    return isinstance(_raw(stream), Outlet)


def _raw(stream: object) -> object:
    return getattr(getattr(stream, "buffer", None), "raw", None)
