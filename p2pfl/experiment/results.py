"""The results of an experiment: a folder with one file for each run, named by the digest of its settings.

So a run is done once: with equal settings its file is found again, and with changed ones it has another name.
The first line of a file has the settings, each further line a round, and the last line of a finished run says
so.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec
from blake3 import blake3

import p2pfl
from p2pfl.errors import UserError
from p2pfl.experiment.file import PlannedRun, Settings
from p2pfl.learning.simulation.attack_specs import BACKDOOR
from p2pfl.learning.simulation.simulated import SimulatedRound, SimulatedRun
from p2pfl.paths import full, shown
from p2pfl.store.directory import try_lock

DIGEST_CHARACTERS = 16


class RunHeader(msgspec.Struct, frozen=True, tag="settings"):
    """The first line of a run's file."""

    version: str
    """Of the p2pfl that simulated the run."""
    settings: Settings
    primary: str
    direction: Literal["max", "min"]
    run: msgspec.Raw = msgspec.Raw(b"null")
    """All options of the run, for people."""


class RunLine(msgspec.Struct, frozen=True, tag="round"):
    """A line with a round."""

    row: SimulatedRound


class RunEnd(msgspec.Struct, frozen=True, tag="end"):
    """The last line of a run that is complete."""


class FinishedRun(msgspec.Struct, frozen=True):
    """A run that is complete."""

    planned: PlannedRun
    primary: str
    direction: Literal["max", "min"]
    rows: tuple[SimulatedRound, ...]

    @property
    def last(self) -> float | None:
        """The primary metric of the last model."""
        return self.rows[-1].metrics.get(self.primary) if self.rows else None

    @property
    def best(self) -> float | None:
        """The best value of the primary metric."""
        return self.rows[-1].best if self.rows else None

    @property
    def unchanged(self) -> tuple[SimulatedRound, ...]:
        """The rounds in which the model stayed as it was."""
        return tuple(row for row in self.rows if row.note)

    @property
    def seconds(self) -> float:
        """Duration of all rounds."""
        return sum(row.seconds for row in self.rows)


class ResultsUnwritableError(UserError):
    """Results cannot be written: no further run makes sense."""


def unwritable(path: Path, error: OSError) -> ResultsUnwritableError:
    """Return the error that *path* cannot be written."""
    what = "make room there" if error.errno == errno.ENOSPC else "see that this can be written"
    return ResultsUnwritableError(
        f"The results cannot be written to {shown(path)}: {error.strerror}; {what}, and start the same "
        "command again."
    )


_decode = msgspec.json.Decoder(RunHeader | RunLine | RunEnd).decode
_encode = msgspec.json.Encoder().encode


class ResultFolder:
    """The files of the runs of an experiment."""

    def __init__(self, folder: Path) -> None:
        """Use *folder*, which is made if needed.

        Raises:
            UserError: it cannot be made.
        """
        self.folder = folder
        self._runs = folder / "runs"
        try:
            self._runs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"The folder {shown(folder)} for the results cannot be made: {error.strerror}; name another "
                "one with --output."
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands from writing to the folder.

        Raises:
            UserError: another one has it, or the file for this cannot be written.
        """
        try:
            file = (self._runs / "lock").open("ab")
        except OSError as error:
            raise unwritable(self.folder, error) from error
        with file:
            try:
                is_free = try_lock(file)
            except OSError:  # this file system has no locks
                is_free = True
            if not is_free:
                raise UserError(
                    f"Another command runs an experiment in {shown(self.folder)}; wait for it, or name "
                    "another folder with --output."
                )
            yield

    def read(self, planned: PlannedRun) -> FinishedRun | None:
        """Return the results of *planned*; None if it is not complete."""
        try:
            lines = [_decode(line) for line in self._path(planned).read_bytes().splitlines()]
        except (OSError, msgspec.MsgspecError):  # none, or one that was cut off
            return None
        if len(lines) < 2 or not isinstance(lines[0], RunHeader) or not isinstance(lines[-1], RunEnd):
            return None
        rows = tuple(line.row for line in lines[1:-1] if isinstance(line, RunLine))
        return FinishedRun(planned, lines[0].primary, lines[0].direction, rows)

    def write(
        self,
        planned: PlannedRun,
        primary: str,
        direction: Literal["max", "min"],
        rows: Iterable[SimulatedRound],
    ) -> Generator[SimulatedRound, None, None]:
        """Write *rows* as they come, and yield each; the run is complete when they end.

        Raises:
            UserError: they cannot be written.
        """
        path = self._path(planned)
        try:
            with path.open("wb") as file:
                options = msgspec.Raw(planned.run.to_text().encode())
                header = RunHeader(p2pfl.__version__, planned.settings, primary, direction, options)
                file.write(_encode(header) + b"\n")
                for row in rows:
                    file.write(_encode(RunLine(row)) + b"\n")
                    file.flush()
                    yield row
                file.write(_encode(RunEnd()) + b"\n")
        except OSError as error:
            raise unwritable(path, error) from error

    def others(self, planned: Iterable[PlannedRun]) -> int:
        """Return the number of files of runs that are not among *planned*: their settings have changed."""
        known = {self._path(one).name for one in planned}
        return sum(path.name not in known for path in self._runs.glob("*.jsonl"))

    def metrics(self) -> set[str]:
        """Return the metrics of which any run of the folder may have curves."""
        found = set()
        for path in self._runs.glob("*.jsonl"):
            with suppress(OSError, msgspec.MsgspecError), path.open("rb") as file:
                header = _decode(file.readline())
                if not isinstance(header, RunHeader):
                    continue
                found.add(header.primary)
                options = msgspec.json.decode(header.run) or {}
                found |= {BACKDOOR} if (options.get("attack") or {}).get("type") == BACKDOOR else set()
        return found

    def _path(self, planned: PlannedRun) -> Path:
        return self._runs / f"{digest_of_run(planned.run)}.jsonl"


def digest_of_run(run: SimulatedRun) -> str:
    """Return a digest of what determines the results of *run*: its settings, its data, and its task's source.

    What computes it has no influence, nor has the folder in which the experiment lies. Data in `data_root`,
    or that a task file opens by itself, are not compared.
    """
    places = msgspec.structs.replace(
        run.places,
        root=None,
        download=False,
        code="",
        strategy="",
        own=None,
    )
    plain = msgspec.structs.replace(run, engine="local", ray_address="", workers=0, places=places)
    digest = blake3(plain.to_text().encode())
    if run.places.own is not None:
        digest.update(_fingerprint(run.places.own))
    for code in (run.places.code, run.places.strategy):
        file = full(Path(code.rpartition(":")[0] if ":" in code and not Path(code).is_file() else code))
        digest.update(file.read_bytes() if code and file.is_file() else code.encode())
    return digest.hexdigest()[:DIGEST_CHARACTERS]


@cache
def _fingerprint(data: Path) -> bytes:
    """Return a digest of the file *data*, or of names, sizes and times of all files in a folder.

    It is computed once in this program: data are not expected to change while an experiment runs.
    """
    digest = blake3()
    try:
        if data.is_file():
            digest.update_mmap(data)
            return digest.digest()
        for path in sorted(one for one in data.rglob("*") if one.is_file()):
            found = path.stat()
            digest.update(os.fsencode(path.relative_to(data).as_posix()))
            digest.update(f" {found.st_size} {found.st_mtime_ns}\n".encode())
        if data.exists():
            return digest.digest()
    except OSError:
        pass
    digest.update(os.fsencode(data))  # who reads the data says what is wrong
    return digest.digest()
