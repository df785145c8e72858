"""Run `p2pfl` on a pseudo-terminal, read its output and press keys."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Sequence

from tests.support.processes import PATIENCE_SECONDS, until
from tests.support.source import ROOT

READ_BYTES = 65536

COLOURS = re.compile(r"\x1b\[[\d;]*m")


class Terminal:
    """A `p2pfl` command on a terminal of 120x40."""

    def __init__(self, *words: str, inside: Sequence[str] = ()) -> None:
        """Run it; *inside* is a prefix that runs it elsewhere, such as in a namespace."""
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.before = termios.tcgetattr(self._master)
        self._shown = bytearray()
        self.process = subprocess.Popen(
            [*inside, sys.executable, "-P", "-m", "p2pfl", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"},
        )
        os.close(slave)
        asyncio.get_running_loop().add_reader(self._master, self._read)

    def _read(self) -> None:
        try:
            self._shown += os.read(self._master, READ_BYTES)
        except OSError:  # the other end is closed
            asyncio.get_running_loop().remove_reader(self._master)

    @property
    def text(self) -> str:
        """All output so far, without colours but with the cursor movements."""
        return COLOURS.sub("", self._shown.decode(errors="replace")).replace("\r\n", "\n")

    @property
    def is_restored(self) -> bool:
        """Whether the terminal has its original mode again: echo and line editing."""
        return bool(termios.tcgetattr(self._master)[3] == self.before[3])

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    async def until(self, words: str) -> None:
        """Wait until *words* are in the output."""
        try:
            await until(lambda: words in self.text, words)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text[-4000:]}") from error

    async def exit_code(self, patience: float = PATIENCE_SECONDS) -> int:
        await until(lambda: self.process.poll() is not None, "its end", patience=patience)
        assert self.process.returncode is not None
        return self.process.returncode

    def end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._master)
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@contextlib.asynccontextmanager
async def terminal(*words: str, inside: Sequence[str] = ()) -> AsyncIterator[Terminal]:
    """Run `p2pfl` with the arguments *words* on a terminal; kill it at the end."""
    opened = Terminal(*words, inside=inside)
    try:
        yield opened
    finally:
        opened.end()
