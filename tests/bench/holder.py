"""Serve a file to `bench_pull` from another process, in one of three ways.

`python -m tests.bench.holder mesh|ssl|plain CERTIFICATES BLOB` prints its port and serves one connection
after another until its standard input ends. "mesh" is the network of a node. "ssl" and "plain" send the
file's bytes from memory in a minimal loop over blocking sockets, as the upper limit of what the machine can
do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import sys
import tempfile
import threading
from pathlib import Path

from p2pfl.config import NetSettings
from p2pfl.identity.credentials import read_credentials
from p2pfl.net.transport import tasks
from tests.support.meshes import lab

CHUNK_BYTES = 1024 * 1024
"""Bytes sent or received in one call, as in `NetSettings.blob_chunk_bytes`."""


def serve_bare(certificates: Path | None, blob: Path) -> None:
    """Send the bytes of *blob* on every connection, over TLS 1.3 if there are *certificates*."""
    context = None
    if certificates is not None:
        credentials = read_credentials(certificates)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(credentials.certificate_path, credentials.key_path)
    data = memoryview(blob.read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            raw, _ = listening.accept()
            with contextlib.suppress(OSError), raw:
                connection = context.wrap_socket(raw, server_side=True) if context else raw
                connection.recv(1)
                for start in range(0, len(data), CHUNK_BYTES):
                    connection.sendall(data[start : start + CHUNK_BYTES])
                connection.recv(1)


async def serve_mesh(certificates: Path, blob: Path) -> None:
    """Run the network of a node that holds *blob*, whose name is its digest."""
    with tempfile.TemporaryDirectory(dir=blob.parent) as folder:
        async with lab(Path(folder)) as world:
            node = await world.start(read_credentials(certificates), settings=NetSettings())
            node.store.path(blob.name).hardlink_to(blob)
            print(node.mesh.port, flush=True)
            await asyncio.get_running_loop().create_future()


def end_with_input() -> None:
    """End this process when its parent closes the pipe or ends."""
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    kind, certificates, blob = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    threading.Thread(target=end_with_input, daemon=True).start()
    if kind == "mesh":
        tasks.run(serve_mesh(certificates, blob))
    else:
        serve_bare(certificates if kind == "ssl" else None, blob)


if __name__ == "__main__":
    main()
