"""A node that runs as a child of this process and writes to the same terminal."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Sequence

from p2pfl.programs import PYTHON, detached, ending_signals, environment


class LocalNodeProcess:
    """The process of `p2pfl node`."""

    def __init__(self, words: Sequence[str]) -> None:
        """Use *words* as the arguments of `p2pfl node`."""
        self._words = words
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the node, and pass signals on to it.

        It has a session of its own: else the terminal would send it each Ctrl-C too, and the second one stops
        a node at once.
        """
        self._process = await asyncio.create_subprocess_exec(
            *PYTHON,
            "p2pfl",
            "node",
            "--until-eof",  # it ends with this process, also where this one is killed
            *self._words,
            stdin=asyncio.subprocess.PIPE,
            env=environment(),
            **detached(),
        )
        loop = asyncio.get_running_loop()
        for number in ending_signals():
            with contextlib.suppress(NotImplementedError):  # Windows
                loop.add_signal_handler(number, self._send, number)

    def press_enter(self) -> None:
        """Press Enter for the node: it starts the run that --wait holds back."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(b"\n")

    async def wait(self) -> int:
        """Wait until the node ends; return its exit code."""
        assert self._process is not None, "it was started"
        code = await self._process.wait()
        return code if code >= 0 else 128 - code

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None, "signals are passed on once it was started"
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
