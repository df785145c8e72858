"""Foreign programs of one measurement: started, listened to, kept within bounds, and gone at the end.

They stay in the bench's process group, so that whoever ends the group ends them; at the end of a measurement
every process they started is killed too.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.bench.peers.certificates import HOST, Certificates, make_certificates
from tests.bench.peers.sampling import Sample, Sampler

LOOK_SECONDS = 0.02
"""Between two looks at the marks: a file tells nobody that it has grown."""

PATIENCE_SECONDS = 150.0
"""Longest silence: the slowest peer's round of 100 M parameters takes 90 s."""

AVAILABLE_BYTES = 3_000_000_000
"""What must be left of the machine's memory."""

TAIL_CHARACTERS = 1500
"""Of a program's output that goes into an error."""

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "WANDB_MODE": "disabled",
    "DO_NOT_TRACK": "1",
}
"""No peer, and no library of one, has reason to speak to anybody but its federation."""


class PeerError(Exception):
    """A foreign program failed, or nothing was heard for too long; the message holds what it printed."""


class MemoryExceededError(Exception):
    """A foreign program took more memory than it was granted."""


@dataclass(frozen=True)
class Mark:
    """Something that happened in a peer's process; see `programs/marks.py`."""

    what: str
    at: float
    pid: int


@dataclass
class World:
    """One federation of a peer."""

    folder: Path
    python: Path
    """Of the peer's virtual environment."""
    sampler: Sampler
    limit_bytes: int
    """What one program with its descendants may take."""
    certificates: Certificates = field(init=False)
    began: float = field(init=False)
    """When all was ready for the first program to be started."""
    running: dict[str, subprocess.Popen[str]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.certificates = make_certificates(self.folder)
        self.marks_file.touch()
        self.began = time.monotonic()

    @property
    def marks_file(self) -> Path:
        return self.folder / "marks"

    def marks(self) -> list[Mark]:
        """Return all marks so far in the order of time."""
        lines = self.marks_file.read_text(encoding="utf-8").splitlines()
        return sorted((Mark(**json.loads(line)) for line in lines), key=lambda mark: mark.at)

    def seen(self) -> tuple[tuple[Mark, ...], Sequence[Sample]]:
        """Return all marks so far, and samples from before the first until after the last one."""
        marks = tuple(self.marks())
        while (samples := self.sampler.samples())[-1].at < marks[-1].at:
            time.sleep(LOOK_SECONDS)
        return marks, samples

    def count(self, what: str) -> int:
        """Return how many marks of one kind there are so far."""
        return sum(mark.what == what for mark in self.marks())

    def settings_file(self, **settings: Any) -> Path:
        """Write what the peer's programs are to know; return where."""
        path = self.folder / "settings.json"
        common = {
            "marks": str(self.marks_file),
            "ca": str(self.certificates.ca),
            "certificate": str(self.certificates.certificate),
            "key": str(self.certificates.key),
        }
        path.write_text(json.dumps(common | settings), encoding="utf-8")
        return path

    def environment(self) -> dict[str, str]:
        """Return the peer's environment: its own Python, a home and temporary files here, nothing of ours."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        home = str(self.folder)
        path = f"{self.python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        own = {"PATH": path, "HOME": home, "TMPDIR": home, "VIRTUAL_ENV": str(self.python.parent.parent)}
        return ours | QUIET | own

    def start(
        self, name: str, command: Sequence[str | Path], extra: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start program *name*; what it prints goes into a file here."""
        with self._log(name).open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                list(map(str, command)),
                cwd=self.folder,
                env=self.environment() | dict(extra or {}),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.running[name] = process
        self.sampler.watch(name, process.pid)
        return process

    def printed(self, name: str) -> str:
        """Return all that program *name* printed so far."""
        return self._log(name).read_text(encoding="utf-8", errors="replace")

    def until(self, look: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Look again and again until *look* returns something true.

        Raises:
            PeerError: a program failed, or no mark came for *seconds*.
            MemoryExceededError: a program took more than it may.
        """
        heard, marked = time.monotonic(), self.marks_file.stat().st_size
        while not look():
            self._check_memory()
            for name, process in self.running.items():
                if process.poll():
                    raise PeerError(f"{name} ended with exit code {process.returncode}: {self._words(name)}")
            if (size := self.marks_file.stat().st_size) != marked:
                heard, marked = time.monotonic(), size
            if time.monotonic() - heard > seconds:
                tails = "\n".join(f"{name}: {self._tail(name)}" for name in self.running)
                raise PeerError(f"{what} did not come within {seconds:g} s. Printed last:\n{tails}")
            time.sleep(LOOK_SECONDS)

    def end(self) -> None:
        """Kill everything that was started here."""
        for name, process in self.running.items():
            tree = self.sampler.tree(name)  # the root first: it starts no others then
            for one in tree:
                with contextlib.suppress(psutil.Error):
                    one.kill()
            psutil.wait_procs(tree, timeout=10)
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
            process.wait()

    def _check_memory(self) -> None:
        sample = next(reversed(self.sampler.samples()), None)
        for name, taken in (sample.resident_bytes if sample else {}).items():
            if taken > self.limit_bytes:
                raise MemoryExceededError(f"{name} took more than {self.limit_bytes / 1e9:g} GB")
        if psutil.virtual_memory().available < AVAILABLE_BYTES:
            raise MemoryExceededError(
                f"less than {AVAILABLE_BYTES / 1e9:g} GB of the machine's memory were left"
            )

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _words(self, name: str) -> str:
        """Return the last line that program *name* printed, which mostly says why, then what came before."""
        tail = self._tail(name)
        return f"{tail.rpartition(chr(10))[2]}\nPrinted before:\n{tail}"

    def _tail(self, name: str) -> str:
        return self.printed(name).rstrip()[-TAIL_CHARACTERS:]


@contextlib.contextmanager
def world(folder: Path, python: Path, limit_bytes: int) -> Iterator[World]:
    """Yield an empty world in *folder*, a new one; whatever was started in it is gone afterwards."""
    folder.mkdir()
    with Sampler() as sampler:
        made = World(folder, python, sampler, limit_bytes)
        try:
            yield made
        finally:
            made.end()


def free_port() -> int:
    """Return a port nobody listens on: peers want to be told one."""
    with socket.create_server((HOST, 0)) as listening:
        return int(listening.getsockname()[1])


def is_listening(port: int) -> bool:
    """Tell whether somebody accepts connections on *port*."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False
