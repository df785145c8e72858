"""Measure the rate of a verified and durable pull of a blob, against bare sockets.

Holder and puller are two processes. A pull is that of a node: mutual TLS, asyncio, BLAKE3, file, `fsync`,
rename. The bare pairs copy the same bytes from memory to memory over blocking sockets, in turns with the
pulls, so other load on the machine affects all alike. Their TLS is the same, and their handshake is not
counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3

from p2pfl.config import NetSettings
from p2pfl.identity.credentials import Credentials
from p2pfl.net.bulk.request import PullRequest
from p2pfl.net.transport import tasks
from tests.bench.command_line import Settings, run
from tests.bench.holder import CHUNK_BYTES
from tests.bench.report import Figure
from tests.support.federation import make_federation
from tests.support.meshes import Node, lab
from tests.support.source import ROOT

BLOB_BYTES = 400_000_000
"""A model of 100 M parameters."""

QUICK_BYTES = 100_000_000


def measure(settings: Settings) -> Iterator[Figure]:
    """Yield the rates of pulls and of bare pairs, and their ratio."""
    length, times = (QUICK_BYTES, 3) if settings.is_quick else (BLOB_BYTES, 5)
    seconds = tasks.run(measure_all(settings.folder, length, times))
    rates = {kind: length / 1e6 / statistics.median(taken) for kind, taken in seconds.items()}
    ratio = statistics.median(bare / pull for bare, pull in zip(seconds["ssl"], seconds["mesh"], strict=True))
    note = f"{length // 1_000_000} MB, median of {times}"
    yield Figure("bare blocking socket pair", rates["plain"], "MB/s", note=note)
    yield Figure("bare blocking ssl pair", rates["ssl"], "MB/s", note=note)
    yield Figure("pull, verified and durable", rates["mesh"], "MB/s", note=note)
    yield Figure("pull against the bare ssl pair", ratio, "", 0.5, ">=", note="median of the turns' ratios")


async def measure_all(folder: Path, length: int, times: int) -> dict[str, list[float]]:
    """Return the seconds of each transfer by kind, one for each turn after the warm-up."""
    federation = make_federation(folder / "ca", "holder", "puller")
    blob = make_blob(folder, length)
    seconds: dict[str, list[float]] = {"mesh": [], "ssl": [], "plain": []}
    async with contextlib.AsyncExitStack() as stack:
        ports = {kind: stack.enter_context(holder(kind, folder, blob)) for kind in seconds}
        world = await stack.enter_async_context(lab(folder / "puller"))
        puller = await world.start(
            federation["puller"], [f"127.0.0.1:{ports['mesh']}"], settings=NetSettings()
        )
        await puller.told.until(lambda told: bool(told.names))
        for turn in range(times + 1):
            taken = {
                "mesh": await pull(puller, blob, length, federation["holder"]),
                "ssl": await asyncio.to_thread(receive, ports["ssl"], length, encrypted=True),
                "plain": await asyncio.to_thread(receive, ports["plain"], length, encrypted=False),
            }
            if turn:
                for kind, one in taken.items():
                    seconds[kind].append(one)
    return seconds


def make_blob(folder: Path, length: int) -> Path:
    """Write a file of random bytes, named by its digest."""
    piece = os.urandom(CHUNK_BYTES)
    path, hasher = folder / "blob", blake3()
    with path.open("wb") as file:
        for start in range(0, length, CHUNK_BYTES):
            part = piece[: length - start]
            file.write(part)
            hasher.update(part)
        file.flush()
        os.fsync(file.fileno())
    return path.rename(folder / hasher.hexdigest())


@contextlib.contextmanager
def holder(kind: str, folder: Path, blob: Path) -> Iterator[int]:
    """Run a holder (see `tests.bench.holder`); yield its port."""
    command = [sys.executable, "-m", "tests.bench.holder", kind, str(folder / "ca" / "holder"), str(blob)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


async def pull(puller: Node, blob: Path, length: int, holder: Credentials) -> float:
    """Pull *blob* once; return the seconds until it is durable."""
    began = time.perf_counter()
    await puller.mesh.pull(PullRequest(blob.name, length, [holder.node_id]))
    taken = time.perf_counter() - began
    puller.store.path(blob.name).unlink()
    return taken


def receive(port: int, length: int, *, encrypted: bool) -> float:
    """Receive *length* bytes over a bare connection into one reused buffer; return the seconds."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    with socket.create_connection(("127.0.0.1", port)) as raw:
        connection: socket.socket = raw
        if encrypted:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = context.wrap_socket(raw)
        with connection:
            began = time.perf_counter()
            connection.sendall(b"x")
            missing = length
            while missing:
                missing -= connection.recv_into(buffer[: min(missing, CHUNK_BYTES)])
            return time.perf_counter() - began


if __name__ == "__main__":
    run("pull", measure)
