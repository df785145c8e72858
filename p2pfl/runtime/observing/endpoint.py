"""The endpoint file in a data directory: how a local observer connects to the node that runs there.

A program that can read the file has the rights of the node's local user. The file has a token, new at each
start, and the folder of the node's certificate, which TLS requires of an observer. Only its owner can read
the file. The node deletes it at its end; the file of a killed node names a port that no process listens on.
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
    """The content of the endpoint file."""

    name: str
    node: str
    pid: int
    addresses: tuple[str, ...]
    """The addresses that the node listens on."""
    certs: str
    """The folder of the node's key and certificate."""
    token: str
    metrics: str = ""
    """Where the node's metrics are, as "http://127.0.0.1:9100/metrics"; empty without `--metrics`."""


@contextlib.contextmanager
def endpoint_file(path: Path, endpoint: Endpoint) -> Iterator[None]:
    """Write *endpoint* to the file *path*; delete the file at the end of the context.

    Raises:
        DataDirectoryError: a disk error.
    """
    with private_file(path, msgspec.json.encode(endpoint)):
        yield


@contextlib.contextmanager
def private_file(path: Path, content: bytes) -> Iterator[None]:
    """Write *content* to the file *path*, for its owner only; delete it at the end of the context.

    Raises:
        DataDirectoryError: a disk error.
    """
    half = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with disk_errors("write", path):
        descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, opened with a mode
            file.write(content)
        half.replace(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a remaining file does no harm: the port is closed
            path.unlink(missing_ok=True)


def read_endpoint(path: Path) -> Endpoint | None:
    """Return the content of the endpoint file *path*; None if it does not exist or cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Endpoint)
    except (OSError, msgspec.DecodeError):
        return None
