"""Start real node processes, read their events files, and kill them.

Nodes choose free ports, and the tests pass them on. All processes end with the `async with`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from p2pfl import events
from p2pfl.events import Published, RoundRow
from p2pfl.identity.authority import create_authority, issue
from p2pfl.runtime.observing.follow import EventFollower
from p2pfl.store.blobs import BlobReader
from p2pfl.store.directory import DataDirectory
from p2pfl.store.verify import verify
from tests.support.source import ROOT

PATIENCE_SECONDS = 50.0
"""Time limit for steps that take a few seconds on an idle machine; only a failing test reaches it."""

POLL_SECONDS = 0.02

QUICK = ("--model=2nn", "--partition=iid", "--epochs=1", "--device=cpu", "--threads=1")
"""Options of a run with rounds of a fraction of a second: most of a test's time is the import of torch."""

PRIVATE = ("--device=cpu", "--threads=1", "--epochs=1")
"""Options of a quick run on private data."""

QUICK_SCRIPT = ("--device=cpu", "--threads=1")
"""The same for a run that scripts train."""

NODE = ("-m", "p2pfl", "node")
RIGGED = ("-m", "tests.support.rigged_node")
LIGHT = (*RIGGED, "--rig=light")
"""Programs: the real node; the node with a built-in fault; the node with a worker without torch."""

EventT = TypeVar("EventT", bound=events.Event)
ResultT = TypeVar("ResultT")


async def until(
    look: Callable[[], ResultT | None],
    what: str,
    process: Process | None = None,
    patience: float = PATIENCE_SECONDS,
) -> ResultT:
    """Poll until *look* returns a true value, and return it.

    The error message after *patience* seconds names *what* was awaited and has the output of *process*.
    """
    try:
        async with asyncio.timeout(patience):
            while not (found := look()):  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(POLL_SECONDS)
            return found
    except TimeoutError:
        said = process.output if process is not None else ""
        raise AssertionError(f"{what} did not come:\n{said}") from None


class Process:
    """One process of a node."""

    def __init__(
        self, name: str, folder: Path, number: int, command: Sequence[str], inside: Sequence[str] = ()
    ) -> None:
        """Start the process; *inside* is a prefix that runs the command elsewhere, such as in a namespace."""
        self.name = name
        self.events: list[events.AnyEvent] = []
        """Events of this process that were read so far."""
        self.published: list[Published] = []
        """The same events with their times."""
        events_path = folder / f"{name}.{number}.jsonl"
        self._output = folder / f"{name}.{number}.out"
        self._follower = EventFollower(events_path)
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [*inside, sys.executable, "-P", *command, f"--events={events_path}"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def output(self) -> str:
        """Its output so far."""
        return self._output.read_text(encoding="utf-8")

    async def until(
        self,
        kind: type[EventT],
        condition: Callable[[EventT], bool] = lambda _: True,
        patience: float = PATIENCE_SECONDS,
    ) -> EventT:
        """Wait for the first event of *kind* for which *condition* holds, and return it."""

        def find() -> EventT | None:
            ended = self.has_ended
            found = next((event for event in self.all(kind) if condition(event)), None)
            assert found or not ended, f"{self.name} ended before {kind.__name__}:\n{self.output}"
            return found

        return await until(find, f"a {kind.__name__} of {self.name}", self, patience)

    def all(self, kind: type[EventT]) -> list[EventT]:
        """Return the events of *kind* so far."""
        self._look()
        return [event for event in self.events if isinstance(event, kind)]

    async def exit_code(self, patience: float = PATIENCE_SECONDS) -> int:
        """Wait for the end; return the exit code, negative after a signal."""
        await until(lambda: self.has_ended, f"the end of {self.name}", self, patience)
        code = self._process.poll()
        assert code is not None
        return code

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> None:
        """Kill the process if it runs, and wait for it. Its worker ends with it."""
        self._process.kill()
        self._process.wait()

    def _look(self) -> None:
        found = self._follower.read()
        self.published.extend(found)
        self.events.extend(published.event for published in found)


class Fleet:
    """The nodes of a test: their certificates, processes and journals."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.common: Sequence[str] = QUICK
        """Options of all nodes."""
        self._started: list[Process] = []
        create_authority(folder / "certs", "fleet")

    async def start(
        self,
        name: str,
        *options: str,
        peers: Sequence[Process] = (),
        program: Sequence[str] = NODE,
        certs: Path | None = None,
    ) -> Process:
        """Start or restart node *name*, and wait until it listens."""
        process = self.start_unheard(name, *options, peers=peers, program=program, certs=certs)
        await process.until(events.Started)
        return process

    def start_unheard(
        self,
        name: str,
        *options: str,
        peers: Sequence[Process] = (),
        program: Sequence[str] = NODE,
        certs: Path | None = None,
        inside: Sequence[str] = (),
    ) -> Process:
        """Start or restart node *name* without waiting; *inside* as in `Process`."""
        if certs is None:
            certs = self.folder / "certs" / name
            if not certs.exists():
                issue(self.folder / "certs", name)
        places = (f"--certs={certs}", f"--data-dir={self.folder / name}")
        addresses = ",".join(address_of(peer) for peer in peers)
        command = (*program, *places, "--listen=127.0.0.1:0", f"--peers={addresses}", *self.common, *options)
        process = Process(name, self.folder, len(self._started), command, inside)
        self._started.append(process)
        return process

    async def start_all(
        self, *names: str, options: Sequence[str] = (), program: Sequence[str] = NODE
    ) -> list[Process]:
        """Start a run of the nodes *names*; the others get only the address of the first."""
        shared = (f"--min-nodes={len(names)}", *options)
        first = await self.start(names[0], *shared, program=program)
        others = [self.start_unheard(name, *shared, peers=[first], program=program) for name in names[1:]]
        for process in others:
            await process.until(events.Started)
        return [first, *others]

    def rounds(self, *names: str) -> dict[str, list[RoundRow]]:
        """Return the committed rounds in the journals of *names* (default: all nodes)."""
        rows = {}
        for name in names or sorted({process.name for process in self._started}):
            with DataDirectory(self.folder / name).read_journal() as journal:
                rows[name] = [row for run in journal.runs() for row in journal.rounds(run.run)]
        return rows

    def blobs(self, *names: str) -> list[BlobReader]:
        """Return the blobs in the data directories of *names*."""
        return [DataDirectory(self.folder / name).read_blobs() for name in names]

    def check(self, *names: str) -> None:
        """Verify the data directories of *names* (default: all nodes), as `p2pfl history --verify` does."""
        chosen = names or sorted({process.name for process in self._started})
        findings = verify([self.folder / name for name in chosen])
        assert findings.is_clean, "\n".join(str(fault) for fault in findings.faults)
        assert findings.records
        assert findings.blobs

    def end(self) -> None:
        for process in self._started:
            process.end()


@contextlib.asynccontextmanager
async def fleet(folder: Path) -> AsyncIterator[Fleet]:
    """Open a fleet in *folder*; kill all its processes at the end."""
    opened = Fleet(folder)
    try:
        yield opened
    finally:
        opened.end()


def address_of(process: Process) -> str:
    """Return the address of *process*, which has started."""
    return process.all(events.Started)[-1].address.split(", ")[0]


def digests(rows: dict[str, list[RoundRow]]) -> dict[int, set[tuple[str, str]]]:
    """Return the different (record, model) pairs in all journals, by round; one pair if nodes agree."""
    found: dict[int, set[tuple[str, str]]] = {}
    for row in (row for journal in rows.values() for row in journal):
        found.setdefault(row.round, set()).add((row.record, row.digest))
    return found


def trainings(process: Process) -> dict[int, int]:
    """Return the number of trainings of *process*, by round."""
    counts: dict[int, int] = {}
    for event in process.all(events.TrainingFinished):
        counts[event.round] = counts.get(event.round, 0) + 1
    return counts


def last_round(process: Process) -> int:
    """Return the last round that *process* has committed, 0 before the first."""
    joined = [event.round for event in process.all(events.RunJoined)]
    return max([0, *joined, *(event.round for event in process.all(events.Committed))])
