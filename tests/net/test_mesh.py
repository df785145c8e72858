"""Meshes on loopback: all nodes become linked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from p2pfl.errors import CredentialsError
from p2pfl.identity.authority import renew
from p2pfl.identity.credentials import read_certificate, read_credentials
from p2pfl.net.transport.tls import client_context
from tests.support.federation import make_federation
from tests.support.meshes import Recorder, lab


def is_linked_to(names: set[str]) -> Callable[[Recorder], bool]:
    return lambda told: told.names == names


@pytest.mark.parametrize("size", [2, 3, 5])
async def test_one_reachable_address_is_enough_to_link_all_nodes(tmp_path: Path, size: int) -> None:
    names = [f"n{number}" for number in range(size)]
    federation = make_federation(tmp_path / "ca", *names)
    async with lab(tmp_path) as world:
        first = await world.start(federation["n0"])
        nodes = [first] + [await world.start(federation[name], [first.address]) for name in names[1:]]
        for node in nodes:
            await node.told.until(is_linked_to(set(names) - {node.credentials.name}))
        for node in nodes:
            assert [what for what, _ in node.told.history] == ["linked"] * (size - 1)
            assert node.told.refusals == []


async def test_a_renewed_certificate_is_shown_in_new_handshakes_and_links_live_on(tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "ca", "ant", "bee", "cat")
    async with lab(tmp_path) as world:
        ant = await world.start(federation["ant"])
        bee = await world.start(federation["bee"], [ant.address])
        await bee.told.until(lambda told: told.names == {"ant"})
        for node in (ant, bee):
            fresh = read_credentials(renew(tmp_path / "ca", node.credentials.name, days=500))
            node.mesh.use(fresh)
        cat = await world.start(federation["cat"], [ant.address])
        await cat.told.until(lambda told: told.names == {"ant", "bee"})
        await ant.told.until(lambda told: told.names == {"bee", "cat"})
        await bee.told.until(lambda told: told.names == {"ant", "cat"})
        assert [what for what, _ in (*ant.told.history, *bee.told.history)] == ["linked"] * 4
        host, port = ant.address.rsplit(":", 1)
        _, writer = await asyncio.open_connection(host, port, ssl=client_context(federation["cat"]))
        shown = x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(True))
        writer.transport.abort()
        assert shown == read_certificate(tmp_path / "ca" / "ant" / "node.crt")


async def test_a_certificate_that_cannot_be_used_leaves_the_one_in_use(tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "ca", "ant", "bee")
    async with lab(tmp_path) as world:
        ant = await world.start(federation["ant"])
        with pytest.raises(CredentialsError):
            ant.mesh.use(replace(federation["ant"], key_path=federation["bee"].key_path))
        bee = await world.start(federation["bee"], [ant.address])
        await bee.told.until(lambda told: told.names == {"ant"})
