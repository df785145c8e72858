"""Real node processes for tests: started as an operator would, watched by their event files, killed at will.

Ports are chosen by the nodes themselves and handed on. No process survives the `async with`, whatever a test
does.
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
from p2pfl.runtime.follow import EventFollower
from p2pfl.store.directory import DataDirectory
from p2pfl.store.verify import verify
from tests.support.source import ROOT

PATIENCE_SECONDS = 50.0
"""For what takes a few seconds on an idle machine; only a failing test waits so long."""

POLL_SECONDS = 0.02

QUICK = ("--model=2nn", "--partition=iid", "--epochs=1", "--device=cpu", "--threads=1")
"""A run whose rounds take a fraction of a second: most of a test's time is the loading of torch."""

NODE = ("-m", "p2pfl", "node")
RIGGED = ("-m", "tests.support.rigged_node")
LIGHT = (*RIGGED, "--rig=light")
"""The programs: the product, the product with a fault built in (see there), and with a worker without torch."""

EventT = TypeVar("EventT", bound=events.Event)
ResultT = TypeVar("ResultT")


async def until(
    look: Callable[[], ResultT | None],
    what: str,
    process: Process | None = None,
    patience: float = PATIENCE_SECONDS,
) -> ResultT:
    """Look again and again until *look* returns something true: no process tells another of its events.

    On failure, *what* was awaited is said, and what *process* printed.
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
    """One start of a node."""

    def __init__(
        self, name: str, folder: Path, number: int, command: Sequence[str], inside: Sequence[str] = ()
    ) -> None:
        """Start it; *inside* is a command that runs another one, somewhere else."""
        self.name = name
        self.events: list[events.AnyEvent] = []
        """All events of this start, as far as they were looked at."""
        self.published: list[Published] = []
        """The same with their times."""
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
        """All it printed so far."""
        return self._output.read_text(encoding="utf-8")

    async def until(
        self,
        kind: type[EventT],
        condition: Callable[[EventT], bool] = lambda _: True,
        patience: float = PATIENCE_SECONDS,
    ) -> EventT:
        """Return the first event of *kind* for which *condition* holds; wait for it if need be."""

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
        """Wait for the end; negative after a signal."""
        await until(lambda: self.has_ended, f"the end of {self.name}", self, patience)
        code = self._process.poll()
        assert code is not None
        return code

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> None:
        """Kill it if it still runs, and take its exit code. Its worker ends with it."""
        self._process.kill()
        self._process.wait()

    def _look(self) -> None:
        found = self._follower.read()
        self.published.extend(found)
        self.events.extend(published.event for published in found)


class Fleet:
    """The nodes of a test: certificates, starts, journals."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
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
        """Start node *name*, for the first time or again, and wait until it listens."""
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
        """The same without waiting for anything; *inside* see `Process`."""
        if certs is None:
            certs = self.folder / "certs" / name
            if not certs.exists():
                issue(self.folder / "certs", name)
        places = (f"--certs={certs}", f"--data-dir={self.folder / name}")
        addresses = ",".join(address_of(peer) for peer in peers)
        command = (*program, *places, "--listen=127.0.0.1:0", f"--peers={addresses}", *QUICK, *options)
        process = Process(name, self.folder, len(self._started), command, inside)
        self._started.append(process)
        return process

    async def start_all(
        self, *names: str, options: Sequence[str] = (), program: Sequence[str] = NODE
    ) -> list[Process]:
        """Start a run of the nodes *names*: the first one's address is all the others are told."""
        shared = (f"--min-nodes={len(names)}", *options)
        first = await self.start(names[0], *shared, program=program)
        others = [self.start_unheard(name, *shared, peers=[first], program=program) for name in names[1:]]
        for process in others:
            await process.until(events.Started)
        return [first, *others]

    def rounds(self, *names: str) -> dict[str, list[RoundRow]]:
        """Return the committed rounds in the journals of *names*, of all nodes without any."""
        rows = {}
        for name in names or sorted({process.name for process in self._started}):
            with DataDirectory(self.folder / name).read_journal() as journal:
                rows[name] = [row for run in journal.runs() for row in journal.rounds(run.run)]
        return rows

    def check(self, *names: str) -> None:
        """Let the checker that users have read the data directories of *names*, of all nodes without any."""
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
    """Open a fleet in *folder*; at the end every process is gone."""
    opened = Fleet(folder)
    try:
        yield opened
    finally:
        opened.end()


def address_of(process: Process) -> str:
    """Return where *process*, which has started, listens."""
    return process.all(events.Started)[-1].address.split(", ")[0]


def digests(rows: dict[str, list[RoundRow]]) -> dict[int, set[tuple[str, str]]]:
    """Return the different (record, model) pairs in all journals, by round: one each where nodes agree."""
    found: dict[int, set[tuple[str, str]]] = {}
    for row in (row for journal in rows.values() for row in journal):
        found.setdefault(row.round, set()).add((row.record, row.digest))
    return found


def trainings(process: Process) -> dict[int, int]:
    """Return how many times *process* trained, by round."""
    counts: dict[int, int] = {}
    for event in process.all(events.TrainingFinished):
        counts[event.round] = counts.get(event.round, 0) + 1
    return counts


def last_round(process: Process) -> int:
    """Return the last round *process* knows to be committed, 0 before the first."""
    joined = [event.round for event in process.all(events.RunJoined)]
    return max([0, *joined, *(event.round for event in process.all(events.Committed))])
