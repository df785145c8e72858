"""Download data sets with torchvision's downloaders, which know the mirrors and the checksums.

A download goes to a temporary folder on the same disk. The files are moved to their place when all of them
are complete, so another node on this machine never reads an incomplete file.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import socket
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from p2pfl.errors import TaskError
from p2pfl.learning.data import DataPlaces, DataSet, default_root, locate

SILENCE_SECONDS = 30.0
"""Socket timeout of a download. torchvision sets none and would wait for ever for a silent server."""

REPORT_SECONDS = 5.0
"""Least time between two progress lines: each becomes a line in the node's log."""

MAX_CAUSE_CHARS = 120
"""Most characters of torchvision's message in ours. A worker's message has at most 300 characters, and the
advice in it matters more."""


def obtain(task: str, source: DataSet, places: DataPlaces) -> tuple[Path, ...]:
    """Return the paths of the files of *source* as `locate` does; download missing ones if allowed.

    Raises:
        TaskError: files are missing and may not, or cannot, be downloaded.
    """
    try:
        return locate(task, source, places)
    except TaskError:
        if not places.download:
            raise
    root = places.root or default_root()
    if root is None:
        raise TaskError(
            f"The data of the task {task!r} cannot be downloaded: this user has no home folder to keep them "
            "in; give a folder with --data-root."
        )
    fetch(task, source, root)
    return locate(task, source, places)


def fetch(task: str, source: DataSet, root: Path) -> None:
    """Download the files of *source*, the data of *task*, to *root*, in torchvision's layout.

    Raises:
        TaskError: the network, the server or the disk fails.
    """
    from torchvision import datasets  # here, since this import takes two seconds and 165 MB

    sys.stderr.write(f"downloading the data of {task} to {root}\n")
    sys.stderr.flush()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as scratch:
            with _socket_timeout(), _throttled_progress():
                # The constructor downloads, verifies the checksums, and then reads the files.
                getattr(datasets, source.torchvision)(scratch, download=True)
            _move(Path(scratch) / source.folder, root / source.folder)
    # What torchvision raises: failures of network and disk (OSError, HTTPException), a wrong checksum or no
    # reachable mirror (RuntimeError), a damaged archive (the others).
    except (
        OSError,
        http.client.HTTPException,
        RuntimeError,
        EOFError,
        zlib.error,
        tarfile.TarError,
    ) as error:
        raise TaskError(
            f"The data of the task {task!r} could not be downloaded to {root}; check the network, or copy "
            f"them from another device ({cause_of(error)})."
        ) from error


def cause_of(error: BaseException) -> str:
    """Return the cause of a failed download in brief.

    torchvision's message lists every mirror with its cause.
    """
    text = " ".join(str(error).split())
    named = re.findall(r"<urlopen error (.*?)>", text)
    cause = str(named[-1] if named else text or type(error).__name__)
    return re.sub(r"^\[Errno -?\d+\] ", "", cause)[:MAX_CAUSE_CHARS]


def _move(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        path.replace(target / path.name)


@contextlib.contextmanager
def _socket_timeout() -> Iterator[None]:
    """Give a timeout to all sockets that are created inside this context."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def _throttled_progress() -> Iterator[None]:
    """Throttle the output of progress bars that are drawn inside this context."""
    throttled = ThrottledProgress(sys.stderr)
    with contextlib.redirect_stderr(throttled), contextlib.redirect_stdout(throttled):
        yield


class ThrottledProgress(io.TextIOBase):
    """A stream for a progress bar: writes its latest state to *sink* at most once in `REPORT_SECONDS`."""

    def __init__(self, sink: TextIO | None) -> None:
        self._sink = sink
        self._next = time.monotonic() + REPORT_SECONDS

    def write(self, text: str) -> int:
        """Write *text* as a line of its own, or drop it."""
        line, now = text.strip(), time.monotonic()
        if line and self._sink is not None and now >= self._next:
            self._next = now + REPORT_SECONDS
            self._sink.write(f"{line}\n")
            self._sink.flush()
        return len(text)
