"""The processes of a demo: its nodes, started as any operator would, and the terminal UI on them.

Each node is a real `p2pfl node` with its own certificate and data directory. Its output goes to a file, whose
last lines are shown if it fails.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from p2pfl.exit_codes import ExitCode
from p2pfl.programs import detached, start
from p2pfl.runtime.observing.follow import EventFollower

POLL_SECONDS = 0.1
"""Interval of polling the event files and processes: people take it for immediate."""

GRACE_SECONDS = 5.0
"""How long a node may take to end before the next, harder attempt: a batch may be in training."""

TUI_GRACE_SECONDS = 3.0
"""How long the terminal UI may take to restore the terminal after SIGTERM, before it is killed."""


class ChildProcess:
    """A process of the demo that may not be started yet."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative after a signal; None before the start and while it runs."""
        return self._process.poll() if self._process is not None else None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """Kill it; a node's worker ends with its node."""
        if self._process is not None and self.is_running:
            self._process.kill()


class NodeProcess(ChildProcess):
    """One node of the demo."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__()
        self.name = name
        self.data_dir = folder / name
        self.certs = folder / "certs" / name
        self.events_path = folder / f"{name}.events.jsonl"
        self.output_path = folder / f"{name}.out"
        self.follower = EventFollower(self.events_path, skip=True)

    def start(self, options: Sequence[str]) -> None:
        """Start the node with *options*; those for its files are added."""
        places = ("--isolated", "--certs", str(self.certs), "--data-dir", str(self.data_dir))
        self.release()
        # A node ends with the pipe that only this process holds, so no node outlives the demo.
        # Ctrl-C in the terminal reaches the demo only, which then ends its nodes.
        with self.output_path.open("ab") as output:
            self._process = start(
                *("p2pfl", "node", *places, f"--events={self.events_path}", *options, "--until-eof"),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                **detached(),
            )

    def release(self) -> None:
        """Close the pipe to the process that was started last."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def interrupt(self) -> None:
        """Send what Ctrl-C sends: the first makes the node leave politely, the second stops it at once."""
        if self._process is not None and self.is_running:
            if sys.platform == "win32":
                self._process.terminate()
            else:
                self._process.send_signal(signal.SIGINT)

    def last_lines(self, count: int) -> list[str]:
        """Return the last *count* lines of its output."""
        if not self.output_path.exists():
            return []
        text = self.output_path.read_text(encoding="utf-8", errors="backslashreplace")
        return [line for line in text.splitlines() if line.strip()][-count:]


class TuiProcess(ChildProcess):
    """The terminal UI on a running demo."""

    def __init__(self, folder: Path) -> None:
        """Start nothing yet; *folder* is the demo's."""
        super().__init__()
        self._folder = folder

    def start(self, data_dir: Path) -> None:
        """Open it on the node with *data_dir*."""
        self._process = start("tui", f"--data-dir={data_dir}", f"--demo={self._folder}")

    async def close(self) -> None:
        """End it: with SIGTERM, so that it restores the terminal, then with a kill."""
        if self._process is not None and self.is_running:
            self._process.terminate()
            await _wait([self], TUI_GRACE_SECONDS)
            self.kill()
            self._process.wait()


def describe_exit(code: int) -> str:
    """Describe the end of a node with exit code *code*."""
    if code == ExitCode.LEFT:
        return "left, as it was told"
    if code == ExitCode.UNTRAINED:
        return "ended untrained: no update was ever counted"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


async def end_all(nodes: Sequence[NodeProcess]) -> None:
    """End all *nodes*: with an interrupt, with a second one, then with a kill."""
    for ask in (NodeProcess.interrupt, NodeProcess.interrupt, NodeProcess.kill):
        running = [node for node in nodes if node.is_running]
        for node in running:
            ask(node)
        await _wait(running, GRACE_SECONDS)
    for node in nodes:
        node.release()


async def _wait(processes: Sequence[ChildProcess], seconds: float) -> None:
    """Wait until all *processes* have ended, at most *seconds*."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    while any(process.is_running for process in processes) and clock() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(POLL_SECONDS)
