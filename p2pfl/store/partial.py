"""A partial blob: hashed and written while it is pulled, and a blob only once it is complete and verified."""

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
from p2pfl.store.durable import disk_errors, flush, flush_ahead
from p2pfl.store.hashing import pieces_of

PieceWatcher = Callable[[int, bytes | bytearray | memoryview], None]
"""Gets the offset of a piece of a blob, and the piece, while it is in the processor's cache. Offset 0 again
means another attempt. Called in the thread that writes; must not raise."""


class PartialBlob:
    """A blob that is being pulled; `finish` verifies it and makes it a blob.

    As a context manager it is closed at the end, and the bytes so far are kept for the next attempt.
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
        watch: PieceWatcher | None = None,
    ) -> None:
        """Continue the file at *path*, if it exists.

        *target* is the blob's path. *enter* gives the complete file that name, once it is flushed if it is to
        be *durable*. *soon* tells that it becomes durable soon after: its bytes are flushed ahead.
        *watch* gets all bytes of the blob in order, beginning with those of earlier attempts.
        """
        self._path = path
        self._target = target
        self._enter, self._on_close = enter, on_close
        self.length = length
        """Bytes of the whole blob; no more are ever written."""
        self.offset = 0
        """Number of bytes so far: the position of the next `write`, and the offset to request from a peer."""
        self.is_durable = durable
        """Whether the blob is on disk when `finish` returns."""
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
            self._ahead = flush_ahead(self._file.fileno(), self.offset, length) if has_to_flush else None

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
        """Verify the blob, give the file its name, durably if it is to be durable, and close.

        Raises:
            BlobError: bytes are missing (those so far are kept for the next attempt), or the digest is wrong
            (the file is
                deleted).
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
        """Close, and keep the bytes so far for the next attempt. Does nothing the second time."""
        if self._file is None:
            return
        try:
            # A failed flush does not matter here: the next attempt hashes the bytes again.
            with suppress(OSError):
                if self._ahead is not None:
                    self._ahead.join()
            self._file.close()
        finally:
            self._file = None
            self._on_close()

    def discard(self) -> None:
        """Close, and delete the bytes so far."""
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
        """Hash the bytes of an earlier attempt; begin again if there are more than the blob has."""
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
        """Hash *piece*, which begins at `offset`, and give it to the watcher."""
        self._hasher.update(piece)
        if self._watch is not None:
            self._watch(self.offset, piece)
