"""Data sets from the internet, by torchvision's own downloaders: they know the mirrors and the checksums.

A download goes to a folder of its own beside where the files shall be, and each file is moved into place when
all are whole: nobody, and no second node on this machine, can take a half-written one for a data set.
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
"""A server that says nothing for so long is given up: torchvision would wait for ever."""

REPORT_SECONDS = 5.0
"""Between two lines about a download: each becomes a line in the node's log."""

MAX_CAUSE = 120
"""Characters of what torchvision says: a worker's whole reason may have 300, and what to do matters more."""


def obtain(task: str, source: DataSet, places: DataPlaces) -> tuple[Path, ...]:
    """Return the paths of the files of *source* as `locate` does; download them first if that is allowed.

    Raises:
        TaskError: they are not here, or cannot be downloaded.
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
    """Download the files of *source*, the data of *task*, to where torchvision has them below *root*.

    Raises:
        TaskError: the network, the server or the disk does not allow it.
    """
    from torchvision import datasets  # two seconds and 165 MB, once in the life of a data set

    sys.stderr.write(f"downloading the data of {task} to {root}\n")
    sys.stderr.flush()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as scratch:
            with _patience(), _brief_progress():
                # It fetches, compares checksums, and only then reads what it fetched.
                getattr(datasets, source.torchvision)(scratch, download=True)
            _move(Path(scratch) / source.folder, root / source.folder)
    # What torchvision lets through: the network and the disk (OSError, HTTPException), a wrong checksum or no
    # mirror (RuntimeError), a damaged archive (the others).
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
    """Return why a download failed, briefly: torchvision lists every mirror, with the cause behind each."""
    text = " ".join(str(error).split())
    named = re.findall(r"<urlopen error (.*?)>", text)
    cause = str(named[-1] if named else text or type(error).__name__)
    return re.sub(r"^\[Errno -?\d+\] ", "", cause)[:MAX_CAUSE]


def _move(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        path.replace(target / path.name)


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Bound the silence of sockets made meanwhile."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def _brief_progress() -> Iterator[None]:
    """Let the progress bars drawn meanwhile write a line now and then."""
    brief = BriefProgress(sys.stderr)
    with contextlib.redirect_stderr(brief), contextlib.redirect_stdout(brief):
        yield


class BriefProgress(io.TextIOBase):
    """Takes what redraws itself over and over, and passes on a line every `REPORT_SECONDS`."""

    def __init__(self, sink: TextIO | None) -> None:
        self._sink = sink
        self._next = time.monotonic() + REPORT_SECONDS

    def write(self, text: str) -> int:
        """Pass *text* on as a line of its own, or drop it."""
        line, now = text.strip(), time.monotonic()
        if line and self._sink is not None and now >= self._next:
            self._next = now + REPORT_SECONDS
            self._sink.write(f"{line}\n")
            self._sink.flush()
        return len(text)
