"""Deletes what this device remembers of runs that its data directory no longer holds.

A run is held while it is open in the journal, while an open run continues it, or while one of its models is
here, which may be exported with the personal tensors of the device. It is done once, at the start: the last
models of a run that was left go a little later than the run itself.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from p2pfl.learning.local_files import memory_folder
from p2pfl.store.blobs import BlobReader
from p2pfl.store.reader import JournalReader

logger = logging.getLogger(__name__)

_RUN = re.compile("[0-9a-f]{32}")


def forget_old_runs(journal: JournalReader, blobs: BlobReader) -> None:
    """Delete the memory of all runs that are not held; of none if the journal has no open run.

    A journal without a run may be a new one, whose device is about to enter its run again.

    Raises:
        DataDirectoryError: the journal cannot be read.
    """
    keep = held_runs(journal, blobs)
    if keep:
        forget(memory_folder(blobs.directory), keep)


def held_runs(journal: JournalReader, blobs: BlobReader) -> frozenset[str]:
    """Return the ids of the runs that are held; none if there is no open run."""
    rows = journal.runs()
    opened = [row.run for row in rows if not row.closed]
    if not opened:
        return frozenset()
    known = [genesis for run in opened if (genesis := journal.genesis(run)) is not None]
    held = {*opened, *(origin.run for genesis in known for origin in genesis.continues)}
    for row in rows:
        models = {*journal.last_models(row.run), journal.best(row.run)}
        if any(model is not None and blobs.has(model) for model in models):
            held.add(row.run)
    return frozenset(held)


def forget(memory: Path, keep: Collection[str]) -> None:
    """Delete the folders in *memory* of all runs but *keep*; one that cannot be deleted stays."""
    kept = {run[:32] for run in keep}
    if not memory.is_dir():
        return
    for folder in memory.iterdir():
        if _RUN.fullmatch(folder.name) and folder.name not in kept:
            try:
                shutil.rmtree(folder)
            except OSError as error:
                logger.warning("the memory of an old run cannot be deleted: %s", error)
            else:
                logger.info("deleted what this device remembered of run %s, which is gone", folder.name[:12])
