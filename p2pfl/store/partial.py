"""A blob on its way here: hashed and written as it arrives, complete under its name or not there at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from blake3 import blake3

from p2pfl.errors import BlobError
from p2pfl.store.durable import ahead_of_flush, disk_errors, flush
from p2pfl.store.hashing import pieces_of

Watch = Callable[[int, bytes | bytearray | memoryview], None]
"""Is shown a piece of a blob while it is in the processor's cache, and the offset of its first byte. What is
shown from offset 0 on again is another attempt. Called in whatever thread writes; must not raise."""


class PartialBlob:
    """A blob being pulled: hashed and written as it arrives, a blob only once `finish` has verified it.

    As a context manager it is closed at the end, and what has arrived is kept for the next attempt.
    """

    def __init__(
        self,
        path: Path,
        target: Path,
        length: int,
        enter: Callable[[Path], None],
        on_close: Callable[[], None],
        *,
        durable: bool,
        soon: bool = False,
        watch: Watch | None = None,
    ) -> None:
        """Go on with the file at *path*, if it is there.

        *target* is the blob's path. *enter* gives the complete file that name, once it is flushed if it is to
        be *durable*. *soon* tells that it is to be durable soon after: its bytes are begun to be flushed.
        *watch* is shown all bytes of the blob in their order, those that are here first.
        """
        self._path = path
        self._target = target
        self._enter, self._on_close = enter, on_close
        self.length = length
        """Bytes of the whole blob; no more are ever written."""
        self.offset = 0
        """Bytes here so far: where the next `write` goes, and where a peer is asked to begin."""
        self.is_durable = durable
        """Whether `finish` returns only when it is on disk."""
        self._hasher = blake3()
        self._watch = watch
        with disk_errors("write", path):
            # "a" creates without truncating; unbuffered, since pieces come in large.
            self._file: FileIO | None = path.open("a+b", buffering=0)
            try:
                self._take_up(self._file)
            except BaseException:
                self._file.close()
                raise
            has_to_flush = durable or soon
            self._ahead = ahead_of_flush(self._file.fileno(), self.offset, length) if has_to_flush else None

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """Append *piece*.

        Raises:
            BlobError: more bytes than the blob's length; nothing of *piece* is written.
            DataDirectoryError: the disk refused, for example because it is full.
        """
        file = self._opened()
        if self.offset + len(piece) > self.length:
            raise BlobError(
                f"blob {self._target.name} is longer than announced: {self.length} bytes expected, "
                f"{self.offset + len(piece)} received"
            )
        self._look_at(piece)
        view = memoryview(piece)
        with disk_errors("write", self._path):
            while view:
                written = file.write(view)
                self.offset += written
                if self._ahead is not None:
                    self._ahead.wrote(written)
                view = view[written:]

    def finish(self) -> None:
        """Verify the blob, make it one under its digest, durably if it is to be, and close.

        Raises:
            BlobError: bytes are missing (what is here is kept for the next attempt), or the digest is wrong
                (it is deleted).
            DataDirectoryError: the disk refused.
        """
        file = self._opened()
        if self.offset != self.length:
            raise BlobError(
                f"blob {self._target.name} is incomplete: {self.offset} of {self.length} bytes are here"
            )
        found = self._hasher.hexdigest()
        if found != self._target.name:
            self.discard()
            raise BlobError(f"blob {self._target.name} arrived with other bytes: their digest is {found}")
        try:
            with disk_errors("keep the blob", self._target):
                if self._ahead is not None:
                    self._ahead.join()
                if self.is_durable:
                    flush(file.fileno())
                file.close()  # before the rename: Windows does not rename open files
                self._enter(self._path)
        finally:
            self.close()

    def close(self) -> None:
        """Stop here and keep what has arrived for the next attempt. Does nothing the second time."""
        if self._file is None:
            return
        try:
            # What could not be flushed is only a partial: the next attempt hashes it again.
            with suppress(OSError):
                if self._ahead is not None:
                    self._ahead.join()
            self._file.close()
        finally:
            self._file = None
            self._on_close()

    def discard(self) -> None:
        """Close and delete what has arrived."""
        self.close()
        with disk_errors("delete", self._path):
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> FileIO:
        if self._file is None:
            raise ValueError(f"the pull of blob {self._target.name} is closed")
        return self._file

    def _take_up(self, file: FileIO) -> None:
        """Hash what an earlier attempt left; begin anew where that is more than the blob can have."""
        size = os.fstat(file.fileno()).st_size
        if size > self.length:
            file.truncate(0)
        if not 0 < size <= self.length:
            return
        file.seek(0)
        for piece in pieces_of(file):
            self._look_at(piece)
            self.offset += len(piece)

    def _look_at(self, piece: bytes | bytearray | memoryview) -> None:
        """Hash and show *piece*, which begins at `offset`."""
        self._hasher.update(piece)
        if self._watch is not None:
            self._watch(self.offset, piece)
