from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from p2pfl.enrolment.members import known_members, merged, own_devices, who_is_at
from p2pfl.errors import NetworkError
from p2pfl.identity.authority import create_authority, issue, open_authority
from p2pfl.identity.credentials import load_credentials
from p2pfl.identity.known_peers import KnownPeer, save_known_peers
from p2pfl.net.transport.addresses import Address
from tests.support.federation import make_federation
from tests.support.meshes import Lab, lab


def peer(letter: str, at: float = 1.0) -> KnownPeer:
    return KnownPeer(letter * 52, f"peer-{letter}", ("192.0.2.7:9000",), at)


def test_own_devices_are_the_nodes_whose_keys_are_here(tmp_path: Path) -> None:
    create_authority(tmp_path, "lab")
    issue(tmp_path, "ant")
    issue(tmp_path, "desk", "operator")
    (issue(tmp_path, "elsewhere") / "node.key").unlink()
    (own,) = own_devices(tmp_path, "192.0.2.1", 9001)
    assert own_devices(tmp_path, "192.0.2.1", 0) == []
    assert (own.name, own.addresses) == ("ant", ("192.0.2.1:9001",))
    assert own.node == load_credentials(tmp_path, "ant").node_id


def test_known_members_are_those_of_every_device_here(tmp_path: Path) -> None:
    (tmp_path / "ant").mkdir()
    (tmp_path / "bee").mkdir()
    save_known_peers(tmp_path / "ant", [peer("a")])
    save_known_peers(tmp_path / "bee", [peer("b")])
    assert {one.name for one in known_members(tmp_path)} == {"peer-a", "peer-b"}


def test_each_node_is_named_once_as_it_was_met_last_and_not_to_itself() -> None:
    peers = [peer("a", 1.0), peer("b", 3.0), peer("a", 2.0), peer("c", 4.0)]
    assert merged(peers, own="c" * 52) == (peer("b", 3.0), peer("a", 2.0))
    elsewhere = msgspec.structs.replace(peer("a", 0.5), addresses=("192.0.2.7:9000", "192.0.2.9:9000"))
    assert merged([elsewhere, *peers])[2].addresses == ("192.0.2.7:9000", "192.0.2.9:9000")
    many = [
        KnownPeer(f"{number:052d}".translate(str.maketrans("0189", "abcd")), "x", (), number)
        for number in range(200)
    ]
    assert len(merged(many)) == 128


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Lab]:
    async with lab(tmp_path) as opened:
        yield opened


async def test_a_node_is_asked_who_it_is_by_its_certificate(world: Lab, tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "ca", "ant")
    node = await world.start(federation["ant"])
    address = Address("127.0.0.1", node.mesh.port)
    found = await who_is_at(address, open_authority(tmp_path / "ca"))
    assert (found.node, found.name, found.addresses) == (federation["ant"].node_id, "ant", (str(address),))
    create_authority(tmp_path / "other", "other")
    with pytest.raises(NetworkError, match="not of the federation 'other'"):
        await who_is_at(address, open_authority(tmp_path / "other"))
    shutil.rmtree(tmp_path / "other")


async def test_an_address_where_nobody_answers_is_named(tmp_path: Path) -> None:
    create_authority(tmp_path / "ca", "lab")
    with pytest.raises(NetworkError, match=r"No node answers at 127\.0\.0\.1:1"):
        await who_is_at(Address("127.0.0.1", 1), open_authority(tmp_path / "ca"))
