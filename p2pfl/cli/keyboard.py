"""Lines that a person types while other things happen: answers to questions, and the Enter key alone.

One reader serves all who ask, because a line belongs to one question. Only one question is open at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator

MAX_LINE_BYTES = 4096
"""A longer line is cut: nobody types one."""


class Keyboard:
    """Reads lines from a descriptor, by default standard input."""

    def __init__(self, on_enter: Callable[[], None] = lambda: None, descriptor: int = 0) -> None:
        """*on_enter* is called for a line that answers no question."""
        self._on_enter = on_enter
        self._descriptor = descriptor
        self._answer: asyncio.Future[str | None] | None = None
        self._buffer = b""
        self._has_ended = False

    async def ask(self) -> str | None:
        """Return the next line that is typed, without spaces around it; None if no more will come."""
        assert self._answer is None, "one question is open at a time"
        if self._has_ended:
            return None
        self._answer = asyncio.get_running_loop().create_future()
        try:
            return await self._answer
        finally:
            self._answer = None

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Read lines while the context lasts."""
        loop = asyncio.get_running_loop()
        try:
            loop.add_reader(self._descriptor, self._read)
        except (
            OSError,
            ValueError,
            NotImplementedError,
        ):  # a file, none at all, or Windows: wait in a thread
            threading.Thread(target=self._read_on, args=(loop,), name="keyboard", daemon=True).start()
            yield
            return
        try:
            yield
        finally:
            loop.remove_reader(self._descriptor)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, MAX_LINE_BYTES)
        except OSError:  # the terminal is closed
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._received(data)

    def _read_on(self, loop: asyncio.AbstractEventLoop) -> None:
        data = b"\n"
        while data:
            try:
                data = os.read(self._descriptor, MAX_LINE_BYTES)
            except OSError:
                data = b""
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody reads any more
                loop.call_soon_threadsafe(self._received, data)

    def _received(self, data: bytes) -> None:
        """Handle the next bytes; none means that no more will come."""
        if not data:
            self._has_ended = True
            self._give(None)
            return
        *lines, rest = (self._buffer + data).split(b"\n")
        self._buffer = rest[:MAX_LINE_BYTES]
        for line in lines:
            self._give(line.decode(errors="replace").strip())

    def _give(self, line: str | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(line)
        elif line is not None:
            self._on_enter()


def has_terminal() -> bool:
    """Whether a person can answer questions."""
    return sys.stdin.isatty()
