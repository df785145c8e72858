from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from p2pfl.net.addresses import Address
from p2pfl.net.dialler import Dialler
from tests.support.meshes import FAST, WAIT_SECONDS

OWN, ANT, BEE = "own", "ant", "bee"
HERE, THERE = Address("here", 1), Address("there", 1)


class Network:
    """Says who answers at which address, and remembers the dials."""

    def __init__(self) -> None:
        self.answers: dict[Address, str] = {}
        self.book: dict[str, list[Address]] = {}
        self.linked: set[str] = set()
        self.dials: list[tuple[Address, str | None]] = []
        self._dialled = asyncio.Event()
        self.dialler = Dialler(
            self.attempt, lambda node: self.book[node], lambda node: node in self.linked, OWN, FAST
        )

    async def attempt(self, address: Address, expected: str | None) -> str | None:
        self.dials.append((address, expected))
        self._dialled.set()
        node = self.answers.get(address)
        if node is not None and node != OWN and expected in (None, node):
            self.linked.add(node)
        return node

    async def until_dialled(self, times: int) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.dials) < times:
                self._dialled.clear()
                await self._dialled.wait()

    def lose(self, node: str) -> None:
        self.linked.discard(node)
        self.dialler.lost(node)


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    made = Network()
    yield made
    await made.dialler.close()


async def test_an_address_where_nobody_answers_is_dialled_again(network: Network) -> None:
    network.dialler.add_listed(HERE)
    await network.until_dialled(3)
    assert set(network.dials) == {(HERE, None)}


async def test_a_linked_node_is_dialled_only_when_its_link_is_lost(network: Network) -> None:
    network.answers[HERE] = ANT
    network.dialler.add_listed(HERE)
    network.dialler.add_listed(THERE)
    await network.until_dialled(10)
    assert network.dials.count((HERE, None)) == 1
    network.lose(ANT)
    await network.until_dialled(len(network.dials) + 10)
    assert network.dials.count((HERE, None)) == 2


async def test_ones_own_address_is_dialled_once(network: Network) -> None:
    network.answers[HERE] = OWN
    network.dialler.add_listed(HERE)
    network.dialler.add_listed(THERE)
    await network.until_dialled(10)
    assert network.dials.count((HERE, None)) == 1


async def test_a_node_is_tried_at_all_its_addresses_in_turn(network: Network) -> None:
    network.book[BEE] = [HERE, THERE]
    network.answers = {HERE: ANT, THERE: BEE}
    network.dialler.add_node(BEE)
    await network.until_dialled(2)
    assert network.dials == [(HERE, BEE), (THERE, BEE)]
    assert BEE in network.linked


async def test_a_node_told_of_twice_has_one_task(network: Network) -> None:
    network.book[BEE] = [HERE]
    network.answers[HERE] = BEE
    network.dialler.add_node(BEE)
    network.dialler.add_node(BEE)
    await network.until_dialled(1)
    network.lose(BEE)
    await network.until_dialled(2)
    assert len(network.dials) == 2


async def test_a_hurry_cuts_the_wait_short(network: Network) -> None:
    patient = msgspec.structs.replace(FAST, redial_first_seconds=1000.0, redial_most_seconds=1000.0)
    dialler = Dialler(network.attempt, lambda _: [HERE], lambda node: node in network.linked, OWN, patient)
    dialler.add_listed(HERE)
    await network.until_dialled(1)
    dialler.hurry()
    await network.until_dialled(2)
    await dialler.close()
    assert len(network.dials) >= 2
