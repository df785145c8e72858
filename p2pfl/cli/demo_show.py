"""The terminal UI over a demo: it has the terminal while it is open, and the demo goes on beneath it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from p2pfl.programs import PYTHON, environment

GRACE_SECONDS = 3.0
"""For a screen that is asked to end, to give the terminal back."""


class Show:
    """One terminal UI; it can be opened once."""

    def __init__(self, folder: Path, program: Sequence[str] = (*PYTHON, "tui")) -> None:
        """Show the demo in *folder*, once it is opened."""
        self._folder = folder
        self._program = program
        self._process: asyncio.subprocess.Process | None = None

    @property
    def is_open(self) -> bool:
        """Whether it was opened and has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def exit_code(self) -> int | None:
        """How it ended; None before that."""
        return self._process.returncode if self._process is not None else None

    async def open(self, data_dir: Path) -> None:
        """Open it on the node with *data_dir*."""
        self._process = await asyncio.create_subprocess_exec(
            *self._program, f"--data-dir={data_dir}", f"--demo={self._folder}", env=environment()
        )

    async def close(self) -> None:
        """End it if it is open: politely, so that it gives the terminal back, then by force."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
