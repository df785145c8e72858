"""The node processes of a demo: started as any operator would, followed by their event files, ended.

Each is a real `p2pfl node` with its own certificate and data directory. What it prints goes to a file, of
which the end is shown if it fails.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from p2pfl.core.departure import LEFT_EXIT, UNTRAINED_EXIT
from p2pfl.programs import PYTHON, apart, environment
from p2pfl.runtime.follow import EventFollower

PROGRAM = (*PYTHON, "p2pfl", "node")

POLL_SECONDS = 0.1
"""Between looks at the event files: what people take for at once."""

GRACE_SECONDS = 5.0
"""For a node that was asked to end, before it is asked harder: its worker may be in the middle of a batch."""


class NodeProcess:
    """One node of the demo."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.data_dir = folder / name
        self.certs = folder / "certs" / name
        self.events_path = folder / f"{name}.events.jsonl"
        self.output_path = folder / f"{name}.out"
        self.follower = EventFollower(self.events_path, skip=True)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id; None before the start."""
        return self._process.pid if self._process is not None else None

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative after a signal; None before the start and while it runs."""
        return self._process.poll() if self._process is not None else None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, options: Sequence[str]) -> None:
        """Start the node with *options* besides those that say where its files are."""
        command = [*PROGRAM, "--certs", str(self.certs)]
        command += ["--data-dir", str(self.data_dir), "--events", str(self.events_path), *options]
        # The nodes end with the pipe that only this process holds: no way to end the demo leaves one behind.
        command.append("--until-eof")
        self.release()
        # Ctrl-C in the demo's terminal is the demo's to answer: it ends its nodes itself, all together.
        with self.output_path.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own program, no shell
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(),
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

    def kill(self) -> None:
        """End it without asking; its worker ends with it."""
        if self._process is not None and self.is_running:
            self._process.kill()

    def last_lines(self, count: int) -> list[str]:
        """Return the last *count* lines it printed."""
        if not self.output_path.exists():
            return []
        text = self.output_path.read_text(encoding="utf-8", errors="backslashreplace")
        return [line for line in text.splitlines() if line.strip()][-count:]


def describe_exit(code: int) -> str:
    """Say how a node with exit code *code* ended."""
    if code == LEFT_EXIT:
        return "left, as it was told"
    if code == UNTRAINED_EXIT:
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
        await _wait(running)
    for node in nodes:
        node.release()


async def _wait(nodes: Sequence[NodeProcess]) -> None:
    clock = asyncio.get_running_loop().time
    deadline = clock() + GRACE_SECONDS
    while any(node.is_running for node in nodes) and clock() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(POLL_SECONDS)
