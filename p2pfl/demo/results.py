"""What a demo achieved, read from the journals and blobs of its nodes: rounds, and whether models agree."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import msgspec
from blake3 import blake3

from p2pfl.errors import DataDirectoryError
from p2pfl.events import RoundRow
from p2pfl.store.directory import DataDirectory
from p2pfl.store.reader import RunRow

SHORT = 12
"""Number of characters of a digest that are shown."""


class JournalSummary(msgspec.Struct, frozen=True):
    """The newest run in one node's data directory."""

    run: RunRow
    rounds: tuple[RoundRow, ...]
    slots: Mapping[str, int]
    """The data slot of each founding member, by name."""
    model: Path
    """The final model's file."""
    held: str
    """BLAKE3 of that file, computed now; empty where it is not there."""


def read_journals(data_dirs: Mapping[str, Path]) -> dict[str, JournalSummary]:
    """Read the journals of the nodes that have been in a run, by name."""
    journals = {}
    for name, path in data_dirs.items():
        with contextlib.suppress(DataDirectoryError):  # a node that died early has none
            journal = _read(DataDirectory(path))
            if journal is not None:
                journals[name] = journal
    return journals


def _read(directory: DataDirectory) -> JournalSummary | None:
    with directory.read_journal() as reader:
        runs = reader.runs()
        if not runs:
            return None
        run = runs[-1]
        genesis = reader.genesis(run.run)
        rounds = tuple(reader.rounds(run.run))
    assert genesis is not None
    model = directory.read_blobs().path(rounds[-1].digest if rounds else genesis.model)
    held = blake3().update_mmap(model).hexdigest() if model.is_file() else ""
    return JournalSummary(run, rounds, {entry.name: entry.slot for entry in genesis.roster}, model, held)


def disagreements(journals: Mapping[str, JournalSummary]) -> list[str]:
    """Return a sentence for each contradiction between two of *journals*."""
    found = []
    first: dict[tuple[str, int], tuple[str, RoundRow]] = {}
    for name, journal in journals.items():
        for row in journal.rounds:
            other, there = first.setdefault((row.run, row.round), (name, row))
            if (there.record, there.digest) != (row.record, row.digest):
                found.append(
                    f"round {row.training_round}: {other} has model {there.digest[:SHORT]}, "
                    f"{name} {row.digest[:SHORT]}"
                )
        if journal.run.ended and journal.held != journal.rounds[-1].digest:
            found.append(f"{name} does not hold the final model {journal.rounds[-1].digest[:SHORT]}")
    runs = sorted({journal.run.run for journal in journals.values()})
    if len(runs) > 1:
        found.append(f"the nodes are in different runs: {', '.join(run[:SHORT] for run in runs)}")
    return found
