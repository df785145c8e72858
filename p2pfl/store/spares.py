"""Files of short blobs nobody needs any more, to be written over by the next ones.

In a run of short rounds a node makes and deletes dozens of files a second. Bytes written over old ones of the
same length need neither new pages nor new blocks: a file of 1.6 MB took half the processor time, and four of
them at once were on one disk in 11 ms instead of 17.

Whoever reads a file that is written over reads rubbish, where a deleted file would have stayed whole for it.
So a spare is not used before another collection has passed, which is longer than reading a short file takes,
and not while a blob is served from it, which may take minutes.
"""

from __future__ import annotations

import os
import stat
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import NamedTuple

MAX_SPARES = 16
"""Of at most 2 MB each: what an aggregator of four writes in three rounds."""


class _Spare(NamedTuple):
    path: Path
    inode: int
    collection: int
    """Number of the collection that brought it."""


class Spares:
    """The spares of one store; may be used from any thread."""

    def __init__(self, most_bytes: int) -> None:
        """Keep files of up to *most_bytes* each; there are none at first."""
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._spares: deque[_Spare] = deque()
        self._collection = 0
        self._readers: Counter[int] = Counter()
        """By inode."""

    def add(self, files: Iterable[Path]) -> list[Path]:
        """Take what a collection found; return what is too long or too many, for the caller to delete."""
        rest = []
        with self._lock:
            self._collection += 1
            for path in files:
                try:
                    status = path.stat()
                except OSError:
                    status = None
                if status is not None and self._is_of_use(status):
                    self._spares.append(_Spare(path, status.st_ino, self._collection))
                else:
                    rest.append(path)
        return rest

    def _is_of_use(self, status: os.stat_result) -> bool:
        is_short = stat.S_ISREG(status.st_mode) and status.st_size <= self._most_bytes
        return is_short and len(self._spares) < MAX_SPARES

    def take(self, to: Path) -> bool:
        """Move a spare to *to*, if there is one that can be written over; return whether there was."""
        with self._lock:
            for spare in self._spares:
                if spare.collection < self._collection and not self._readers[spare.inode]:
                    break
            else:
                return False
            self._spares.remove(spare)
        try:
            spare.path.replace(to)
        except OSError:
            return False  # somebody has cleaned up; a new file will do
        return True

    def drop(self) -> list[Path]:
        """Give all spares back, for the caller to delete."""
        with self._lock:
            files = [spare.path for spare in self._spares]
            self._spares.clear()
        return files

    @contextmanager
    def reading(self, file: FileIO) -> Iterator[None]:
        """Let nobody write over *file* meanwhile, should it become a spare."""
        inode = os.fstat(file.fileno()).st_ino
        with self._lock:
            self._readers[inode] += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers[inode] -= 1
                if not self._readers[inode]:
                    del self._readers[inode]
