"""Runs the user's script beside the node: starts it, relays its output, says how it failed, starts it again.

The script is a trainer (`p2pfl.learning.scripts.trainer`). When it fails, the job that it did fails with the
line of the script, so that this member is left out of the round with that reason. Then the script is started
again for the next round. A script that fails `MAX_FAILURES` times without an update in between is given up:
the node goes on as a member that votes and does not train.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from p2pfl.learning.output_lines import output_lines
from p2pfl.learning.scripts.frames import ENVIRONMENT_VARIABLE
from p2pfl.learning.scripts.trainer import TrainerServer
from p2pfl.programs import PACKAGE_ROOT, PYTHON, detached, environment

logger = logging.getLogger(__name__)

script_logger = logging.getLogger("p2pfl.script")
"""Logs each line that the script writes."""

MAX_FAILURES = 3
"""Failures in a row, without an update in between, after which the script is not started again."""

LAST_LINES = 500
"""Lines of the script's standard error that are kept to find its traceback."""

END_SECONDS = 60.0
"""Time for the script to end after its run, for example to save the model or to draw a curve."""

KILL_SECONDS = 5.0
"""Time in which the script must end when its standard input ends; then it is killed."""

_FRAME = re.compile(r'\s*File "(.+)", line (\d+)')


class ScriptRunner:
    """Runs the script *words*[0] with the arguments after it, as a trainer of *server*.

    *on_end* is called with the reason when the script ends too early and no job fails by it, *on_failure*
    when it is given up. Call all methods in one event loop.
    """

    def __init__(
        self,
        words: Sequence[str],
        server: TrainerServer,
        *,
        on_end: Callable[[str], None],
        on_failure: Callable[[str], None],
    ) -> None:
        self._words = tuple(words)
        self._path = Path(words[0])
        self._server = server
        self._on_end = on_end
        self._on_failure = on_failure
        self._process: asyncio.subprocess.Process | None = None
        self._is_closing = False
        self._running: asyncio.Task[None] | None = None
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        """The last lines of the standard error of the process."""
        self._has_failed_job = False
        """Whether the failure of the process has failed its job already."""
        self.last_end = ""
        """How the script ended last, as half a sentence; empty if it ended by itself and without an error."""
        server.on_lost = self._fail_early

    @property
    def pid(self) -> int | None:
        """The process id of the script; None while it does not run."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the script, and start it again when it fails."""
        self._running = asyncio.create_task(self._run(), name="script")

    async def close(self) -> None:
        """End the script; after the end of the run, give it time to end by itself."""
        self._is_closing = True
        process, running = self._process, self._running
        if running is None:
            return
        if process is not None:
            if self._server.is_over and process.returncode is None:
                await _wait(running, END_SECONDS)
            assert process.stdin is not None
            process.stdin.close()
            if not await _wait(running, KILL_SECONDS):
                _kill(process)
        await running

    async def _run(self) -> None:
        failures = submitted = 0
        while not self._is_done():
            connected = self._server.connected
            reason = await self._live()
            if self._is_done():
                return
            if self._server.submitted > submitted:
                failures, submitted = 0, self._server.submitted
            failures += 1
            could_begin = self._server.connected > connected
            if not (self._has_failed_job or self._server.fail_interrupted(reason, or_first=not could_begin)):
                self._on_end(reason)
            if failures == MAX_FAILURES:
                text = (
                    f"{self._path.name} failed {failures} times in a row without an update, the last time: "
                    f"{reason}. This device votes and trains no more; correct the script and start the node "
                    "again"
                )
                self._server.refuse(text)
                self._on_failure(text)
                return

    def _is_done(self) -> bool:
        """Whether the script is not needed any more."""
        return self._is_closing or self._server.is_over

    async def _live(self) -> str:
        """Run the script once; return why it ended, as half a sentence."""
        endpoint = self._server.endpoint.to_text()
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *PYTHON,
                "p2pfl.learning.scripts.main",
                *self._words,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**environment(), ENVIRONMENT_VARIABLE: endpoint, "PYTHONUNBUFFERED": "1"},
                **detached(),
            )
        except OSError as error:
            return f"{self._path.name} cannot be started ({error.strerror})"
        if self._is_closing:  # it was called while the process was being made, and could not end it
            _kill(process)
        logger.debug("script process %d started", process.pid)
        self._last.clear()
        self._has_failed_job = False
        assert process.stdout is not None
        assert process.stderr is not None
        relays = [
            asyncio.create_task(self._relay(stream, is_kept=is_kept))
            for stream, is_kept in ((process.stdout, False), (process.stderr, True))
        ]
        code = await process.wait()
        # A loader of data that outlives the script may hold its pipes and its connection.
        _kill(process)
        await asyncio.wait(relays, timeout=KILL_SECONDS)
        for relay in relays:
            relay.cancel()
        self._server.drop()
        self._process = None
        reason = explain_end(self._path, code, tuple(self._last))
        self.last_end = reason if code else ""
        return reason

    async def _relay(self, stream: asyncio.StreamReader, *, is_kept: bool) -> None:
        async for line in output_lines(stream):
            script_logger.info("%s", line)
            if is_kept:
                self._last.append(line)
                self._fail_early()

    def _fail_early(self) -> None:
        """Fail the job of a script that has disconnected and printed a traceback.

        With torch loaded, the process takes seconds to end, and the round may close before it has.
        """
        if self._server.is_connected or self._is_done() or self._has_failed_job or not self._last:
            return
        lines = tuple(self._last)
        if _last_traceback(lines)[1] == lines[-1]:
            self._has_failed_job = self._server.fail_interrupted(
                explain_end(self._path, 1, lines), or_first=False
            )


async def _wait(running: asyncio.Task[None], seconds: float) -> bool:
    """Wait until *running* has ended, at most *seconds*; return whether it has."""
    done, _ = await asyncio.wait([running], timeout=seconds)
    return bool(done)


def _kill(process: asyncio.subprocess.Process) -> None:
    """Kill the script and everything that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)  # it leads a group of its own


def explain_end(script: Path, code: int, lines: Sequence[str]) -> str:
    """Return how *script* ended, as half a sentence: "train.py, line 12: ValueError: no data".

    *code* is its exit code, and *lines* are the last ones of its standard error. Of the last traceback in
    them, the innermost line in a file of the user counts.
    """
    frames, error = _last_traceback(lines)
    error = error.removeprefix("p2pfl.errors.")
    if code == 0:
        return f"{script.name} ended before the run was over"
    if code > 0 and error:
        own = [(path, number) for path, number in frames if _is_users(path, script)]
        if not own:
            return f"{script.name}: {error}"
        path, number = own[-1]
        return f"{path.relative_to(script.parent)}, line {number}: {error}"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"{script.name} was killed by {signal.Signals(-code).name}"
    last = f"; its last output: {lines[-1][:200]}" if lines else ""
    return f"{script.name} ended with exit code {code}{last}"


def _last_traceback(lines: Sequence[str]) -> tuple[list[tuple[Path, str]], str]:
    """Return the file and line of each frame of the last traceback in *lines*, and its error."""
    frames: list[tuple[Path, str]] = []
    error = ""
    for line in lines:
        if found := _FRAME.match(line):
            if error:  # another traceback begins
                frames, error = [], ""
            frames.append((Path(found[1]), found[2]))
        elif frames and not error and not line[:1].isspace():
            error = line
    return frames, error


def _is_users(path: Path, script: Path) -> bool:
    """Return whether *path* is *script* or a file beside it, and no installed library."""
    is_library = "site-packages" in path.parts or path.is_relative_to(PACKAGE_ROOT / "p2pfl")
    return path.is_relative_to(script.parent) and not is_library
