from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import msgspec
import pytest

from p2pfl.config import NetSettings
from p2pfl.errors import NetworkError, VersionRefused
from p2pfl.net.dialling.dialler import MAX_FOUND, Dialler, FoundService, TargetKey, next_delay
from p2pfl.net.transport.addresses import Address
from tests.support.meshes import FAST, WAIT_SECONDS, until

OWN, ANT, BEE = "own", "ant", "bee"
HERE, THERE = Address("here", 1), Address("there", 1)


class Network:
    """Defines which node answers at which address, and records the dials."""

    def __init__(self, settings: NetSettings = FAST) -> None:
        self.answers: dict[Address, str] = {}
        self.other_version: Address | None = None
        """The address of a node whose version does not fit."""
        self.error: Exception | None = None
        self.forgotten: list[str] = []
        self.book: dict[str, list[Address]] = {}
        self.linked: set[str] = set()
        self.dials: list[tuple[Address, str | None]] = []
        self.outcomes: list[tuple[TargetKey, str]] = []
        """By target, the node that was reached, or why nobody was."""
        self.delays: list[float] = []
        self.begun: list[tuple[TargetKey, int]] = []
        """By target, how many dials there were before."""
        self._dialled = asyncio.Event()
        self.dialler = Dialler(
            self.attempt,
            lambda node: self.book[node],
            lambda node: node in self.linked,
            OWN,
            settings,
            self,
            self.forgotten.append,
        )

    def begins(self, key: TargetKey) -> None:
        self.begun.append((key, len(self.dials)))

    def reached(self, key: TargetKey, node: str) -> None:
        self.outcomes.append((key, node))

    def failed(self, key: TargetKey, address: Address, error: NetworkError, delay: float) -> None:
        self.outcomes.append((key, f"{address}: {error}"))
        self.delays.append(delay)

    async def attempt(self, address: Address, expected: str | None) -> str:
        self.dials.append((address, expected))
        self._dialled.set()
        if self.error is not None:
            raise self.error
        if address == self.other_version:
            raise VersionRefused("It shares no version of the protocol with this device.")
        node = self.answers.get(address)
        if node is None:
            raise NetworkError("nobody is there")
        if node != OWN and expected in (None, node):
            self.linked.add(node)
        return node

    async def until_dialled(self, times: int) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.dials) < times:
                self._dialled.clear()
                await self._dialled.wait()

    def lose(self, node: str) -> None:
        self.linked.discard(node)
        self.dialler.link_lost(node)


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    made = Network()
    yield made
    await made.dialler.close()


async def test_an_address_without_an_answer_is_dialled_again(network: Network) -> None:
    network.dialler.add_listed(HERE)
    await network.until_dialled(3)
    assert set(network.dials) == {(HERE, None)}
    assert network.begun[:3] == [(HERE, 0), (HERE, 1), (HERE, 2)]


def dial_times(until_seconds: float, *, is_unproven: bool = False) -> list[float]:
    """When a target is dialled that never answers."""
    settings = NetSettings()
    times, delay = [0.0], settings.redial_first_seconds
    while times[-1] < until_seconds:
        times.append(times[-1] + delay)
        delay = next_delay(delay, times[-1], settings, is_unproven=is_unproven)
    return times


def test_a_device_that_starts_within_half_a_minute_is_dialled_half_a_second_later() -> None:
    times = dial_times(120.0)
    waits = [(before, after - before) for before, after in pairwise(times)]
    assert max(wait for begin, wait in waits if begin < 29.5) == pytest.approx(0.5)
    assert [wait for _, wait in waits][-3:] == pytest.approx([5.0, 5.0, 5.0])


def test_a_node_that_only_a_peer_named_is_not_dialled_often() -> None:
    times = dial_times(30.0, is_unproven=True)
    assert len(times) == NetSettings().max_unproven_tries + 1


async def test_a_linked_node_is_dialled_only_after_its_link_is_lost(network: Network) -> None:
    network.answers[HERE] = ANT
    network.dialler.add_listed(HERE)
    network.dialler.add_listed(THERE)
    await network.until_dialled(10)
    assert network.dials.count((HERE, None)) == 1
    network.lose(ANT)
    await network.until_dialled(len(network.dials) + 10)
    assert network.dials.count((HERE, None)) == 2


async def test_the_own_address_is_dialled_once(network: Network) -> None:
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


async def test_a_node_named_twice_has_one_task(network: Network) -> None:
    network.book[BEE] = [HERE]
    network.answers[HERE] = BEE
    network.dialler.add_node(BEE)
    network.dialler.add_node(BEE)
    await network.until_dialled(1)
    network.lose(BEE)
    await network.until_dialled(2)
    assert len(network.dials) == 2


async def test_dial_now_ends_the_wait(network: Network) -> None:
    patient = msgspec.structs.replace(FAST, redial_first_seconds=1000.0, redial_max_seconds=1000.0)
    dialler = Dialler(
        network.attempt, lambda _: [HERE], lambda node: node in network.linked, OWN, patient, network
    )
    dialler.add_listed(HERE)
    await network.until_dialled(1)
    dialler.dial_now()
    await network.until_dialled(2)
    await dialler.close()
    assert len(network.dials) >= 2


async def test_dial_now_dials_once() -> None:
    network = Network(msgspec.structs.replace(FAST, redial_first_seconds=1000.0, redial_max_seconds=1000.0))
    network.dialler.add_listed(HERE)
    await until(lambda: len(network.delays) == 1)
    network.dialler.dial_now()
    for port in range(2, 10):  # each after the one before: time for another dial of HERE
        network.dialler.add_listed(Address("there", port))
        await until(lambda: network.dials[-1][0].port == port)  # noqa: B023  awaited at once
    assert network.dials.count((HERE, None)) == 2
    await network.dialler.close()


@pytest.mark.parametrize("error", [OSError(97, "Address family not supported"), RuntimeError("ours")])
async def test_unexpected_errors_do_not_stop_dialling_and_are_logged_once(
    network: Network, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    network.error = error
    network.dialler.add_listed(HERE)
    await network.until_dialled(3)
    network.error, network.answers[HERE] = None, ANT
    await until(lambda: ANT in network.linked)
    assert [record.getMessage() for record in caplog.records] == [
        "an error in dialling here:1; it is retried"
    ]


async def test_a_node_of_another_version_is_dialled_seldom() -> None:
    network = Network(msgspec.structs.replace(FAST, redial_version_seconds=1000.0))
    network.other_version = HERE
    network.dialler.add_listed(HERE)
    network.dialler.add_listed(THERE)
    await network.until_dialled(10)
    assert network.dials.count((HERE, None)) == 1
    network.dialler.dial_now()
    await until(lambda: network.dials.count((HERE, None)) == 2)
    await network.dialler.close()


async def test_a_node_of_another_version_is_dialled_again_and_linked_once_it_is_upgraded() -> None:
    network = Network(msgspec.structs.replace(FAST, redial_version_seconds=0.01))
    network.other_version = HERE
    network.dialler.add_listed(HERE)
    await network.until_dialled(3)
    network.other_version, network.answers[HERE] = None, ANT
    await until(lambda: ANT in network.linked)
    await network.dialler.close()


@pytest.mark.parametrize("is_listed", [True, False])
async def test_a_node_whose_link_ended_because_of_a_version_is_dialled_seldom(is_listed: bool) -> None:
    network = Network(msgspec.structs.replace(FAST, redial_version_seconds=1000.0))
    network.answers[HERE], network.book[ANT] = ANT, [HERE]
    if is_listed:
        network.dialler.add_listed(HERE)
    else:
        network.dialler.add_node(ANT)
    await until(lambda: ANT in network.linked)
    network.linked.discard(ANT)
    network.dialler.link_lost(ANT, is_version_refused=True)
    network.dialler.add_listed(THERE)
    await network.until_dialled(10)
    assert [address for address, _ in network.dials].count(HERE) == 1
    await network.dialler.close()


async def test_an_unproven_node_that_is_never_reached_is_dropped(network: Network) -> None:
    network.book[BEE] = [HERE]
    assert network.dialler.add_node(BEE, ANT)
    await until(lambda: network.forgotten == [BEE])
    assert len(network.dials) == FAST.max_unproven_tries


async def test_a_node_that_was_linked_is_dialled_for_ever(network: Network) -> None:
    network.book[BEE] = [HERE]
    network.dialler.add_node(BEE, ANT)
    network.dialler.add_node(BEE)
    await network.until_dialled(FAST.max_unproven_tries + 2)
    assert network.forgotten == []


async def test_unproven_nodes_of_a_peer_and_their_dials_are_limited() -> None:
    settings = msgspec.structs.replace(
        FAST, max_unproven=3, max_unproven_dials=2, max_unproven_dials_of_peer=1
    )
    started: list[str | None] = []
    go_on = asyncio.Event()

    async def attempt(_: Address, expected: str | None) -> str:
        started.append(expected)
        await go_on.wait()
        raise AssertionError("the test ends before")

    dialler = Dialler(attempt, lambda _: [HERE], lambda _: False, OWN, settings, Network())
    assert [dialler.add_node(f"dead{number}", ANT) for number in range(4)] == [True, True, True, False]
    assert dialler.add_node("other", BEE)
    dialler.add_listed(THERE)
    await until(lambda: len(started) == 3)
    assert set(started) == {"dead0", "other", None}
    await dialler.close()


async def test_what_is_reached_and_what_is_not_is_told_for_each_target(network: Network) -> None:
    network.book[BEE] = [HERE, THERE]
    network.answers[THERE] = ANT
    network.dialler.add_listed(THERE)
    network.dialler.add_node(BEE)
    await network.until_dialled(3)
    await until(lambda: len(network.outcomes) > 1)
    assert (THERE, ANT) in network.outcomes
    assert (BEE, "here:1: nobody is there") in network.outcomes
    assert network.delays[0] == FAST.redial_first_seconds


async def test_a_node_of_another_version_is_told_with_the_long_delay() -> None:
    network = Network(msgspec.structs.replace(FAST, redial_version_seconds=1000.0))
    network.other_version = HERE
    network.dialler.add_listed(HERE)
    await until(lambda: network.delays == [1000.0])
    await network.dialler.close()


async def test_a_service_is_dialled_at_all_its_addresses_until_one_answers(network: Network) -> None:
    network.answers[THERE] = BEE
    assert network.dialler.add_service(FoundService("b"), [HERE, THERE])
    await until(lambda: network.outcomes == [(FoundService("b"), BEE)])
    assert network.dials == [(HERE, None), (THERE, None)]
    network.lose(BEE)
    await network.until_dialled(4)


async def test_a_service_is_not_dialled_often_since_anybody_may_announce_one() -> None:
    settings = NetSettings(
        redial_first_seconds=0.001, redial_max_seconds=1000.0, redial_early_max_seconds=0.001
    )
    network = Network(settings)
    network.dialler.add_service(FoundService("b"), [HERE])
    network.dialler.add_listed(THERE)
    await network.until_dialled(60)
    assert network.dials.count((HERE, None)) < network.dials.count((THERE, None)) / 2
    await network.dialler.close()


async def test_a_service_that_moved_is_dialled_at_its_new_address_at_once() -> None:
    network = Network(msgspec.structs.replace(FAST, redial_first_seconds=1000.0, redial_max_seconds=1000.0))
    network.answers[THERE] = BEE
    network.dialler.add_service(FoundService("b"), [HERE])
    await network.until_dialled(1)
    assert network.dialler.add_service(FoundService("b"), [THERE])
    await until(lambda: BEE in network.linked)
    await network.dialler.close()


async def test_a_service_whose_node_is_linked_is_not_dialled(network: Network) -> None:
    network.linked.add(BEE)
    network.dialler.add_service(FoundService("b"), [HERE], BEE)
    network.dialler.add_listed(THERE)
    await network.until_dialled(5)
    assert (HERE, None) not in network.dials


async def test_a_service_that_is_gone_is_not_dialled_any_more(network: Network) -> None:
    network.dialler.add_service(FoundService("b"), [HERE])
    await network.until_dialled(1)
    network.dialler.remove_service(FoundService("b"))
    network.dialler.remove_service(FoundService("b"))
    dials = network.dials.count((HERE, None))
    network.dialler.add_listed(THERE)
    await network.until_dialled(dials + 5)
    assert network.dials.count((HERE, None)) == dials


async def test_services_and_their_dials_are_limited() -> None:
    settings = msgspec.structs.replace(FAST, max_unproven_dials_of_peer=2)
    started: list[Address] = []
    go_on = asyncio.Event()

    async def attempt(address: Address, _: str | None) -> str:
        started.append(address)
        await go_on.wait()
        raise AssertionError("the test ends before")

    dialler = Dialler(attempt, lambda _: [HERE], lambda _: False, OWN, settings, Network())
    added = [dialler.add_service(FoundService(f"{number}"), [HERE]) for number in range(MAX_FOUND + 1)]
    assert added == [True] * MAX_FOUND + [False]
    dialler.add_listed(THERE)
    await until(lambda: THERE in started)
    assert started.count(HERE) == 2
    dialler.remove_service(FoundService("0"))
    assert dialler.add_service(FoundService("new"), [HERE])
    await dialler.close()
