"""Start the programs of one measurement, read their marks, limit their memory, and end all of them.

They stay in the process group of the bench, so they end with the group. At the end of a measurement, every
process that they started is killed too.
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
"""Polling interval of the file with the marks."""

PATIENCE_SECONDS = 150.0
"""Longest time without a mark. The slowest round, with 100 M parameters, takes 90 s."""

AVAILABLE_BYTES = 3_000_000_000
"""Memory of the machine that must stay available."""

TAIL_CHARACTERS = 1500
"""Length of the end of a program's output in an error message."""

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
"""Switches off telemetry, update checks and downloads: programs communicate only with their federation."""


class PeerError(Exception):
    """A program failed, or wrote no mark for too long; the message contains its output."""


class MemoryExceededError(Exception):
    """A program exceeded its memory limit, or the machine is short of memory."""


@dataclass(frozen=True)
class Mark:
    """An event in a process of the program; see `programs/marks.py`."""

    what: str
    at: float
    pid: int
    used: float = 0.0
    """Processor seconds of the process so far."""


@dataclass
class World:
    """One federation of another program."""

    folder: Path
    python: Path
    """The interpreter of the program's virtual environment."""
    sampler: Sampler
    limit_bytes: int
    """Memory limit of one program with its descendants."""
    certificates: Certificates = field(init=False)
    began: float = field(init=False)
    """Time just before the start of the first program."""
    running: dict[str, subprocess.Popen[str]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.certificates = make_certificates(self.folder)
        self.marks_file.touch()
        self.began = time.monotonic()

    @property
    def marks_file(self) -> Path:
        return self.folder / "marks"

    def marks(self) -> list[Mark]:
        """Return all marks so far, in order of time."""
        lines = self.marks_file.read_text(encoding="utf-8").splitlines()
        return sorted((Mark(**json.loads(line)) for line in lines), key=lambda mark: mark.at)

    def seen(self) -> tuple[tuple[Mark, ...], Sequence[Sample]]:
        """Return all marks so far, and samples from before the first until after the last one."""
        marks = tuple(self.marks())
        while (samples := self.sampler.samples())[-1].at < marks[-1].at:
            time.sleep(LOOK_SECONDS)
        return marks, samples

    def count(self, what: str) -> int:
        """Return the number of marks of kind *what* so far."""
        return sum(mark.what == what for mark in self.marks())

    def settings_file(self, **settings: Any) -> Path:
        """Write the settings of the program to a file; return its path."""
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
        """Return environment variables: the program's Python, home and temporary files in this folder."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        home = str(self.folder)
        path = f"{self.python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        own = {"PATH": path, "HOME": home, "TMPDIR": home, "VIRTUAL_ENV": str(self.python.parent.parent)}
        return ours | QUIET | own

    def start(
        self, name: str, command: Sequence[str | Path], extra: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start program *name*, with its output in a file in this folder."""
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
        """Return the output of program *name* so far."""
        return self._log(name).read_text(encoding="utf-8", errors="replace")

    def until(self, look: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Poll until *look* returns a true value.

        Raises:
            PeerError: a program failed, or wrote no mark for *seconds*.
            MemoryExceededError: a program exceeded its limit, or the machine is short of memory.
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
        """Kill all processes that were started here."""
        for name, process in self.running.items():
            tree = self.sampler.tree(name)  # the root first, so that it starts no others
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
        """Return the last output line of program *name*, usually the cause, then the lines before."""
        tail = self._tail(name)
        return f"{tail.rpartition(chr(10))[2]}\nPrinted before:\n{tail}"

    def _tail(self, name: str) -> str:
        return self.printed(name).rstrip()[-TAIL_CHARACTERS:]


@contextlib.contextmanager
def world(folder: Path, python: Path, limit_bytes: int) -> Iterator[World]:
    """Yield a world in the new folder *folder*; afterwards, all processes started in it are killed."""
    folder.mkdir()
    with Sampler() as sampler:
        made = World(folder, python, sampler, limit_bytes)
        try:
            yield made
        finally:
            made.end()


def free_port() -> int:
    """Return a free port: the programs do not choose one themselves."""
    with socket.create_server((HOST, 0)) as listening:
        return int(listening.getsockname()[1])


def is_listening(port: int) -> bool:
    """Whether a process accepts connections on *port*."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False
