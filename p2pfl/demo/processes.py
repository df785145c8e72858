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
from p2pfl.programs import apart, start
from p2pfl.runtime.follow import EventFollower

POLL_SECONDS = 0.1
"""Between looks at the event files: what people take for at once."""

GRACE_SECONDS = 5.0
"""For a node that was asked to end, before it is asked harder: its worker may be in the middle of a batch."""

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
        """End it without asking; a node's worker ends with it."""
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
        """Start the node with *options* besides those that say where its files are."""
        places = (f"--certs={self.certs}", f"--data-dir={self.data_dir}", f"--events={self.events_path}")
        self.release()
        # The nodes end with the pipe that only this process holds: no way to end the demo leaves one behind.
        # Ctrl-C in the demo's terminal is the demo's to answer: it ends its nodes itself, all together.
        with self.output_path.open("ab") as output:
            self._process = start(
                *("p2pfl", "node", *places, *options, "--until-eof"),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                **apart(),
            )

    def release(self) -> None:
        """Close the pipe to the process of an earlier start."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def interrupt(self) -> None:
        """Do what Ctrl-C in its own terminal would: once it leaves politely, twice it stops at once."""
        if self._process is not None and self.is_running:
            if sys.platform == "win32":
                self._process.terminate()
            else:
                self._process.send_signal(signal.SIGINT)

    def last_lines(self, count: int) -> list[str]:
        """Return the last *count* lines it printed."""
        if not self.output_path.exists():
            return []
        text = self.output_path.read_text(encoding="utf-8", errors="backslashreplace")
        return [line for line in text.splitlines() if line.strip()][-count:]


class TuiProcess(ChildProcess):
    """The terminal UI on a demo, which goes on meanwhile."""

    def __init__(self, folder: Path) -> None:
        """Show the demo in *folder*, once it is started."""
        super().__init__()
        self._folder = folder

    def start(self, data_dir: Path) -> None:
        """Open it on the node with *data_dir*."""
        self._process = start("tui", f"--data-dir={data_dir}", f"--demo={self._folder}")

    async def close(self) -> None:
        """End it if it runs: politely, so that it restores the terminal, then by force."""
        if self._process is not None and self.is_running:
            self._process.terminate()
            await _wait([self], TUI_GRACE_SECONDS)
            self.kill()
            self._process.wait()


def describe_exit(code: int) -> str:
    """Say how a node with exit code *code* ended."""
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
    """End every node of *nodes* that runs: politely, then at once, then by force. None is left behind."""
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
