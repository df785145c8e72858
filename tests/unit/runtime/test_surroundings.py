from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from p2pfl.events import AddressStates, AnyEvent, Notice, PeerLinked, Published
from p2pfl.identity.known_peers import KnownPeer, read_known_peers
from p2pfl.net.mesh import Mesh
from p2pfl.net.transport.addresses import Address
from p2pfl.runtime.expectation import NOBODY, Expectation
from p2pfl.runtime.node_config import LanSettings
from p2pfl.runtime.surroundings import Surroundings
from tests.support.federation import make_federation

BEN = "b" * 52
MET = KnownPeer(BEN, "ben", ("192.0.2.7:9000", "not an address::"), time.time())


class World:
    def __init__(self, folder: Path, earlier: Sequence[KnownPeer] = (), *, has_mdns: bool = False) -> None:
        [ada] = make_federation(folder / "ca", "ada").values()
        self.folder = ada.directory
        self.known: list[tuple[str, str, Sequence[Address]]] = []
        self.published: list[AnyEvent] = []
        self.now = 0.0
        known = {peer.node: peer for peer in earlier}
        self.expectation = Expectation(listed=1, known=known, has_mdns=has_mdns, clock=lambda: self.now)
        mesh = SimpleNamespace(
            port=9000,
            contacts=[],
            links=dict,
            know=lambda *one: self.known.append(one),
            known_addresses=lambda _: [Address("192.0.2.8", 9000)],
        )
        self.surroundings = Surroundings(
            ada,
            cast(Mesh, mesh),
            self.published.append,
            LanSettings(is_on=has_mdns),
            self.expectation,
            known,
            is_watched=lambda: False,
        )

    @property
    def told(self) -> list[str]:
        return [one.text for one in self.published if isinstance(one, Notice)]


def test_nodes_met_before_are_dialled_and_awaited_by_name(tmp_path: Path) -> None:
    world = World(tmp_path, [MET])
    assert world.known == [(BEN, "ben", [Address("192.0.2.7", 9000)])]
    world.surroundings.tell_whom_it_awaits()
    assert world.told == [
        "waits for the nodes that this device knows: ben (to start with fewer, give --min-nodes; "
        "`p2pfl peers forget NAME` removes one)"
    ]


def test_of_many_awaited_nodes_some_are_named(tmp_path: Path) -> None:
    peers = [KnownPeer(letter * 52, f"node-{letter}", ("x",), 1.0) for letter in "abcdefghijk"]
    world = World(tmp_path, peers)
    world.surroundings.tell_whom_it_awaits()
    assert "node-a, node-b, node-c, node-d, node-e, node-f, node-g, node-h and 3 more (" in world.told[0]


@pytest.mark.parametrize("is_waiting", [True, False])
def test_that_nobody_was_found_is_told_while_it_waits(tmp_path: Path, is_waiting: bool) -> None:
    world = World(tmp_path, has_mdns=True)
    world.surroundings.tell_whom_it_awaits()
    world.now = 1e9
    assert not world.surroundings.update(is_waiting=is_waiting)
    assert world.told == ([NOBODY] if is_waiting else [])
    assert not any(isinstance(one, AddressStates) for one in world.published), "there are none"


async def test_whom_it_met_is_saved_at_the_end(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.surroundings.start()
    world.surroundings.met.write(Published(1, 0.0, PeerLinked(BEN, "ben", "192.0.2.8:9000")))
    await world.surroundings.close()
    assert read_known_peers(world.folder)[BEN].addresses == ("192.0.2.8:9000",)
