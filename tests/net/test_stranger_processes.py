"""Connections from outside the federation to running node processes: each is ended, and the run continues."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pfl import events
from p2pfl.identity.authority import create_authority, issue
from p2pfl.identity.credentials import read_credentials
from p2pfl.net.transport.tls import client_context
from tests.support.processes import LIGHT, PATIENCE_SECONDS, Process, address_of, digests, fleet

pytestmark = [pytest.mark.processes, pytest.mark.long, pytest.mark.xdist_group("strangers")]


def refused_for(words: str) -> Callable[[events.PeerRefused | events.AddressFailed], bool]:
    return lambda event: words in event.reason


async def say(process: Process, data: bytes, context: ssl.SSLContext | None = None) -> None:
    """Connect to *process*, send *data*, and read until it has closed the connection."""
    host, _, port = address_of(process).rpartition(":")
    async with asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        try:
            writer.write(data)
            while await reader.read(65536):
                pass
        except OSError:  # reset: it did not care to read all
            pass
        finally:
            writer.transport.abort()


async def test_strangers_end_their_own_connections_and_the_run_completes(tmp_path: Path) -> None:
    async with fleet(tmp_path) as nodes:
        create_authority(tmp_path / "foreign", "fleet")
        foreign = issue(tmp_path / "foreign", "dog")
        members = await nodes.start_all(
            "ada", "ben", "cleo", options=["--rounds=4", "--pace=1"], program=LIGHT
        )
        ada = members[0]
        await ada.until(events.RunJoined)

        dog = await nodes.start("dog", "--min-nodes=2", peers=[ada], certs=foreign, program=LIGHT)
        member = client_context(read_credentials(nodes.folder / "certs" / "ben"))
        await say(ada, b"GET / HTTP/1.1\r\nHost: ada\r\n\r\n")
        await say(ada, random.Random(7).randbytes(1024 * 1024))
        await say(ada, b"\xff" * 4, member)

        for words in ("another CA", "does not speak TLS", "a frame of 4294967295 bytes was announced"):
            await ada.until(events.PeerRefused, refused_for(words))
        await dog.until(events.AddressFailed, refused_for("another CA"))
        assert [await process.exit_code() for process in members] == [0, 0, 0]
        rows = nodes.rounds("ada", "ben", "cleo")
        assert {len(journal) for journal in rows.values()} == {5}
        assert {len(row.updates) for row in rows["ada"][:4]} == {3}
        assert all(len(found) == 1 for found in digests(rows).values())
        assert "Traceback" not in ada.output
