"""The file in a data directory that says how to watch the node that runs on it.

Who can read it is the local user of that node: it holds a token, new at each start, and where the node's own
certificate lies, without which TLS lets nobody in. It is readable by its owner only, and removed at the end;
one that a killed node left behind leads to a port where nobody answers.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec

from p2pfl.store.durable import disk_errors


class Endpoint(msgspec.Struct, frozen=True):
    """What the file says."""

    name: str
    node: str
    pid: int
    addresses: tuple[str, ...]
    """What the node listens on."""
    certs: str
    """The folder with its key and certificate."""
    token: str


@contextlib.contextmanager
def invite(path: Path, endpoint: Endpoint) -> Iterator[None]:
    """Have *invitation* at *path* meanwhile.

    Raises:
        DataDirectoryError: the disk refused.
    """
    half = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with disk_errors("write", path):
        descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, for its mode
            file.write(msgspec.json.encode(endpoint))
        half.replace(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # it leads nowhere from now on
            path.unlink(missing_ok=True)


def read_endpoint(path: Path) -> Endpoint | None:
    """Return what the file at *path* says; None where there is none, or none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Endpoint)
    except (OSError, msgspec.DecodeError):
        return None
